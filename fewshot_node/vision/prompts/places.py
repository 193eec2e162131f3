"""Where points go: well inside a region and far from each other, or on a ring around it."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_CORE_SHARE = 0.4
_GAP_SHARE = 0.2
_WIDTH_SHARE = 0.6
_MIN_GAP_PX = 2.0
_MIN_WIDTH_PX = 3.0


def depth_px(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return each pixel's distance from the nearest pixel outside the mask; beyond the slice is outside."""
    inside: NDArray[np.float64] = ndimage.distance_transform_edt(np.pad(mask, 1))
    return inside[1:-1, 1:-1]


def core(depth: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return the eroded region: what is at least 0.4 times as deep as its deepest pixel."""
    eroded: NDArray[np.bool_] = depth >= max(_CORE_SHARE * float(depth.max()), 1.0)
    return eroded


def ring(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return a ring around a region, its gap and width in proportion to the radius of a disc of that area."""
    radius = float(np.sqrt(mask.sum() / np.pi))
    gap = max(_MIN_GAP_PX, _GAP_SHARE * radius)
    width = max(_MIN_WIDTH_PX, _WIDTH_SHARE * radius)
    away: NDArray[np.float64] = ndimage.distance_transform_edt(~mask)
    around: NDArray[np.bool_] = (away > gap) & (away <= gap + width)
    return around


def farthest(places: NDArray[np.intp], first: int, count: int) -> NDArray[np.intp]:
    """Choose (n, 2) places far from each other, n at most `count`: each is farthest from all before it."""
    chosen = [first]
    nearest = np.full(len(places), np.inf)
    while len(chosen) < min(count, len(places)):
        nearest = np.minimum(nearest, ((places - places[chosen[-1]]) ** 2).sum(axis=1))
        chosen.append(int(nearest.argmax()))
    return places[chosen]


def window(mask: NDArray[np.bool_], margin: int) -> tuple[slice, slice]:
    """Return the rows and columns of a region with a margin, within the slice: distances are needed there only."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return (
        slice(max(0, int(rows[0]) - margin), int(rows[-1]) + margin + 1),
        slice(max(0, int(columns[0]) - margin), int(columns[-1]) + margin + 1),
    )


def reach_px(mask: NDArray[np.bool_]) -> int:
    """Return how far outside a region its ring ends, rounded up."""
    radius = float(np.sqrt(mask.sum() / np.pi))
    return int(np.ceil(max(_MIN_GAP_PX, _GAP_SHARE * radius) + max(_MIN_WIDTH_PX, _WIDTH_SHARE * radius)))
