"""Landmarks as one figure: where each should lie, told from where all of them seem to be.

Vertebrae look alike, so each one's own map often peaks on a neighbour. Where a template's landmarks, moved, turned and
scaled as a whole, meet most of the evidence of all maps, each landmark has a place that fits the others: a pictorial
structure (Fischler and Elschlager 1973) with one rigid figure for each template.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from fewshot_node.vision.adapters.support import Support

FloatArray = NDArray[np.float32]

FEWEST_LANDMARKS = 3
"""Of a figure: two have no shape."""

_SCALES = np.exp(np.linspace(-0.6, 0.6, 13))
_TURNS_RAD = np.linspace(-0.2, 0.2, 5)
_SHIFT_SHARE = 0.3
# A figure twice or half as large must be worth this much evidence more: 31 = 65 * log(2)^2.
_SCALE_COST = 65.0
# Shares below it are no evidence, so that a landmark beyond the image's edge costs a figure nothing.
_LEAST_SHARE = 1e-2
# Of the grid's long side: how far from a map's peak a figure still meets it, and how wide a foretold place is.
_TOLERANCE_SHARE = 0.047
_SPREAD_SHARE = 0.094


@dataclass(frozen=True, slots=True, eq=False)
class _Fit:
    """One template's figure where it fits best: ``height`` of the evidence it meets, ``places`` (labels, 2)."""

    height: float
    places: NDArray[np.float64]


def arrangements(support: Support) -> FloatArray:
    """Return the middle of each label over each template's annotated slices: float32 (templates, labels, 2).

    Rows and columns from the middle of the grid, in units of its long side; not a number where a label is not shown.
    Variants of a slice are left out.
    """
    slice_ids = np.arange(len(support.labels)) if support.slice_ids is None else support.slice_ids
    originals = np.unique(slice_ids, return_index=True)[1]
    owners = support.template_ids[originals]
    found = np.full((len(np.unique(owners)), len(support.label_values), 2), np.nan, dtype=np.float32)
    for index, owner in enumerate(np.unique(owners)):
        labels = support.labels[originals[owners == owner]]
        for channel, value in enumerate(support.label_values):
            places = np.argwhere(labels == value)[:, 1:]
            if len(places):
                found[index, channel] = (places.mean(axis=0) - _middle(labels.shape[1:])) / max(labels.shape[1:])
    return found


def foretold_places(shares: FloatArray, figures: FloatArray) -> NDArray[np.float64]:
    """Return where each label should lie, in cells, (labels, 2); not a number where no figure tells.

    Parameters
    ----------
    shares
        float32 (labels, h, w): how sure it is that a cell shows a label, 0 to 1.
    figures
        float32 (templates, labels, 2), as `arrangements` returns them. The one that fits best tells; the others tell of
        labels that it does not show.
    """
    places = np.full(figures.shape[1:], np.nan)
    shown = [figure for figure in figures if np.isfinite(figure[:, 0]).sum() >= FEWEST_LANDMARKS]
    if not shown:
        return places
    evidence = _evidence(shares)
    fits = [_best_fit(evidence, figure, shares.shape[1:]) for figure in shown]
    for fit in sorted(fits, key=lambda one: -one.height):
        places = np.where(np.isnan(places), fit.places, places)
    return places


def nearness(place: NDArray[np.float64], cells: tuple[int, ...]) -> FloatArray:
    """Return the logarithm of a wide Gaussian around a place, 0 at its top: float32 (h, w)."""
    rows, columns = np.ogrid[: cells[0], : cells[1]]
    square = (rows - place[0]) ** 2 + (columns - place[1]) ** 2
    return np.asarray(-0.5 * square / (_SPREAD_SHARE * max(cells)) ** 2, dtype=np.float32)


def _middle(cells: tuple[int, ...]) -> NDArray[np.float64]:
    return (np.array(cells) - 1) / 2


def _evidence(shares: FloatArray) -> FloatArray:
    """Return tolerant log shares, 0 where there is no evidence, with margins as wide as the grid."""
    margin = max(shares.shape[1:])
    tolerance = max(1, round(_TOLERANCE_SHARE * margin))
    reach = np.arange(-tolerance, tolerance + 1)
    near = np.hypot(reach[:, None], reach[None]) <= tolerance
    tolerant = np.stack([maximum_filter(share, footprint=near) for share in shares])
    return np.pad(np.log1p(tolerant / _LEAST_SHARE), ((0, 0), (margin, margin), (margin, margin)))


def _best_fit(evidence: FloatArray, figure: FloatArray, cells: tuple[int, ...]) -> _Fit:
    """Search all poses of a figure for the one that meets most evidence."""
    reach = int(_SHIFT_SHARE * max(cells))
    best = _Fit(-np.inf, np.full(figure.shape, np.nan))
    for scale, places in _poses(figure.astype(np.float64) * max(cells)):
        placed = places + _middle(cells)
        met = _met(evidence, placed, max(cells), reach) - _SCALE_COST * np.log(scale) ** 2
        top = np.unravel_index(int(met.argmax()), met.shape)
        if met[top] > best.height:
            best = _Fit(float(met[top]), placed + np.array(top) - reach)
    return best


def _poses(figure: NDArray[np.float64]) -> Iterator[tuple[float, NDArray[np.float64]]]:
    """Yield a figure scaled and turned about its own middle."""
    middle = np.nanmean(figure, axis=0)
    for scale in _SCALES:
        for turn in _TURNS_RAD:
            cosine, sine = np.cos(turn), np.sin(turn)
            rotation = scale * np.array([[cosine, -sine], [sine, cosine]])
            yield float(scale), (figure - middle) @ rotation.T + middle


def _met(evidence: FloatArray, places: NDArray[np.float64], margin: int, reach: int) -> FloatArray:
    """Return the evidence that a figure meets at each shift of up to `reach` cells: (2 reach + 1, 2 reach + 1)."""
    size = 2 * reach + 1
    met = np.zeros((size, size), dtype=np.float32)
    for own, place in zip(evidence, places, strict=True):
        if np.isnan(place[0]):
            continue
        row, column = np.rint(place).astype(int) + margin - reach
        if 0 <= row <= own.shape[0] - size and 0 <= column <= own.shape[1] - size:
            met += own[row : row + size, column : column + size]
    return met
