"""Synthetic anatomies: valid, varied, repeatable, and told apart by label as well as by look."""

import numpy as np
import pytest

from fewshot_node.pretrain.anatomy import MAX_STRUCTURES
from fewshot_node.pretrain.label_maps import LabelMap, random_label_map

SIDE = 128


@pytest.fixture(scope="module")
def maps() -> list[LabelMap]:
    return [random_label_map(np.random.default_rng([3, index]), SIDE) for index in range(16)]


def test_maps_are_nested_in_an_outside(maps: list[LabelMap]) -> None:
    for one in maps:
        assert one.structures.shape == (2, SIDE, SIDE)
        assert one.structures.max() < MAX_STRUCTURES
        assert one.label_of[0] == one.material_of[0] == 0
        used = np.unique(one.structures)
        assert (one.label_of[used[used > 0]] > 0).all()
        assert (one.material_of[used[used > 0]] > 0).all()


def test_maps_hold_six_to_thirty_labels(maps: list[LabelMap]) -> None:
    counts = [len(np.unique(one.labels())) for one in maps]
    assert min(counts) >= 4
    assert max(counts) <= 40
    assert 10 <= np.median(counts) <= 30
    assert len(set(counts)) > 5


def test_most_maps_show_the_body_from_outside(maps: list[LabelMap]) -> None:
    outside = np.array([(one.structures == 0).mean() for one in maps])
    assert (outside > 0.05).mean() > 0.5
    assert outside.max() < 0.95


def test_variants_are_the_same_anatomy_in_another_shape(maps: list[LabelMap]) -> None:
    shared, moved = [], []
    for one in maps:
        first, second = one.labels()
        labels = [set(np.unique(variant)) for variant in (first, second)]
        shared.append(len(labels[0] & labels[1]) / len(labels[0] | labels[1]))
        moved.append((first != second).mean())
    assert np.mean(shared) > 0.85
    assert 0.02 < np.mean(moved) < 0.5


def test_labels_and_materials_differ_on_purpose(maps: list[LabelMap]) -> None:
    """Some structures look alike under two labels, some look different under one."""
    alike_apart = different_together = 0
    for one in maps:
        used = np.unique(one.structures)
        pairs = set(zip(one.label_of[used].tolist(), one.material_of[used].tolist(), strict=True))
        alike_apart += len(pairs) > len({material for _, material in pairs})
        different_together += len(pairs) > len({label for label, _ in pairs})
    assert alike_apart > 3
    assert different_together > 3


def test_a_seed_fixes_the_map() -> None:
    first, again, other = (random_label_map(np.random.default_rng(seed), SIDE) for seed in (5, 5, 6))
    assert np.array_equal(first.structures, again.structures)
    assert np.array_equal(first.label_of, again.label_of)
    assert not np.array_equal(first.structures, other.structures)


def test_wrong_arrays_are_refused() -> None:
    table = np.zeros(MAX_STRUCTURES, np.uint8)
    with pytest.raises(ValueError, match="structures must be uint8"):
        LabelMap(np.zeros((SIDE, SIDE), np.uint8), table, table)
    with pytest.raises(ValueError, match="material_of must be uint8"):
        LabelMap(np.zeros((2, SIDE, SIDE), np.uint8), table, table[:5])
