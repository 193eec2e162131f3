"""Outlines of a mask along the edges of its pixels: what they enclose is the mask, to the pixel."""

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Corner = tuple[int, int]

_ALL_AROUND = np.ones((3, 3), dtype=bool)


def outlines(mask: NDArray[np.bool_], most_corners: int) -> Iterator[NDArray[np.float64]]:
    """Give closed outlines of a mask, clockwise as the image is seen, that overlap nowhere and together cover it.

    Each encloses pixels that share edges, and no hole: a region with a hole, or one of more corners than asked for,
    is cut in two along a row. So every rule by which readers fill outlines (union, exclusive or) gives the mask.

    Parameters
    ----------
    mask
        (rows, columns).
    most_corners
        Of one outline, at least 4.

    Yields
    ------
    numpy.ndarray
        float64 (corners, 2): (row, column) indices, which are whole at pixel centres, so that corners lie at halves.
    """
    regions, count = ndimage.label(mask)
    for number, window in enumerate(ndimage.find_objects(regions, count), 1):
        rows, columns = window
        corner = np.array([rows.start, columns.start])
        for outline in _of_region(regions[window] == number, most_corners):
            yield outline + corner


def _of_region(region: NDArray[np.bool_], most_corners: int) -> Iterator[NDArray[np.float64]]:
    holes = ndimage.binary_fill_holes(region, structure=_ALL_AROUND) & ~region
    if holes.any():
        yield from _cut(region, int(np.flatnonzero(holes.any(axis=1))[0]) + 1, most_corners)
        return
    corners = _trace(region)
    if len(corners) > most_corners and len(region) > 1:
        yield from _cut(region, len(region) // 2, most_corners)
        return
    yield np.array(corners, dtype=np.float64) - 0.5


def _cut(region: NDArray[np.bool_], row: int, most_corners: int) -> Iterator[NDArray[np.float64]]:
    yield from outlines(region[:row], most_corners)
    for outline in outlines(region[row:], most_corners):
        yield outline + np.array([row, 0])


def _trace(region: NDArray[np.bool_]) -> list[Corner]:
    """Follow the edges of a region without holes; where two of its pixels touch at a corner, stay with the same one."""
    onward = _edges(region)
    start = min(onward)
    here, step, corners = start, (0, 1), []
    while onward[here]:
        right = (step[1], -step[0])
        taken = right if right in onward[here] else onward[here][0]
        onward[here].remove(taken)
        if taken != step or here == start:
            corners.append(here)
        here, step = (here[0] + taken[0], here[1] + taken[1]), taken
    return corners


def _edges(region: NDArray[np.bool_]) -> defaultdict[Corner, list[Corner]]:
    """Map each corner to the steps along the edges that begin there; the region lies to their right."""
    framed = np.pad(region, 1)
    inside = framed[1:-1, 1:-1]
    sides = (
        (framed[:-2, 1:-1], (0, 0), (0, 1)),  # above: along the top
        (framed[1:-1, 2:], (0, 1), (1, 0)),  # right: down
        (framed[2:, 1:-1], (1, 1), (0, -1)),  # below: back along the bottom
        (framed[1:-1, :-2], (1, 0), (-1, 0)),  # left: up
    )
    onward: defaultdict[Corner, list[Corner]] = defaultdict(list)
    for beside, (down, across), step in sides:
        for row, column in np.argwhere(inside & ~beside).tolist():
            onward[row + down, column + across].append(step)
    return onward
