import numpy as np
import pytest
from numpy.typing import NDArray

from fewshot_node.errors import TemplateError
from fewshot_node.tasks.selection import (
    TemplateSelection,
    choose_negative_slices,
    choose_point_slices,
    choose_slices,
)


def stack(count: int, **ranges: tuple[int, int]) -> NDArray[np.uint8]:
    """Labels v1=(first, end) ... as squares, largest in the middle of their range."""
    labels = np.zeros((count, 40, 40), dtype=np.uint8)
    for name, (first, end) in ranges.items():
        value = int(name[1:])
        for index in range(first, end):
            size = 1 + min(index - first, end - 1 - index)
            labels[index, 10 * (value - 1) : 10 * (value - 1) + min(size, 9), :size] = value
    return labels


def shown(labels: NDArray[np.uint8], chosen: tuple[int, ...]) -> set[int]:
    return set(np.unique(labels[list(chosen)]).tolist()) - {0}


def test_annotated_slices_spread_over_the_organ_and_negatives_over_the_rest() -> None:
    labels = stack(100, v1=(30, 70))
    chosen = choose_slices(labels, TemplateSelection())
    annotated = [index for index in chosen if 30 <= index < 70]
    negative = [index for index in chosen if not 30 <= index < 70]
    assert len(annotated) == 5
    assert len(negative) == 3
    assert min(annotated) < 42
    assert max(annotated) > 58
    distances = sorted(min(abs(index - 30), abs(index - 69)) for index in negative)
    assert distances[0] <= 4
    assert distances[-1] >= 25


def test_every_label_is_shown_even_where_that_takes_more_slices() -> None:
    labels = stack(60, v1=(2, 8), v2=(20, 24), v3=(50, 58), v4=(30, 31))
    for wanted in (1, 2, 4, 6):
        chosen = choose_slices(labels, TemplateSelection(annotated=wanted, negatives=0))
        assert shown(labels, chosen) == {1, 2, 3, 4}
        assert len(chosen) == max(4, wanted)


def test_fewer_labelled_slices_than_wanted_are_all_taken() -> None:
    assert choose_slices(stack(9, v1=(3, 6)), TemplateSelection(negatives=0)) == (3, 4, 5)


def test_sparse_annotation_gives_no_negatives() -> None:
    """Five drawn slices of a liver: the slices between them hold liver too."""
    labels = np.zeros((60, 8, 8), dtype=np.uint8)
    labels[[10, 18, 26, 34, 42], 2:6, 2:6] = 1
    assert choose_slices(labels, TemplateSelection()) == (10, 18, 26, 34, 42)
    labels[[10, 18, 26, 34]] = 0
    assert choose_slices(labels, TemplateSelection()) == (42,)


def test_negatives_keep_away_from_the_organ() -> None:
    labels = stack(12, v1=(4, 9))
    chosen = choose_slices(labels, TemplateSelection(annotated=1, negatives=9))
    assert set(chosen) & {2, 3, 9, 10} == set()
    assert {0, 1, 11} <= set(chosen)


def test_choice_is_deterministic() -> None:
    labels = stack(80, v1=(10, 60), v2=(40, 70))
    assert choose_slices(labels, TemplateSelection()) == choose_slices(labels.copy(), TemplateSelection())


def test_explicit_slices_are_taken_as_they_are() -> None:
    labels = stack(30, v1=(10, 20))
    assert choose_slices(labels, TemplateSelection(indices=(25, 12, 12))) == (12, 25)


@pytest.mark.parametrize(
    ("indices", "says"),
    [((3, 30), r"\[30\].*0 to 29"), ((-1, 12), r"\[-1\]"), ((2, 25), "lie on slices 10 to 19")],
)
def test_wrong_explicit_slices_are_refused(indices: tuple[int, ...], says: str) -> None:
    with pytest.raises(TemplateError, match=says):
        choose_slices(stack(30, v1=(10, 20)), TemplateSelection(indices=indices))


def test_points_keep_their_slices_and_get_negatives() -> None:
    chosen = choose_point_slices([4, 4, 11], 20, TemplateSelection())
    assert {4, 11} <= set(chosen)
    assert len(chosen) == 5
    assert all(min(abs(index - 4), abs(index - 11)) > 2 for index in set(chosen) - {4, 11})


def test_one_slice_volume_has_no_negatives() -> None:
    assert choose_point_slices([0], 1, TemplateSelection()) == (0,)


@pytest.mark.parametrize("values", [{"annotated": 0}, {"negatives": -1}])
def test_impossible_selection_is_refused(values: dict[str, int]) -> None:
    with pytest.raises(TemplateError):
        TemplateSelection(**values)


def test_slices_that_differ_are_chosen_after_those_that_cover_every_label() -> None:
    """Two kinds of slices: farthest-point takes one of each before a second of either."""
    labels = np.zeros((40, 8, 8), dtype=np.uint8)
    labels[10:30, 2:6, 2:6] = 1
    asked: list[int] = []

    def describe(indices: NDArray[np.intp]) -> NDArray[np.floating]:
        asked.extend(indices.tolist())
        return np.array([[float(index >= 27), 0.001 * (index == 15)] for index in indices])

    covering = choose_slices(labels, TemplateSelection(annotated=1, negatives=0), describe)
    assert not asked  # nothing is left to choose
    two = choose_slices(labels, TemplateSelection(annotated=2, negatives=0), describe)
    assert set(covering) < set(two)
    assert max(two) >= 27
    three = choose_slices(labels, TemplateSelection(annotated=3, negatives=0), describe)
    assert set(two) | {15} == set(three)
    assert set(asked) == set(range(10, 30))


def test_slivers_and_all_of_a_long_series_are_not_shown_to_the_encoder() -> None:
    labels = stack(400, v1=(20, 380))
    labels[20:24, :1, :2] = 1
    asked: list[int] = []

    def describe(indices: NDArray[np.intp]) -> NDArray[np.floating]:
        asked.extend(indices.tolist())
        return np.random.default_rng(0).normal(size=(len(indices), 3))

    chosen = choose_slices(labels, TemplateSelection(annotated=5, negatives=0), describe)
    assert len(chosen) == 5
    assert len(asked) <= 65
    assert set(asked).isdisjoint(range(20, 24))


@pytest.mark.parametrize(("count", "wanted", "expected"), [(10, 3, (1, 5, 8)), (2, 3, (0, 1)), (1, 1, (0,))])
def test_negative_series_is_sampled_evenly(count: int, wanted: int, expected: tuple[int, ...]) -> None:
    assert choose_negative_slices(count, wanted) == expected
