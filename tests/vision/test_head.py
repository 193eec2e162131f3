import pytest
import torch

from fewshot_node.vision.adapters.head import POSITION_DIM, MatchingHead, matching_loss, with_position

T = 0.1


def unit(*vectors):
    return torch.nn.functional.normalize(torch.tensor(vectors, dtype=torch.float32), dim=-1)


def test_matches_in_another_slice_cost_nothing_and_mismatches_much():
    embedded = unit((1, 0), (0, 1), (1, 0), (0, 1))
    slices = torch.tensor([0, 0, 1, 1])
    right = matching_loss(embedded, torch.tensor([1, 0, 1, 0]), slices, T)
    wrong = matching_loss(embedded, torch.tensor([1, 0, 0, 1]), slices, T)
    assert right < 1e-3
    assert wrong == pytest.approx(1 / T, rel=0.01)


def test_the_own_slice_does_not_count_where_another_shows_the_label():
    """Pixels 0 and 1 match perfectly, but in one slice; the other slice's pixel of that label is opposite."""
    embedded = unit((1, 0), (1, 0), (-1, 0), (0, 1), (0, 1))
    loss = matching_loss(embedded, torch.tensor([1, 1, 1, 0, 0]), torch.tensor([0, 0, 1, 0, 1]), T)
    assert loss > 1


def test_a_label_of_one_slice_is_matched_within_it():
    embedded = unit((1, 0), (1, 0), (0, 1), (0, 1))
    loss = matching_loss(embedded, torch.tensor([1, 1, 0, 0]), torch.tensor([0, 0, 0, 1]), T)
    assert loss < 1e-3


def test_the_number_of_pixels_of_a_class_does_not_weigh():
    query = unit((1, 1))
    one, many = unit((1, 0)), unit(*[(0, 1)] * 50)
    embedded = torch.cat([query, one, many])
    classes = torch.tensor([1, 1] + [0] * 50)
    slices = torch.tensor([0] + [1] * 51)
    logits = (embedded[:1] @ embedded[[1, 2]].T / T)[0]
    assert logits[0] == pytest.approx(float(logits[1]))
    assert torch.isfinite(matching_loss(embedded, classes, slices, T))


def test_the_place_runs_from_edge_to_edge():
    placed = with_position(torch.zeros(2, 4, 8, 3))
    assert placed.shape == (2, 4, 8, 3 + POSITION_DIM)
    assert placed[0, 0, :, 3].tolist() == [-0.875, -0.625, -0.375, -0.125, 0.125, 0.375, 0.625, 0.875]
    assert placed[1, :, 0, 4].tolist() == [-0.75, -0.25, 0.25, 0.75]


def test_the_head_gives_unit_vectors_and_starts_near_the_encoders_own_comparison():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(3000, 10, generator=generator)
    head = MatchingHead(10, 32, 10)
    head.start_from(pixels, 0.5, generator)
    embedded = head(head.standardise(pixels[:200]))
    torch.testing.assert_close(embedded.norm(dim=1), torch.ones(200))
    before = torch.nn.functional.normalize(head.standardise(pixels[:200]), dim=1)
    correlation = torch.corrcoef(torch.stack([(before @ before.T).flatten(), (embedded @ embedded.T).flatten()]))[0, 1]
    assert correlation > 0.9


def test_a_place_that_does_not_count_is_not_seen():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(3000, 10, generator=generator)
    head = MatchingHead(10, 32, 10)
    head.start_from(pixels, 0.0, generator)
    moved = pixels[:50].clone()
    moved[:, -POSITION_DIM:] += 1
    torch.testing.assert_close(head(head.standardise(moved)), head(head.standardise(pixels[:50])))
