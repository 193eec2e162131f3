"""One prediction against the truth: every score of the method, a number each."""

import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.surface_dice import compute_surface_dice
from numpy.typing import NDArray
from scipy import ndimage

from fewshot_node.records import Label
from fewshot_node.scoring.answers import Prediction, Truth
from fewshot_node.scoring.metrics import overlap, presence

NSD_TOLERANCE = 2.0
"""Surface distance that counts as agreement: mm, or pixels where the image has no spacing."""
ACCURACY_SIDE_PX = 448
ACCURACY_LIMIT_PX = 10.0
"""A landmark counts as found within this distance on the image scaled to that long side (paper, Eq. 11)."""
SUCCESS_MM = (2.0, 2.5, 3.0, 4.0)
"""Distances at which landmark success is counted where the image has a spacing (method.md, Scoring)."""
_NO_SPACING = (1.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Score:
    """One number about one label of one case.

    `metric` is ``iou dice nsd hd95 tnr tpr accuracy@10px mre``, and beside these ``fp_slices``, ``missed`` and
    ``success@2mm`` and so on; ``mre`` is in mm, or in pixels where the image has no spacing.
    """

    label: str
    metric: str
    value: float


def score_masks(prediction: Prediction, data: Truth, labels: tuple[Label, ...]) -> Iterator[Score]:
    """Score a label map: overlap and surfaces of the labels that the truth holds, presence slice by slice.

    A label that the truth does not hold has no overlap to speak of; what is drawn there shows in ``tnr``.

    Yields
    ------
    Score
        Of each label that the truth holds ``iou``, ``dice``, ``nsd`` and, where something was found, ``hd95`` (mm, or
        pixels where the image has no spacing); of every label ``fp_slices``, and ``tnr`` and ``tpr`` where defined.

    Raises
    ------
    GeometryError
        Prediction and truth lie on different grids.
    """
    values = tuple(label.value for label in labels)
    names = {label.value: label.name for label in labels}
    for one in overlap(prediction.label_map, data.label_map, values):
        if not one.true_voxels:
            continue
        yield Score(names[one.label], "iou", one.iou)
        yield Score(names[one.label], "dice", one.dice)
        found, true = prediction.label_map == one.label, data.label_map == one.label
        surfaces = _surfaces(found, true, data.spacing_mm or _NO_SPACING)
        for metric, value in surfaces.items():
            yield Score(names[one.label], metric, value)
    for seen in presence(prediction.label_map, data.label_map, values):
        if seen.true_negative_rate is not None:
            yield Score(names[seen.label], "tnr", seen.true_negative_rate)
        if seen.true_positive_rate is not None:
            yield Score(names[seen.label], "tpr", seen.true_positive_rate)
        yield Score(names[seen.label], "fp_slices", float(seen.false_positive_slices))


def score_landmarks(prediction: Prediction, data: Truth, labels: tuple[Label, ...]) -> Iterator[Score]:
    """Score the landmarks that the truth holds; a missed one counts as wrong and has no distance.

    Yields
    ------
    Score
        Of each such landmark ``accuracy@10px`` (paper, Eq. 11), ``missed``, where the image has a spacing
        ``success@2mm`` and so on, and where it was found ``mre`` (mm, or pixels where the image has no spacing).
    """
    places = {one.label_value: one.index for one in prediction.landmarks}
    for label in labels:
        true = data.points.get(label.value)
        if true is None:
            continue
        place = places.get(label.value)
        for metric, value in _reached(place, true, data).items():
            yield Score(label.name, metric, value)


def _reached(
    place: tuple[float, float, float] | None, true: tuple[float, float, float], data: Truth
) -> Mapping[str, float]:
    """Return the scores of one landmark; distances run across slices too, in pixels of the rows' size."""
    spacing = np.array(data.spacing_mm or _NO_SPACING)
    limits = SUCCESS_MM if data.spacing_mm else ()
    distance = math.inf if place is None else float(np.linalg.norm(np.subtract(place, true) * spacing))
    scaled_px = distance / spacing[1] * ACCURACY_SIDE_PX / max(data.label_map.shape[1:])
    found = {"accuracy@10px": float(scaled_px <= ACCURACY_LIMIT_PX), "missed": float(place is None)}
    found |= {f"success@{limit:g}mm": float(distance <= limit) for limit in limits}
    return found if place is None else found | {"mre": distance}


def _surfaces(
    found: NDArray[np.bool_], true: NDArray[np.bool_], spacing_mm: tuple[float, float, float]
) -> Mapping[str, float]:
    """Return NSD and HD95 of two masks, the second not empty; without a prediction NSD is 0 and HD95 unknown."""
    if not found.any():
        return {"nsd": 0.0}
    box = ndimage.find_objects((found | true).astype(np.uint8))[0]
    # A margin keeps the surface inside the box; a single slice is scored in its plane.
    pair = [np.pad(mask[box], 1) if len(mask) > 1 else np.pad(mask[0][box[1:]], 1) for mask in (found, true)]
    spacing = list(spacing_mm if len(true) > 1 else spacing_mm[1:])
    first, second = (torch.from_numpy(mask)[None, None].float() for mask in pair)
    with warnings.catch_warnings():
        # MONAI 1.6 warns of an argument that it gives to itself.
        warnings.simplefilter("ignore", FutureWarning)
        nsd = compute_surface_dice(first, second, [NSD_TOLERANCE], include_background=True, spacing=spacing)
        hd95 = compute_hausdorff_distance(first, second, include_background=True, percentile=95, spacing=spacing)
    return {"nsd": float(nsd), "hd95": float(hd95)}
