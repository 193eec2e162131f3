"""From dense features to a cleaned label map."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import cc3d
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional

from fewshot_node.errors import TaskError
from fewshot_node.records import FeatureMap, LabelArray, Localization
from fewshot_node.vision.adapters.calibration import silence_absent
from fewshot_node.vision.adapters.context import ContextAdapter
from fewshot_node.vision.adapters.support import Adapter

logger = logging.getLogger(__name__)

POLICIES = ("all", "largest", "pair")

_KEPT = {"largest": 1, "pair": 2}


@dataclass(frozen=True, slots=True)
class ComponentRule:
    """Which connected components of a label stay.

    Attributes
    ----------
    policy
        ``"all"``, ``"largest"`` or ``"pair"`` (the two largest, as of two eyes).
    min_volume_mm3
        Smaller components go.
    min_share
        Components smaller than this share of the label's largest go.
    """

    policy: str = "all"
    min_volume_mm3: float = 10.0
    min_share: float = 0.1

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise TaskError(f"cleaning.policy: {self.policy!r}; give one of {', '.join(POLICIES)}")
        if self.min_volume_mm3 < 0 or not 0 <= self.min_share <= 1:
            raise TaskError("cleaning: min_volume_mm3 must not be below 0, min_share must lie within 0..1")


@dataclass(frozen=True, slots=True)
class CleaningSettings:
    """How scores are smoothed and label maps cleaned.

    Attributes
    ----------
    rule
        For every label that `by_label` does not name.
    by_label
        Rules of their own by label value.
    smoothing_mm
        Standard deviation of a Gaussian over the slices' scores. It is in mm, so thick slices are left as
        they are and thin ones help each other; one slice alone is never changed. 0 switches it off. Wider than
        1 mm was measured to cost a hippocampus, at 1 mm slices, more than it gave a liver.
    """

    rule: ComponentRule = field(default_factory=ComponentRule)
    by_label: Mapping[int, ComponentRule] = field(default_factory=dict)
    smoothing_mm: float = 1.0

    def __post_init__(self) -> None:
        if self.smoothing_mm < 0:
            raise TaskError("cleaning.smoothing_mm must not be below 0")


def localize(
    features: FeatureMap,
    adapter: Adapter,
    spacing_mm: tuple[float, float, float],
    settings: CleaningSettings | None = None,
) -> Localization:
    """Label every voxel of a volume and clean the label map.

    Parameters
    ----------
    features
        Of the whole volume, in the order of its slices.
    spacing_mm
        Distance of voxel centres along slices, rows and columns of the image (not of the grid).
    """
    settings = settings or CleaningSettings()
    started = time.perf_counter()
    scores = smooth_over_slices(adapter.scores(features), spacing_mm[0], settings.smoothing_mm)
    if isinstance(adapter, ContextAdapter):
        scores = silence_absent(scores, adapter.gates)
    label_map = label_voxels(scores, features.image_shape, adapter.label_values)
    label_map = clean(label_map, adapter.label_values, float(np.prod(spacing_mm)), settings)
    logger.info("localized %d labels in %.1f s", len(adapter.label_values), time.perf_counter() - started)
    return Localization(label_map, scores, adapter.label_values)


def smooth_over_slices(
    scores: NDArray[np.float32], slice_distance_mm: float, smoothing_mm: float
) -> NDArray[np.float32]:
    """Average (slices, channels, h, w) scores over neighbouring slices with a Gaussian given in mm."""
    sigma = smoothing_mm / slice_distance_mm if slice_distance_mm > 0 else 0.0
    if len(scores) < 2 or sigma < 0.1:
        return scores
    smoothed: NDArray[np.float32] = ndimage.gaussian_filter1d(scores, sigma, axis=0, mode="nearest", truncate=3.0)
    return smoothed


def label_voxels(
    scores: NDArray[np.float32], image_shape: tuple[int, int], label_values: tuple[int, ...]
) -> LabelArray:
    """Interpolate scores, one slice at a time, to the image and take each voxel's best channel.

    A slice whose cells are all background stays so without interpolation: a mean of scores that the
    background wins everywhere is won by the background.

    Parameters
    ----------
    scores
        float32 (slices, labels + 1, h, w); channel 0 is background, channel k belongs to `label_values[k - 1]`.
    image_shape
        (rows, columns) of the slices that the grid covers edge to edge.

    Returns
    -------
    NDArray
        uint8 (slices, rows, columns), 0 is background.
    """
    label_map = np.zeros((len(scores), *image_shape), dtype=np.uint8)
    values = np.array((0, *label_values), dtype=np.uint8)
    present = scores.argmax(axis=1).any(axis=(1, 2))
    for index in np.flatnonzero(present):
        # Channels that win no cell can win no voxel in practice; leaving them out halves the work.
        channels = np.union1d(0, np.unique(scores[index].argmax(axis=0)))
        part = torch.from_numpy(np.ascontiguousarray(scores[index][channels]))[None]
        fine = functional.interpolate(part, image_shape, mode="bilinear", align_corners=False)[0]
        label_map[index] = values[channels][_best_channel(fine).numpy()]
    return label_map


def _best_channel(scores: torch.Tensor) -> torch.Tensor:
    """Return the first of the highest (channels, rows, columns): what argmax gives, in a quarter of its time."""
    highest = scores[0].clone()
    best = torch.zeros(highest.shape, dtype=torch.uint8)
    for channel in range(1, len(scores)):
        best.masked_fill_(scores[channel] > highest, channel)
        torch.maximum(highest, scores[channel], out=highest)
    return best


def clean(
    label_map: LabelArray, label_values: tuple[int, ...], voxel_mm3: float, settings: CleaningSettings
) -> LabelArray:
    """Remove each label's stray components.

    Components are 26-connected, so a structure that runs obliquely through thick slices holds together.
    Their sizes are compared in mm3, never in voxels or slices: the rules mean the same at any spacing.

    Parameters
    ----------
    label_map
        uint8 (slices, rows, columns); it is not changed.
    label_values
        Labels to clean; others stay as they are.

    Returns
    -------
    NDArray
        A label map like the given one.
    """
    cleaned = label_map.copy()
    boxes = ndimage.find_objects(label_map, max_label=max(label_values, default=0))
    for value in label_values:
        box = boxes[value - 1]
        if box is None:
            continue
        mask = label_map[box] == value
        kept = keep_components(mask, voxel_mm3, settings.by_label.get(value, settings.rule))
        cleaned[box][mask & ~kept] = 0
    return cleaned


def keep_components(mask: NDArray[np.bool_], voxel_mm3: float, rule: ComponentRule) -> NDArray[np.bool_]:
    """Return the part of a (slices, rows, columns) mask that a rule lets stay."""
    components = cc3d.connected_components(np.ascontiguousarray(mask), connectivity=26)
    volumes = np.bincount(components.reshape(-1)).astype(np.float64) * voxel_mm3
    volumes[0] = 0.0
    smallest = max(rule.min_volume_mm3, rule.min_share * float(volumes.max()))
    order = np.argsort(-volumes, kind="stable")[: _KEPT.get(rule.policy, len(volumes))]
    stays = np.zeros(len(volumes), dtype=bool)
    stays[order] = volumes[order] >= smallest
    stays[0] = False
    kept: NDArray[np.bool_] = stays[components]
    return kept
