"""Landmarks: discs to learn from, and sub-pixel peaks of the score map."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

from fewshot_node.errors import TaskError
from fewshot_node.records import FeatureMap, LabelArray, Landmark, Localization
from fewshot_node.vision.adapters.arrangement import foretold_places, nearness
from fewshot_node.vision.adapters.calibration import margin, presence
from fewshot_node.vision.adapters.context import ContextAdapter
from fewshot_node.vision.adapters.support import Adapter
from fewshot_node.vision.localize import smooth_over_slices

DISC_SHARE = 0.02
"""Default radius of a disc as a share of the image's long side."""

# Where a figure foretells a landmark, log shares below it are all alike: the foretold place decides.
_LEAST_LOG_SHARE = math.log(1e-4)


@dataclass(frozen=True, slots=True)
class LandmarkSettings:
    """How peaks are found.

    Attributes
    ----------
    min_confidence
        Below it a landmark is absent; 0.5 is the threshold that was calibrated on the templates.
    reach_cells
        Radius, in cells of the feature grid, of the neighbourhood whose centroid is the landmark.
    smoothing_mm
        As `CleaningSettings.smoothing_mm`.
    as_figure
        A landmark is sought near where a template's landmarks, fitted as one figure to what all of them show, foretell
        it (`adapters.arrangement`). Only the adapter `context`, with all labels in one head, keeps those figures.
    """

    min_confidence: float = 0.5
    reach_cells: float = 3.0
    smoothing_mm: float = 1.0
    as_figure: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.min_confidence <= 1 or self.reach_cells <= 0:
            raise TaskError("landmarks: min_confidence must lie within 0..1, reach_cells above 0")
        if self.smoothing_mm < 0:
            raise TaskError("landmarks: smoothing_mm must not be below 0")


def disc_labels(
    points_rc: Mapping[int, tuple[float, float]], image_shape: tuple[int, int], radius_px: float | None = None
) -> LabelArray:
    """Draw a disc around each point of one slice: uint8 (rows, columns).

    Parameters
    ----------
    points_rc
        Label value -> (row, column), fractional indices of pixel centres. Where discs meet, the nearer
        point wins.
    radius_px
        Default: `DISC_SHARE` of the long side. The pixel under a point is always drawn.
    """
    radius = DISC_SHARE * max(image_shape) if radius_px is None else radius_px
    labels = np.zeros(image_shape, dtype=np.uint8)
    nearest = np.full(image_shape, np.inf)
    rows, columns = np.ogrid[: image_shape[0], : image_shape[1]]
    for value, (row, column) in points_rc.items():
        distance = np.hypot(rows - row, columns - column)
        inside = (distance <= max(radius, math.sqrt(0.5))) & (distance < nearest)
        labels[inside] = value
        nearest[inside] = distance[inside]
    return labels


def locate_landmarks(
    features: FeatureMap,
    adapter: Adapter,
    spacing_mm: tuple[float, float, float],
    settings: LandmarkSettings | None = None,
) -> Localization:
    """Find each label's best place in a volume, or that it is absent.

    Returns
    -------
    Localization
        Every label has a landmark entry; those present have a disc in the label map, on their slice.
    """
    settings = settings or LandmarkSettings()
    scores = smooth_over_slices(adapter.scores(features), spacing_mm[0], settings.smoothing_mm)
    label_map = np.zeros((len(scores), *features.image_shape), dtype=np.uint8)
    landmarks = []
    places = _foretold(scores, adapter) if settings.as_figure else None
    for channel, value in enumerate(adapter.label_values, start=1):
        heights = _heights(scores, channel, None if places is None else places[channel - 1])
        _, place = find_peak(heights, settings.reach_cells)
        threshold, spread = (float(number) for number in adapter.peak_thresholds[channel - 1])
        confidence = _sigmoid((presence(scores, channel) - threshold) / spread)
        index = _to_image(place, scores.shape[-2:], features.image_shape)
        present = confidence >= settings.min_confidence
        landmarks.append(Landmark(value, index if present else None, confidence))
    for landmark in sorted(landmarks, key=lambda found: found.confidence):
        _draw_disc(label_map, landmark)
    return Localization(label_map, scores, adapter.label_values, tuple(landmarks))


def _foretold(scores: NDArray[np.float32], adapter: Adapter) -> NDArray[np.float64] | None:
    """Return where each label should lie, (labels, 2); None where the adapter keeps no figures."""
    if not isinstance(adapter, ContextAdapter):
        return None
    return foretold_places(softmax(scores, axis=1)[:, 1:].max(axis=0), adapter.figures)


def _heights(scores: NDArray[np.float32], channel: int, place: NDArray[np.float64] | None) -> NDArray[np.float32]:
    """Return a label's map to find its peak in, (slices, h, w), from (slices, labels + 1, h, w)."""
    if place is None or np.isnan(place).any():
        return margin(scores, channel)
    log_shares: NDArray[np.float32] = log_softmax(scores, axis=1)[:, channel]
    return np.maximum(log_shares, np.float32(_LEAST_LOG_SHARE)) + nearness(place, scores.shape[2:])


def find_peak(heights: NDArray[np.float32], reach_cells: float) -> tuple[float, tuple[float, float, float]]:
    """Return the height and the fractional (slice, h, w) place of a map's peak.

    In the plane it is the centroid of what rises above half of the peak's own rise within reach; across
    slices it is the vertex of a parabola through the peak and its two neighbours.
    """
    top = np.unravel_index(int(heights.argmax()), heights.shape)
    slice_index, row, column = (int(number) for number in top)
    peak = float(heights[slice_index, row, column])
    rows, columns = np.ogrid[: heights.shape[1], : heights.shape[2]]
    near = np.hypot(rows - row, columns - column) <= reach_cells
    plane = heights[slice_index].astype(np.float64)
    floor = (peak + float(plane[near].min())) / 2
    weight = np.where(near, np.clip(plane - floor, 0, None), 0.0)
    total = weight.sum()
    if total <= 0:
        return peak, (float(slice_index), float(row), float(column))
    centre = (float((weight * rows).sum() / total), float((weight * columns).sum() / total))
    return peak, (slice_index + _vertex(heights[:, row, column], slice_index), *centre)


def _vertex(values: NDArray[np.float32], index: int) -> float:
    """Offset, within half a step, of the vertex of the parabola through a maximum and its neighbours."""
    if not 0 < index < len(values) - 1:
        return 0.0
    before, here, after = (float(value) for value in values[index - 1 : index + 2])
    bend = before - 2 * here + after
    return 0.0 if bend >= 0 else max(-0.5, min(0.5, (before - after) / (2 * bend)))


def _to_image(
    place: tuple[float, float, float], cells: tuple[int, ...], image_shape: tuple[int, int]
) -> tuple[float, float, float]:
    """Map cell centres to pixel centres: the grid covers the image edge to edge."""
    row, column = (
        (at + 0.5) * pixels / count - 0.5 for at, pixels, count in zip(place[1:], image_shape, cells, strict=True)
    )
    return place[0], row, column


def _sigmoid(value: float) -> float:
    return 0.5 * (1 + math.tanh(value / 2))


def _draw_disc(label_map: LabelArray, landmark: Landmark) -> None:
    if landmark.index is None:
        return
    slice_index, row, column = landmark.index
    plane = label_map[round(slice_index)]
    disc = disc_labels({landmark.label_value: (row, column)}, (plane.shape[0], plane.shape[1]))
    plane[disc > 0] = landmark.label_value
