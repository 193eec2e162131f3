"""The classical control: a random walker seeded by the prompts and by what the adapter is sure of.

The walker knows the image's edges and nothing of anatomy, the adapter the other way round: where an organ's border is
faint, the walker alone leaks or shrinks. Their odds are therefore added, as of two independent witnesses.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import random_walker

from fewshot_node.records import Localization, Prompts
from fewshot_node.vision.prompts.places import core, depth_px, reach_px, window
from fewshot_node.vision.prompts.regions import log_odds, on_slice

_BETA = 130.0
_TOLERANCE = 1e-3
# That a loose tolerance leaves a probability a little beyond 0..1 is no reason to warn.
_PROBABILITY_SLACK = 1.0
# The walker is never surer than this of what it was not told, so that neither witness can silence the other.
_LEAST_PROBABILITY = 0.02
_BAND_SHARE = 0.35
_MIN_BAND_PX = 3.0

_UNSEEDED, _BACKGROUND, _FIRST_REGION = 0, 1, 2


def walk(image: NDArray[np.float32], prompts: Sequence[Prompts], localization: Localization) -> list[NDArray[np.bool_]]:
    """Return one bool (rows, columns) mask a prompt: all regions of a slice and the background at once.

    A region's core, its pixels with at least the region's median log-odds and the positive points belong to it;
    what lies outside a band around all regions, what the adapter gives to none with the same certainty and the
    negative points are background. The walker (Grady 2006) divides the rest by the image's edges; a region has the
    pixels where its log-odds there and the adapter's have the highest sum above 0.

    Parameters
    ----------
    image
        float32 (channels, rows, columns) on 0..1; the first channel is looked at.
    prompts
        Of one slice and one draw.
    """
    part = _crop(prompts)
    odds = [_adapter_odds(prompt, localization, part) for prompt in prompts]
    settled = _settle(image[0][part], _seeds(prompts, odds, part), odds)
    if settled is None:
        return [prompt.coarse_mask.copy() for prompt in prompts]
    masks = []
    for number, prompt in enumerate(prompts, start=_FIRST_REGION):
        mask = np.zeros_like(prompt.coarse_mask)
        mask[part] = settled == number
        masks.append(mask)
    return masks


def _settle(
    data: NDArray[np.float32], seeds: NDArray[np.int32], odds: Sequence[NDArray[np.float32]]
) -> NDArray[np.int32] | None:
    """Return the seeds' numbers everywhere; None where seeds or image leave nothing to divide."""
    kinds = np.unique(seeds)
    if kinds[0] != _UNSEEDED or len(kinds) < 3 or float(np.ptp(data)) < 1e-6:
        return None
    consecutive = np.searchsorted(kinds, seeds)
    shares = random_walker(
        data, consecutive, beta=_BETA, mode="cg_j", tol=_TOLERANCE, prob_tol=_PROBABILITY_SLACK, return_full_prob=True
    )
    unsure = seeds == _UNSEEDED  # a few pixels: all others keep their seed
    bounded = np.clip(shares[:, unsure], _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
    walked = dict(zip(kinds[1:].tolist(), np.log(bounded) - np.log1p(-bounded), strict=True))
    # A region may have lost all its seeds to others' points: then it has no pixel.
    summed = np.stack([own[unsure] + walked.get(number, -np.inf) for number, own in enumerate(odds, _FIRST_REGION)])
    settled = seeds.copy()
    settled[unsure] = np.where(summed.max(axis=0) > 0, summed.argmax(axis=0) + _FIRST_REGION, _BACKGROUND)
    return settled


def _adapter_odds(prompt: Prompts, localization: Localization, part: tuple[slice, slice]) -> NDArray[np.float32]:
    odds = log_odds(localization, prompt.slice_index, prompt.label_value)
    return on_slice(odds, prompt.coarse_mask.shape)[part]


def _crop(prompts: Sequence[Prompts]) -> tuple[slice, slice]:
    """Return the rows and columns around all regions, bands included."""
    together = np.logical_or.reduce([prompt.coarse_mask for prompt in prompts])
    return window(together, max(reach_px(prompt.coarse_mask) for prompt in prompts) + 1)


def _seeds(
    prompts: Sequence[Prompts], odds: Sequence[NDArray[np.float32]], part: tuple[slice, slice]
) -> NDArray[np.int32]:
    masks = [prompt.coarse_mask[part] for prompt in prompts]
    seeds = np.full(masks[0].shape, _BACKGROUND, dtype=np.int32)
    unsure = np.zeros(masks[0].shape, dtype=bool)
    inner = []
    for own, mask in zip(odds, masks, strict=True):
        typical = max(float(np.median(own[mask])), 0.0)
        unsure |= mask | (_band(mask) & (own > -typical))
        inner.append(mask & (_core(mask) | (own >= typical if typical else False)))
    seeds[unsure] = _UNSEEDED
    for number, sure in enumerate(inner, start=_FIRST_REGION):
        seeds[sure] = number
    _seed_points(seeds, prompts, part)
    return seeds


def _band(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    width = max(_MIN_BAND_PX, _BAND_SHARE * float(np.sqrt(mask.sum() / np.pi)))
    near = np.zeros_like(mask)
    around = window(mask, math.ceil(width))
    near[around] = ndimage.distance_transform_edt(~mask[around]) <= width
    return near


def _core(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the eroded region; distances are taken where the region is only."""
    eroded = np.zeros_like(mask)
    around = window(mask, 1)
    eroded[around] = core(depth_px(mask[around]))
    return eroded


def _seed_points(seeds: NDArray[np.int32], prompts: Sequence[Prompts], part: tuple[slice, slice]) -> None:
    corner = np.array([part[1].start, part[0].start])
    for number, prompt in enumerate(prompts, start=_FIRST_REGION):
        columns, rows = (np.rint(prompt.points_xy).astype(int) - corner).T
        inside = (rows >= 0) & (rows < seeds.shape[0]) & (columns >= 0) & (columns < seeds.shape[1])
        values = np.where(prompt.positive, number, _BACKGROUND)
        seeds[rows[inside], columns[inside]] = values[inside]
