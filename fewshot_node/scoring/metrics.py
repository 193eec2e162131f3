"""How close a result is to the truth: overlap, presence, landmark distance.

The unit is one volume: counts are pooled over all of its slices, the empty ones too. The rule for empty
masks: a label that neither the prediction nor the truth holds has overlap 1, because leaving out what is not
there is right; a label that only one of them holds has overlap 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewshot_node.errors import GeometryError
from fewshot_node.records import LabelArray


@dataclass(frozen=True, slots=True)
class Overlap:
    """Agreement of one label's prediction with its truth in one volume."""

    label: int
    iou: float
    dice: float
    true_voxels: int
    predicted_voxels: int


@dataclass(frozen=True, slots=True)
class Presence:
    """Whether a label is reported on the slices that hold it, and only there.

    Attributes
    ----------
    true_positive_rate
        Share of the slices with the label on which it is predicted; None when no slice has it.
    true_negative_rate
        Share of the slices without the label on which it is not predicted; None when every slice has it.
    false_positive_slices
        Number of slices on which the label is predicted but absent.
    """

    label: int
    true_positive_rate: float | None
    true_negative_rate: float | None
    false_positive_slices: int


def overlap(prediction: LabelArray, truth: LabelArray, label_values: Sequence[int]) -> tuple[Overlap, ...]:
    """Score each label of one volume, IoU and Dice pooled over all slices.

    Parameters
    ----------
    prediction, truth
        uint8 label maps on the same grid, any number of axes.
    label_values
        Labels to score, in this order.

    Raises
    ------
    GeometryError
        The two lie on different grids.
    """
    _require_one_grid(prediction, truth)
    pairs = truth.astype(np.uint16).ravel() * np.uint16(256) + prediction.ravel()
    joint = np.bincount(pairs, minlength=256 * 256).reshape(256, 256)
    true_voxels, predicted_voxels = joint.sum(axis=1), joint.sum(axis=0)
    return tuple(
        _overlap(value, int(joint[value, value]), int(true_voxels[value]), int(predicted_voxels[value]))
        for value in label_values
    )


def _overlap(label: int, shared: int, true_voxels: int, predicted_voxels: int) -> Overlap:
    total = true_voxels + predicted_voxels
    if total == 0:
        return Overlap(label, 1.0, 1.0, 0, 0)
    return Overlap(label, shared / (total - shared), 2 * shared / total, true_voxels, predicted_voxels)


def presence(prediction: LabelArray, truth: LabelArray, label_values: Sequence[int]) -> tuple[Presence, ...]:
    """Score on which slices each label is reported; arrays are (slices, rows, columns).

    Raises
    ------
    GeometryError
        The two lie on different grids.
    """
    _require_one_grid(prediction, truth)
    return tuple(
        _presence(value, (prediction == value).any(axis=(1, 2)), (truth == value).any(axis=(1, 2)))
        for value in label_values
    )


def _presence(label: int, predicted: NDArray[np.bool_], true: NDArray[np.bool_]) -> Presence:
    with_label, without = int(true.sum()), int((~true).sum())
    false_positives = int((predicted & ~true).sum())
    return Presence(
        label=label,
        true_positive_rate=int((predicted & true).sum()) / with_label if with_label else None,
        true_negative_rate=1 - false_positives / without if without else None,
        false_positive_slices=false_positives,
    )


def distance_mm(first_mm: Sequence[float], second_mm: Sequence[float]) -> float:
    """Euclidean distance between two LPS positions, in mm."""
    return float(np.linalg.norm(np.subtract(first_mm, second_mm)))


def _require_one_grid(prediction: LabelArray, truth: LabelArray) -> None:
    if prediction.shape != truth.shape:
        raise GeometryError(
            f"prediction {prediction.shape} and truth {truth.shape} lie on different grids: "
            "bring the labels onto the grid of the series before scoring"
        )
