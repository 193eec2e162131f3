"""Scores against figures worked out by hand, and MONAI's surfaces against another library's."""

import numpy as np
import pytest
from scipy import ndimage

from fewshot_node.evaluation.suites import CaseData
from fewshot_node.records import Code, Label, Landmark
from fewshot_node.scoring.answers import Prediction
from fewshot_node.scoring.scores import score_landmarks, score_masks

CODE = Code("1", "99X", "thing")
LABELS = (Label(1, "one", CODE, CODE), Label(2, "two", CODE, CODE))


def data(label_map: np.ndarray, spacing: tuple[float, float, float] | None = None) -> CaseData:
    return CaseData(label_map.astype(np.float32), label_map, {}, spacing)


def masks(prediction: np.ndarray, truth: np.ndarray, spacing=None) -> dict[tuple[str, str], float]:
    found = score_masks(Prediction(prediction), data(truth, spacing), LABELS)
    return {(one.label, one.metric): one.value for one in found}


def square(top: int, left: int, side: int, slices: int = 1) -> np.ndarray:
    label_map = np.zeros((slices, 40, 40), dtype=np.uint8)
    label_map[:, top : top + side, left : left + side] = 1
    return label_map


def test_overlap_and_surfaces_of_a_shifted_square() -> None:
    scores = masks(square(10, 13, 10), square(10, 10, 10))
    assert scores["one", "iou"] == pytest.approx(70 / 130)
    assert scores["one", "dice"] == pytest.approx(0.7)
    assert scores["one", "hd95"] == pytest.approx(3.0)
    # Two of four sides lie 3 px away, beyond the tolerance of 2, the others slide along themselves.
    assert 0.4 < scores["one", "nsd"] < 0.8
    assert ("two", "iou") not in scores


def test_surface_distance_is_in_mm() -> None:
    scores = masks(square(10, 13, 10, 5), square(10, 10, 10, 5), (4.0, 1.0, 2.0))
    truth, found = (square(10, left, 10, 5) > 0 for left in (10, 13))
    assert scores["one", "hd95"] == pytest.approx(_hd95(found, truth, (4.0, 1.0, 2.0)))


def _hd95(first: np.ndarray, second: np.ndarray, spacing: tuple[float, float, float]) -> float:
    """Worked out from distance maps of the surfaces, without MONAI."""
    edges = [mask & ~ndimage.binary_erosion(mask) for mask in (first, second)]
    away = [ndimage.distance_transform_edt(~edge, sampling=spacing) for edge in edges]
    return float(max(np.percentile(away[1][edges[0]], 95), np.percentile(away[0][edges[1]], 95)))


def test_a_label_that_nobody_drew_has_no_overlap_but_presence() -> None:
    scores = masks(square(1, 1, 3), np.zeros((1, 40, 40), dtype=np.uint8))
    assert scores == {
        ("one", "tnr"): 0.0,
        ("two", "tnr"): 1.0,
        ("one", "fp_slices"): 1.0,
        ("two", "fp_slices"): 0.0,
    }


def test_a_missed_label_scores_zero_and_has_no_distance() -> None:
    scores = masks(np.zeros((1, 40, 40), dtype=np.uint8), square(1, 1, 3))
    assert (scores["one", "iou"], scores["one", "nsd"], scores["one", "tpr"]) == (0.0, 0.0, 0.0)
    assert ("one", "hd95") not in scores


def test_landmarks_are_counted_on_the_grid_of_448_pixels() -> None:
    truth = CaseData(
        np.zeros((1, 896, 448), np.float32), np.zeros((1, 896, 448), np.uint8), {1: (0, 100, 50), 2: (0, 9, 9)}, None
    )
    # 18 px of 896 are 9 of 448: found. The second is absent: wrong, and without a distance.
    answer = (Landmark(1, (0.0, 118.0, 50.0), 0.9), Landmark(2, None, 0.1))
    found = score_landmarks(Prediction(truth.label_map, landmarks=answer), truth, LABELS)
    assert {(one.label, one.metric): one.value for one in found} == {
        ("one", "accuracy@10px"): 1.0,
        ("one", "missed"): 0.0,
        ("one", "mre"): 18.0,
        ("two", "accuracy@10px"): 0.0,
        ("two", "missed"): 1.0,
    }


def test_landmarks_of_volumes_are_measured_in_mm_across_slices() -> None:
    none = np.zeros((9, 112, 112), np.uint8)
    truth = CaseData(none.astype(np.float32), none, {1: (4, 50, 60), 2: (0, 5, 5)}, (2.0, 0.5, 0.5))
    # One slice and 3 columns away: sqrt(2^2 + 1.5^2) = 2.5 mm, 5 px, which are 20 on the grid of 448.
    answer = (Landmark(1, (5.0, 50.0, 63.0), 0.9), Landmark(2, (0.0, 5.0, 6.0), 0.9))
    found = {
        (one.label, one.metric): one.value for one in score_landmarks(Prediction(none, landmarks=answer), truth, LABELS)
    }
    assert found["one", "mre"] == pytest.approx(2.5)
    assert [found["one", f"success@{limit}mm"] for limit in ("2", "2.5", "3", "4")] == [0, 1, 1, 1]
    assert (found["one", "accuracy@10px"], found["two", "accuracy@10px"]) == (0.0, 1.0)
