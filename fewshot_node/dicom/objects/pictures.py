"""Slices as pictures with masks and points drawn in, for people whose PACS shows no segmentation."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]

_SMALLEST_SIDE = 512
_LARGEST_SCALE = 8
_SHADE = 0.25
_MARK = 9
_LINE_PX, _TEXT_PX, _MARGIN_PX, _BOX_PX = 22, 15, 6, 12
_FONT = Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
"""Ships with matplotlib and knows more scripts than Pillow's own."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """One structure of a slice: a mask, or a point at a (row, column) index."""

    name: str
    colour: Colour
    mask: NDArray[np.bool_] | None = None
    point_rc: tuple[float, float] | None = None


def picture_scale(shape: tuple[int, int]) -> int:
    """Return by how much a slice of (rows, columns) is enlarged, so that outlines are thin and words can be read."""
    return min(max(1, -(-_SMALLEST_SIDE // min(shape))), _LARGEST_SCALE)


def draw(plane: NDArray[np.float32], window: tuple[float, float], structures: Sequence[Drawn], title: str) -> Picture:
    """Return a slice with its structures outlined and lightly shaded, and a legend below.

    Parameters
    ----------
    plane
        (rows, columns).
    window
        Values that are black and white.
    title
        First line of the legend.

    Returns
    -------
    numpy.ndarray
        uint8 (scale * rows + legend, scale * columns, 3); the slice's own pixels begin at (0, 0).
    """
    scale = picture_scale((plane.shape[0], plane.shape[1]))
    low, high = window
    gray = np.clip((plane - low) / max(high - low, 1e-6), 0.0, 1.0) * 255
    enlarged = np.kron(gray, np.ones((scale, scale)))
    picture = np.repeat(enlarged[..., None], 3, axis=2)
    for structure in structures:
        if structure.mask is not None:
            _shade(picture, np.kron(structure.mask, np.ones((scale, scale), dtype=bool)), structure.colour)
    image = Image.fromarray(np.round(picture).astype(np.uint8))
    for structure in structures:
        if structure.point_rc is not None:
            _mark(image, structure.point_rc, structure.colour, scale)
    legend = _legend(image.width, structures, title)
    return np.concatenate([np.asarray(image), legend])


def _shade(picture: NDArray[np.float64], mask: NDArray[np.bool_], colour: Colour) -> None:
    edge = mask & ~ndimage.binary_erosion(mask, iterations=2)
    picture[mask] = (1 - _SHADE) * picture[mask] + _SHADE * np.array(colour)
    picture[edge] = colour


def _mark(image: Image.Image, point_rc: tuple[float, float], colour: Colour, scale: int) -> None:
    y, x = ((index + 0.5) * scale for index in point_rc)
    pen = ImageDraw.Draw(image)
    pen.ellipse((x - _MARK, y - _MARK, x + _MARK, y + _MARK), outline=colour, width=2)
    pen.line((x - _MARK, y, x + _MARK, y), fill=colour)
    pen.line((x, y - _MARK, x, y + _MARK), fill=colour)


def _legend(width: int, structures: Sequence[Drawn], title: str) -> Picture:
    font = ImageFont.truetype(str(_FONT), _TEXT_PX)
    image = Image.new("RGB", (width, _LINE_PX * (len(structures) + 1) + _MARGIN_PX))
    pen = ImageDraw.Draw(image)
    pen.text((_MARGIN_PX, _MARGIN_PX // 2), title, fill="white", font=font)
    for line, structure in enumerate(structures, 1):
        top = _LINE_PX * line + _MARGIN_PX // 2
        pen.rectangle((_MARGIN_PX, top + 2, _MARGIN_PX + _BOX_PX, top + 2 + _BOX_PX), fill=structure.colour)
        pen.text((2 * _MARGIN_PX + _BOX_PX, top), structure.name, fill="white", font=font)
    return np.asarray(image)
