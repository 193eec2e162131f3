"""Losses against values worked out by hand, and sampling balanced over labels."""

import math

import pytest
import torch

from fewshot_node.pretrain.contrastive import (
    correspondence,
    features_at,
    sample_balanced,
    supervised_contrastive,
)


def test_aligned_features_cost_less_than_shuffled() -> None:
    torch.manual_seed(0)
    labels = torch.randint(0, 5, (3, 60))
    centres = torch.nn.functional.normalize(torch.randn(5, 16), dim=-1)
    features = torch.nn.functional.normalize(centres[labels] + 0.1 * torch.randn(3, 60, 16), dim=-1)
    aligned = supervised_contrastive(features, labels)
    shuffled = supervised_contrastive(features[:, torch.randperm(60)], labels)
    assert aligned < 0.6 * shuffled


def test_supervised_contrastive_by_hand() -> None:
    """Two points alike, one orthogonal, temperature 1: -log(e / (e + 1)) for the two that have a match."""
    features = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]])
    loss = supervised_contrastive(features, torch.tensor([[4, 4, 7]]), temperature=1.0)
    assert float(loss) == pytest.approx(math.log(1 + math.exp(-1)), rel=1e-5)


def test_pairs_are_never_mixed() -> None:
    """What one pair's points are does not change another pair's loss."""
    torch.manual_seed(1)
    features = torch.nn.functional.normalize(torch.randn(2, 20, 8), dim=-1)
    labels = torch.randint(0, 3, (2, 20))
    alone = [supervised_contrastive(features[i : i + 1], labels[i : i + 1]) for i in (0, 1)]
    assert float(supervised_contrastive(features, labels)) == pytest.approx(float(sum(alone)) / 2, rel=1e-5)


def test_correspondence_by_hand() -> None:
    """One-hot features at temperature 1: -log(e / (e + others)), the near and the unseen ones not counted."""
    features = torch.eye(4)[None]
    places = torch.tensor([[[0.0, 0.0], [100.0, 0.0], [0.0, 100.0], [0.0, 101.0]]])
    everywhere = torch.ones(1, 4, dtype=torch.bool)
    one, two, three = (math.log(1 + others * math.exp(-1)) for others in (1, 2, 3))
    near = correspondence(features, features, everywhere, places, temperature=1.0)
    assert float(near) == pytest.approx((2 * three + 2 * two) / 4, rel=1e-5)
    unseen = correspondence(features, features, everywhere.clone().logical_and(places[..., 0] == 0), places, 16, 1.0)
    assert float(unseen) == pytest.approx((one * 2 + two) / 3, rel=1e-5)


def test_correspondence_without_any_visible_place_is_zero() -> None:
    features = torch.eye(3)[None]
    assert float(correspondence(features, features, torch.zeros(1, 3, dtype=torch.bool), torch.rand(1, 3, 2))) == 0


def test_sampling_is_balanced_over_labels() -> None:
    labels = torch.zeros(2, 64, 48, dtype=torch.int64)
    labels[0, 10:12, 20:23] = 1
    labels[1, :, 40:] = 5
    points = sample_balanced(labels, 2000, torch.Generator().manual_seed(0))
    assert points.shape == (2, 2000, 2)
    drawn = labels[torch.arange(2)[:, None], points[..., 1], points[..., 0]]
    assert 0.45 < (drawn[0] == 1).float().mean() < 0.55
    assert 0.45 < (drawn[1] == 5).float().mean() < 0.55
    assert points[..., 0].max() < 48


def test_features_are_read_where_the_image_shows_the_point() -> None:
    """A stride-4 map of cell centres, read at a pixel, gives that pixel (in the map's interior)."""
    centres = torch.arange(16) * 4 + 1.5
    grid = torch.stack([centres[None, :].expand(16, 16), centres[:, None].expand(16, 16), torch.full((16, 16), 50.0)])
    read = features_at(grid[None], torch.tensor([[[10, 33], [51, 20]]]), 64)[0]
    assert torch.allclose(read[:, :2] / read[:, 2:] * 50, torch.tensor([[10.0, 33.0], [51.0, 20.0]]), atol=1e-3)
