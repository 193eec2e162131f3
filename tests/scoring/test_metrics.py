"""Metrics against values worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fewshot_node.errors import GeometryError
from fewshot_node.scoring.metrics import distance_mm, overlap, presence

TRUTH = np.zeros((3, 4, 4), np.uint8)
TRUTH[0, 0, :4] = 1
TRUTH[1, 1, :2] = 2
PREDICTION = np.zeros((3, 4, 4), np.uint8)
PREDICTION[0, 0, 1:4] = 1
PREDICTION[2, 0, 0] = 1
PREDICTION[1, 1, :2] = 2

MASKS = arrays(np.uint8, (2, 3, 3), elements=st.sampled_from([0, 1, 255]))


def test_overlap_is_pooled_over_all_slices() -> None:
    first, second = overlap(PREDICTION, TRUTH, (1, 2))
    assert (first.label, first.true_voxels, first.predicted_voxels) == (1, 4, 4)
    assert first.iou == pytest.approx(3 / 5)  # 3 shared, 1 missed, 1 on an empty slice
    assert first.dice == pytest.approx(6 / 8)
    assert (second.iou, second.dice) == (1.0, 1.0)


def test_rule_for_empty_masks() -> None:
    nothing, something = np.zeros((2, 2), np.uint8), np.full((2, 2), 9, np.uint8)
    (both_empty,) = overlap(nothing, nothing, (9,))
    (only_true,) = overlap(nothing, something, (9,))
    (only_predicted,) = overlap(something, nothing, (9,))
    assert (both_empty.iou, both_empty.dice, both_empty.true_voxels) == (1.0, 1.0, 0)
    assert (only_true.iou, only_true.dice) == (0.0, 0.0)
    assert (only_predicted.iou, only_predicted.dice) == (0.0, 0.0)


def test_labels_are_scored_in_the_order_asked_and_confusions_count_against_both() -> None:
    prediction, truth = np.array([[1, 1, 2]], np.uint8), np.array([[2, 1, 2]], np.uint8)
    scores = overlap(prediction, truth, (2, 1))
    assert [score.label for score in scores] == [2, 1]
    assert [score.iou for score in scores] == [pytest.approx(1 / 2), pytest.approx(1 / 2)]


@given(MASKS, MASKS)
def test_overlap_agrees_with_sets(prediction: np.ndarray, truth: np.ndarray) -> None:
    for score in overlap(prediction, truth, (1, 255)):
        found, true = (set(np.flatnonzero(mask == score.label)) for mask in (prediction, truth))
        assert score.true_voxels == len(true)
        assert score.predicted_voxels == len(found)
        if found | true:
            assert score.iou == pytest.approx(len(found & true) / len(found | true))
            assert score.dice == pytest.approx(2 * score.iou / (1 + score.iou))


def test_presence_counts_slices() -> None:
    first, second = presence(PREDICTION, TRUTH, (1, 2))
    assert (first.true_positive_rate, first.true_negative_rate, first.false_positive_slices) == (1.0, 0.5, 1)
    assert (second.true_positive_rate, second.true_negative_rate, second.false_positive_slices) == (1.0, 1.0, 0)


def test_presence_without_a_denominator_is_none() -> None:
    everywhere, nowhere = np.ones((2, 1, 1), np.uint8), np.zeros((2, 1, 1), np.uint8)
    (full,) = presence(nowhere, everywhere, (1,))
    (empty,) = presence(everywhere, nowhere, (1,))
    assert (full.true_positive_rate, full.true_negative_rate) == (0.0, None)
    assert (empty.true_positive_rate, empty.true_negative_rate) == (None, 0.0)
    assert empty.false_positive_slices == 2


@pytest.mark.parametrize("score", [overlap, presence])
def test_masks_on_other_grids_are_refused(score) -> None:
    with pytest.raises(GeometryError, match="onto the grid of the series"):
        score(TRUTH[:2], TRUTH, (1,))


def test_distance() -> None:
    assert distance_mm((0, 0, 0), (1, 2, 2)) == pytest.approx(3)
    assert distance_mm((-5.5, 1, 2), (-5.5, 1, 2)) == 0
