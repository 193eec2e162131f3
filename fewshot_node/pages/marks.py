"""Marks on a picture: outlines and points of what was found, and of the truth.

Points are (x, y) in pixels of the picture.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import ImageDraw
from skimage.measure import find_contours

Colour = tuple[int, int, int]
Point = tuple[float, float]
Line = Sequence[Point]


def outlines(mask: NDArray[np.bool_], zoom: NDArray[np.float64]) -> Iterator[list[Point]]:
    """Give the contours of a mask (rows, columns) as lines; a mask at the border is closed there.

    `zoom` is the size of one of its pixels in pixels of the picture, (rows, columns).
    """
    if not mask.any():
        return
    padded = np.pad(mask, 1).astype(np.float32)
    for contour in find_contours(padded, 0.5):  # type: ignore[no-untyped-call]
        rows_columns = (contour - 0.5) * zoom
        yield [(float(x), float(y)) for y, x in rows_columns]


def solid(draw: ImageDraw.ImageDraw, line: Line, colour: Colour) -> None:
    """Draw a line."""
    draw.line(line, fill=colour, width=2)


def dotted(draw: ImageDraw.ImageDraw, line: Line, colour: Colour) -> None:
    """Draw a dot every 6 pixels along a line, white-edged to stand out from a solid line below."""
    points = np.asarray(line)
    lengths = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    for place in np.arange(0, lengths[-1], 6):
        x, y = (float(np.interp(place, lengths, points[:, axis])) for axis in (0, 1))
        draw.ellipse((x - 1.6, y - 1.6, x + 1.6, y + 1.6), fill=(255, 255, 255), outline=colour)


def cross(draw: ImageDraw.ImageDraw, centre: Point, colour: Colour) -> None:
    """Draw a cross, dark-edged to stand out from what is bright."""
    x, y = centre
    for dark, width in (((0, 0, 0), 4), (colour, 2)):
        draw.line((x - 8, y, x + 8, y), fill=dark, width=width)
        draw.line((x, y - 8, x, y + 8), fill=dark, width=width)


def ring(draw: ImageDraw.ImageDraw, centre: Point, colour: Colour) -> None:
    """Draw a circle around a point, white-edged as the dots are."""
    x, y = centre
    draw.ellipse((x - 7, y - 7, x + 7, y + 7), outline=(255, 255, 255), width=3)
    draw.ellipse((x - 6, y - 6, x + 6, y + 6), outline=colour, width=1)
