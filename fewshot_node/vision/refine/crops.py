"""Which parts of a slice a promptable model is shown."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_SMALLEST_SHARE = 0.25
"""Of the slice's longer side: what lies around a small organ tells the model what it is."""

_JOINED_AREA = 2


@dataclass(frozen=True, slots=True, order=True)
class Box:
    """Pixels of a slice, ends not included."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def part(self) -> tuple[slice, slice]:
        """The same as an index of (rows, columns)."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    @property
    def area(self) -> int:
        """Number of pixels."""
        return (self.bottom - self.top) * (self.right - self.left)

    def around(self, other: "Box") -> "Box":
        """Return the smallest box that holds both."""
        low = min(self.top, other.top), min(self.left, other.left)
        return Box(*low, max(self.bottom, other.bottom), max(self.right, other.right))


def plan_crops(
    masks: Sequence[NDArray[np.bool_]], image_shape: tuple[int, int], margin: float
) -> list[tuple[Box, list[int]]]:
    """Choose square crops, each around regions that lie near each other.

    Two crops become one where that shows at most twice the area of both: regions side by side share one
    encoding, regions at opposite ends are not shown from afar.

    Returns
    -------
    list
        Of a crop and the indices of the masks that lie in it; every mask lies in one crop.
    """
    tight = [_bounds(mask) for mask in masks]
    groups = sorted(set(tight))
    while pair := _pair_to_join(groups, image_shape, margin):
        joined = pair[0].around(pair[1])
        # What now lies within the joined group needs none of its own.
        groups = sorted({joined} | {group for group in groups if joined.around(group) != joined})
    planned = []
    left = dict(enumerate(tight))
    for group in groups:
        members = [index for index, bounds in left.items() if group.around(bounds) == group]
        left = {index: bounds for index, bounds in left.items() if index not in members}
        planned.append((_square(group, image_shape, margin), members))
    return [(crop, members) for crop, members in planned if members]


def _pair_to_join(groups: Sequence[Box], image_shape: tuple[int, int], margin: float) -> tuple[Box, Box] | None:
    for index, first in enumerate(groups):
        for second in groups[index + 1 :]:
            apart = sum(_square(group, image_shape, margin).area for group in (first, second))
            if _square(first.around(second), image_shape, margin).area <= _JOINED_AREA * apart:
                return first, second
    return None


def _square(bounds: Box, image_shape: tuple[int, int], margin: float) -> Box:
    """Return a square around a box, moved into the slice and cut where it is larger than the slice."""
    longer = max(bounds.bottom - bounds.top, bounds.right - bounds.left)
    side = max(round(longer * (1 + 2 * margin)), round(_SMALLEST_SHARE * max(image_shape)))
    top, bottom = _span(bounds.top, bounds.bottom, side, image_shape[0])
    left, right = _span(bounds.left, bounds.right, side, image_shape[1])
    return Box(top, left, bottom, right)


def _span(start: int, stop: int, side: int, limit: int) -> tuple[int, int]:
    length = min(side, limit)
    first = min(max(0, (start + stop - length) // 2), limit - length)
    return first, first + length


def _bounds(mask: NDArray[np.bool_]) -> Box:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)
