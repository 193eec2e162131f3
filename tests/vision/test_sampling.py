import numpy as np
import torch

from fewshot_node.vision.adapters.references import medoids
from fewshot_node.vision.adapters.sampling import draw, pixel_pools


def classes():
    label_map = np.zeros((3, 30, 30), dtype=np.int64)
    label_map[0, 10:14, 10:14] = 1
    label_map[0, 20:22, 20:22] = 2
    label_map[1, 5:25, 5:25] = 1
    return label_map


def test_pools_split_the_slices_without_rest():
    pools = pixel_pools(classes(), 2)
    parts = [*pools.foreground[0], *pools.foreground[1], *pools.ring, *pools.elsewhere]
    together = np.sort(np.concatenate(parts))
    np.testing.assert_array_equal(together, np.arange(3 * 30 * 30))


def test_the_ring_lies_within_fifteen_pixels_of_a_label():
    pools = pixel_pools(classes(), 2)
    slices, rows, columns = np.unravel_index(np.concatenate(pools.ring), (3, 30, 30))
    assert set(slices) == {0, 1}
    assert not ((rows == 12) & (columns == 18) & (slices == 0)).any()
    assert ((rows == 12) & (columns == 16) & (slices == 0)).any()


def test_a_draw_is_a_third_labelled_every_label_alike_and_repeats():
    pools = pixel_pools(classes(), 2)
    flat = classes().ravel()
    chosen = draw(pools, 600, torch.Generator().manual_seed(1))
    np.testing.assert_array_equal(chosen, draw(pools, 600, torch.Generator().manual_seed(1)))
    assert len(chosen) == 600
    drawn = flat[chosen.numpy()]
    assert (drawn == 1).sum() == (drawn == 2).sum() == 100
    ring = np.isin(chosen.numpy(), np.concatenate(pools.ring)).sum()
    assert ring == 100


def test_negative_slices_are_drawn_from():
    pools = pixel_pools(classes(), 2)
    chosen = draw(pools, 600, torch.Generator().manual_seed(2)).numpy()
    assert (chosen >= 2 * 900).sum() > 20


def test_a_slice_that_is_all_label_leaves_no_background_and_does_not_fail():
    pools = pixel_pools(np.ones((1, 4, 4), dtype=np.int64), 1)
    chosen = draw(pools, 20, torch.Generator().manual_seed(0))
    assert len(chosen) == 7


def test_medoids_are_real_vectors_and_reach_every_cluster():
    rng = np.random.default_rng(3)
    centres = np.eye(5, 8)
    vectors = np.repeat(centres, 40, axis=0) + 0.02 * rng.normal(size=(200, 8))
    vectors = torch.from_numpy(vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).float()
    chosen = medoids(vectors, 5, np.random.default_rng(0))
    assert len(chosen) <= 5
    assert (chosen[:, None] == vectors[None]).all(dim=-1).any(dim=1).all()
    reached = (chosen @ torch.from_numpy(centres).float().T).max(dim=0).values
    assert (reached > 0.9).sum() >= 4


def test_fewer_vectors_than_medoids_are_all_kept():
    vectors = torch.eye(3)
    assert torch.equal(medoids(vectors, 10, np.random.default_rng(0)).sort(dim=0).values, vectors.sort(dim=0).values)


def test_identical_vectors_give_one_medoid():
    vectors = torch.ones(50, 4) / 2
    assert len(medoids(vectors, 6, np.random.default_rng(0))) == 1
