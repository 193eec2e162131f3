"""Masks refined by a SAM-style model, each kept only where it agrees with the adapter's."""

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from fewshot_node.errors import ConfigurationError, TaskError
from fewshot_node.records import LabelArray, Localization, Masks, Prompts, RefinementCount
from fewshot_node.vision.intensity import IntensitySettings, apply_ranges, intensity_ranges
from fewshot_node.vision.sam import SamEngine, load_sam

logger = logging.getLogger(__name__)

__all__ = ["ENGINES", "RefineSettings", "SamEngine", "load_sam", "refine"]

ENGINES = ("none", "sam")


@dataclass(frozen=True, slots=True)
class RefineSettings:
    """Whether and how coarse masks are refined.

    Attributes
    ----------
    engine
        ``"none"`` keeps every coarse mask, and the counts say so.
    iou_gate
        A refined mask is kept where its intersection over union with the coarse one is at least this.
    multimask
        Ask for three masks and take the one that agrees best with the coarse one; else for a single mask.
    intensity
        Of the image that the engine sees; a single CT window by default.
    """

    engine: str = "none"
    iou_gate: float = 0.5
    multimask: bool = True
    intensity: IntensitySettings = field(default_factory=lambda: IntensitySettings(ct_windows=((40.0, 400.0),)))

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise TaskError(f"refine.engine: {self.engine!r}; give one of {', '.join(ENGINES)}")
        if not 0 <= self.iou_gate <= 1:
            raise TaskError(f"refine.iou_gate is {self.iou_gate}; give a number within 0..1")


@dataclass(frozen=True, slots=True, eq=False)
class _Claim:
    """The mask that a label brings forward on a slice."""

    label_value: int
    mask: NDArray[np.bool_]
    refined: bool


def refine(
    array: NDArray[np.float32],
    modality: str,
    localization: Localization,
    prompts: Sequence[Prompts],
    engine: SamEngine | None = None,
    settings: RefineSettings | None = None,
) -> Masks:
    """Refine the localized masks slice by slice; only slices with prompts are looked at.

    Parameters
    ----------
    array
        float32 (slices, rows, columns): the volume that was localized.
    engine
        Needed unless `settings.engine` is ``"none"``.

    Returns
    -------
    Masks
        Where masks of two labels overlap, the label with the higher adapter score has the pixel.
    """
    settings = settings or RefineSettings()
    ordered = sorted(prompts, key=lambda prompt: (prompt.slice_index, prompt.label_value))
    if settings.engine == "none":
        return Masks(localization.label_map.copy(), _count((prompt.label_value, False) for prompt in ordered))
    if engine is None:
        raise ConfigurationError(
            "refine.engine is 'sam' but no SAM checkpoint is loaded; set its folder or choose 'none'"
        )
    started = time.perf_counter()
    ranges = intensity_ranges(array, modality, settings.intensity, channels=3)
    label_map = localization.label_map.copy()
    outcomes: list[tuple[int, bool]] = []
    for slice_index, group in groupby(ordered, key=lambda prompt: prompt.slice_index):
        image = apply_ranges(array[slice_index : slice_index + 1], ranges)[0]
        claims = _refine_slice(image, list(group), settings, engine)
        settle(label_map[slice_index], claims, localization, slice_index)
        outcomes += [(claim.label_value, claim.refined) for claim in claims]
    counts = _count(outcomes)
    kept = sum(count.refined for count in counts.values())
    logger.info("refined %d of %d masks in %.1f s", kept, len(outcomes), time.perf_counter() - started)
    return Masks(label_map, counts)


def intersection_over_union(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Return the overlap of two masks, 0 where both are empty."""
    union = int((first | second).sum())
    return int((first & second).sum()) / union if union else 0.0


def _refine_slice(
    image: NDArray[np.float32], prompts: Sequence[Prompts], settings: RefineSettings, engine: SamEngine
) -> list[_Claim]:
    embedded = engine.embed(image)
    by_count: dict[int, list[Prompts]] = defaultdict(list)
    for prompt in prompts:
        by_count[len(prompt.points_xy)].append(prompt)
    claims = []
    # Prompts of one length go together: padding points would change the answer.
    for alike in by_count.values():
        points = np.stack([prompt.points_xy for prompt in alike])
        positive = np.stack([prompt.positive for prompt in alike])
        answers = engine.segment(embedded, points, positive, multimask=settings.multimask)
        claims += [_gate(prompt, masks, settings.iou_gate) for prompt, masks in zip(alike, answers, strict=True)]
    return claims


def _gate(prompt: Prompts, masks: Iterable[NDArray[np.bool_]], iou_gate: float) -> _Claim:
    agreed = [(intersection_over_union(mask, prompt.coarse_mask), mask) for mask in masks]
    agreement, best = max(agreed, key=lambda pair: pair[0])
    refined = agreement >= iou_gate and agreement > 0
    return _Claim(prompt.label_value, best if refined else prompt.coarse_mask, refined)


def settle(label_slice: LabelArray, claims: Sequence[_Claim], localization: Localization, slice_index: int) -> None:
    """Write claims into a label map's slice (in place); a pixel claimed twice goes to the higher score."""
    asked = [claim.label_value for claim in claims]
    label_slice[np.isin(label_slice, asked)] = 0
    times = np.sum([claim.mask for claim in claims], axis=0)
    for claim in claims:
        label_slice[claim.mask] = claim.label_value
    contested = times > 1
    if not contested.any():
        return
    channels = [localization.label_values.index(value) + 1 for value in asked]
    coarse = torch.from_numpy(np.ascontiguousarray(localization.scores[slice_index][channels]))[None]
    scores = functional.interpolate(coarse, label_slice.shape, mode="bilinear", align_corners=False)[0].numpy()
    claimed = np.stack([claim.mask for claim in claims])[:, contested]
    winners = np.where(claimed, scores[:, contested], -np.inf).argmax(axis=0)
    label_slice[contested] = np.array(asked, dtype=np.uint8)[winners]


def _count(outcomes: Iterable[tuple[int, bool]]) -> Mapping[int, RefinementCount]:
    tally = Counter(outcomes)
    values = sorted({value for value, _ in tally})
    return {value: RefinementCount(tally[value, True], tally[value, False]) for value in values}
