import numpy as np
import torch

from fewshot_node.vision.adapters.references import References, choose_references, medoids, template_likeness
from fewshot_node.vision.adapters.sampling import draw, draw_pairs, pixel_pools


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


def test_the_share_of_labelled_pixels_can_be_given():
    pools = pixel_pools(classes(), 2)
    drawn = classes().ravel()[draw(pools, 600, torch.Generator().manual_seed(1), 0.5).numpy()]
    assert (drawn == 1).sum() == (drawn == 2).sum() == 150


def test_pairs_are_half_of_one_label_and_negatives_come_from_everywhere():
    pools = pixel_pools(classes(), 2)
    flat = classes().ravel()
    references, targets, shared = draw_pairs(pools, 800, torch.Generator().manual_seed(1))
    assert len(references) == len(targets) == len(shared) == 800
    of_references, of_targets = flat[references.numpy()], flat[targets.numpy()]
    shared = shared.numpy()
    for label, other in ((1, 2), (2, 1)):
        mine = of_references == label
        assert mine.sum() == 400
        assert (shared[mine] == label).sum() == 200
        assert (of_targets[mine & (shared == label)] == label).all()
        assert (of_targets[mine & (shared == 0)] != label).all()
        assert (of_targets[mine & (shared == 0)] == other).sum() == 50
    near = np.isin(targets.numpy(), np.concatenate(pools.ring))
    assert near[shared == 0].sum() == 200
    assert (targets.numpy()[shared == 0] >= 2 * 900).any()


def test_pairs_repeat_and_their_two_halves_are_not_tied_to_one_slice():
    pools = pixel_pools(classes(), 2)
    first, second = (draw_pairs(pools, 800, torch.Generator().manual_seed(5)) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)
    references, targets, shared = first
    both = shared == 1
    assert 0.3 < (references[both] // 900 == targets[both] // 900).float().mean() < 0.7


def test_a_label_without_a_pixel_has_no_pair_and_one_without_negatives_only_positive_ones():
    absent = draw_pairs(pixel_pools(classes()[1:2], 2), 100, torch.Generator().manual_seed(0))
    assert set(absent[2].tolist()) == {0, 1}
    whole = draw_pairs(pixel_pools(np.ones((1, 4, 4), dtype=np.int64), 1), 100, torch.Generator().manual_seed(0))
    assert whole[2].tolist() == [1] * 50
    assert len(whole[0]) == len(whole[1]) == 50


def test_what_is_kept_of_a_reference_is_the_row_that_was_chosen():
    embedded = torch.eye(6)
    kept = torch.arange(6.0)[:, None] * 10
    groups = [(1, 4, np.array([3, 5])), (2, 7, np.array([0]))]
    references = choose_references(embedded, kept, groups, [0, 4, 4], seed=0)
    by_slice = {(int(c), int(s)) for c, s in zip(references.classes, references.slices, strict=True)}
    assert by_slice == {(1, 4), (2, 7)}
    assert sorted(references.vectors[:, 0].tolist()) == [0.0, 30.0, 50.0]


def test_references_count_alike_in_a_slice_and_slices_by_their_likeness():
    references = References(torch.zeros(4, 1), torch.tensor([1, 1, 1, 2]), torch.tensor([0, 0, 1, 1]))
    weights = references.weights(torch.tensor([1.0, 3.0]).log(), 3)
    torch.testing.assert_close(weights[:, 1], torch.tensor([0.125, 0.125, 0.75, 0.0]))
    torch.testing.assert_close(weights[:, 2], torch.tensor([0.0, 0.0, 0.0, 1.0]))
    assert not weights[:, 0].any()
    without = references.weights(torch.tensor([0.0, -torch.inf]), 3)
    torch.testing.assert_close(without[:, 1], torch.tensor([0.5, 0.5, 0.0, 0.0]))
    assert not without[:, 2].any()


def test_without_retrieval_all_templates_are_alike():
    descriptors = torch.eye(2)
    assert template_likeness(descriptors, descriptors[0], 0.0).tolist() == [0.0, 0.0]
    likeness = template_likeness(descriptors, descriptors[0], 1.0)
    assert likeness[0] > likeness[1]


def test_medoids_reach_every_cluster():
    rng = np.random.default_rng(3)
    centres = np.eye(5, 8)
    vectors = np.repeat(centres, 40, axis=0) + 0.02 * rng.normal(size=(200, 8))
    vectors = torch.from_numpy(vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).float()
    chosen = vectors[medoids(vectors, 5, np.random.default_rng(0))]
    assert len(chosen) <= 5
    reached = (chosen @ torch.from_numpy(centres).float().T).max(dim=0).values
    assert (reached > 0.9).sum() >= 4


def test_fewer_vectors_than_medoids_are_all_kept():
    vectors = torch.eye(3)
    assert sorted(medoids(vectors, 10, np.random.default_rng(0)).tolist()) == [0, 1, 2]


def test_identical_vectors_give_one_medoid():
    vectors = torch.ones(50, 4) / 2
    assert len(medoids(vectors, 6, np.random.default_rng(0))) == 1
