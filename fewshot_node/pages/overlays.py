"""Pictures of a result over the image: a contact sheet with contours or crosses and a legend.

The sheet holds slices, label names and nothing that identifies a patient.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from itertools import cycle
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from fewshot_node.errors import GeometryError
from fewshot_node.pages.marks import Colour, cross, dotted, outlines, ring, solid
from fewshot_node.records import LabelArray

Index = tuple[float, float, float]
Structures = LabelArray | Mapping[int, Index]
"""Masks of segmentation tasks, or positions of landmark tasks."""

_COLOURS: tuple[Colour, ...] = (
    (255, 92, 92),
    (70, 220, 120),
    (90, 170, 255),
    (255, 220, 60),
    (230, 120, 255),
    (255, 160, 60),
    (70, 230, 230),
    (190, 160, 120),
)
_BACKGROUND = (16, 16, 20)
_INK = (235, 235, 235)
_FONT_PX = 15
_LINE_PX = 22
_MARGIN_PX = 10


class Pictured(Protocol):
    """What is needed of images to show them: a `Volume`, or a query of the comparison."""

    @property
    def array(self) -> NDArray[np.float32]:
        """(slices, rows, columns)."""
        ...

    @property
    def modality(self) -> str:
        """Modality (0008,0060)."""
        ...

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance of voxel centres along slices, rows and columns."""
        ...


@dataclass(frozen=True, slots=True)
class SheetSettings:
    """Size of the sheet, and window (centre, width) for CT; other modalities use percentiles.

    `slice_numbers` are written onto the slices of a volume; without them the slices are counted from 1.
    """

    max_slices: int = 6
    columns: int = 3
    tile_px: int = 300
    ct_window: tuple[float, float] = (40.0, 400.0)
    slice_numbers: tuple[int, ...] = ()


def write_overlay(
    path: Path,
    volume: Pictured,
    found: Structures,
    label_names: Mapping[int, str],
    *,
    truth: Structures | None = None,
    settings: SheetSettings | None = None,
) -> None:
    """Write the contact sheet of `overlay_png` to a file; folders are made."""
    picture = overlay_png(volume, found, label_names, truth=truth, settings=settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture)


def overlay_png(
    volume: Pictured,
    found: Structures,
    label_names: Mapping[int, str],
    *,
    truth: Structures | None = None,
    settings: SheetSettings | None = None,
) -> bytes:
    """Draw a contact sheet and return it as the bytes of a PNG file.

    Parameters
    ----------
    volume
        What the result is about; only its pixels and spacing are used.
    found
        uint8 label map on the volume's grid, or label value -> fractional (slice, row, column).
    label_names
        Label value -> name, for the legend; other values are not drawn.
    truth
        The truth, in either form, drawn dotted.

    Raises
    ------
    GeometryError
        A label map lies on another grid.
    """
    settings = settings or SheetSettings()
    overlay = _Overlay(volume, label_names, _layer(found, volume), _layer(truth, volume))
    window = _window(volume, settings)
    chosen = _choose_slices(overlay, settings.max_slices)
    tiles = [_tile(overlay, index, window, settings) for index in chosen]
    sheet = _arrange(tiles, min(settings.columns, len(tiles)), _legend_entries(overlay))
    buffer = BytesIO()
    sheet.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


@dataclass(frozen=True, slots=True, eq=False)
class _Layer:
    """Masks or points; an empty layer has neither."""

    label_map: LabelArray | None = None
    points: Mapping[int, Index] = field(default_factory=dict)

    def holds(self, value: int) -> bool:
        return value in self.points or (self.label_map is not None and bool((self.label_map == value).any()))

    def slices(self, depth: int) -> set[int]:
        """Slices on which there is something to see."""
        if self.label_map is not None:
            return set(np.flatnonzero(self.label_map.any(axis=(1, 2))).tolist())
        return {_slice_of(point, depth) for point in self.points.values()}


@dataclass(frozen=True, slots=True, eq=False)
class _Overlay:
    volume: Pictured
    label_names: Mapping[int, str]
    found: _Layer
    truth: _Layer


def _layer(structures: Structures | None, volume: Pictured) -> _Layer:
    if structures is None:
        return _Layer()
    if isinstance(structures, Mapping):
        return _Layer(points=structures)
    if structures.shape != volume.array.shape:
        raise GeometryError(
            f"the images have a grid of {volume.array.shape}, the label map to draw one of {structures.shape}: "
            "bring the labels onto the grid of the images"
        )
    return _Layer(label_map=structures)


def _slice_of(point: Index, depth: int) -> int:
    return min(max(round(point[0]), 0), depth - 1)


def _choose_slices(overlay: _Overlay, count: int) -> tuple[int, ...]:
    """Choose up to `count` slices that hold a result or a truth; without any, spread over the volume."""
    depth = len(overlay.volume.array)
    candidates = sorted(overlay.found.slices(depth) | overlay.truth.slices(depth)) or list(range(depth))
    if len(candidates) <= count:
        return tuple(candidates)
    centres = (np.arange(count) + 0.5) * len(candidates) / count
    return tuple(candidates[int(centre)] for centre in centres)


def _window(volume: Pictured, settings: SheetSettings) -> tuple[float, float]:
    if volume.modality == "CT":
        centre, width = settings.ct_window
        return centre - width / 2, centre + width / 2
    low, high = np.percentile(volume.array, (0.5, 99.5))
    return float(low), max(float(high), float(low) + 1e-6)


def _tile(overlay: _Overlay, index: int, limits: tuple[float, float], settings: SheetSettings) -> Image.Image:
    """Draw one slice with square millimetres, its long side `tile_px` long."""
    tile_px, numbers = settings.tile_px, settings.slice_numbers
    plane = overlay.volume.array[index]
    size_mm = np.array(plane.shape) * overlay.volume.spacing_mm[1:]
    height, width = (max(1, round(length)) for length in (size_mm * tile_px / size_mm.max()).tolist())
    zoom = np.array([height, width]) / plane.shape
    grey = np.clip((plane - limits[0]) / (limits[1] - limits[0]), 0, 1) * 255
    picture = Image.fromarray(grey.astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    tile = picture.convert("RGB")
    draw = ImageDraw.Draw(tile)
    for value, colour in zip(overlay.label_names, cycle(_COLOURS), strict=False):
        _draw_label(draw, overlay, (index, value), zoom, colour)
    font = ImageFont.load_default(_FONT_PX - 2)
    draw.text(
        (6, 4),
        f"slice {numbers[index] if numbers else index + 1}",
        fill=_INK,
        font=font,
        stroke_width=2,
        stroke_fill=(0, 0, 0),
    )
    return tile


def _draw_label(
    draw: ImageDraw.ImageDraw,
    overlay: _Overlay,
    where: tuple[int, int],
    zoom: NDArray[np.float64],
    colour: Colour,
) -> None:
    index, value = where
    for layer, trace, mark in ((overlay.found, solid, cross), (overlay.truth, dotted, ring)):
        if layer.label_map is not None:
            for outline in outlines(layer.label_map[index] == value, zoom):
                trace(draw, outline, colour)
        point = layer.points.get(value)
        if point is not None and _slice_of(point, len(overlay.volume.array)) == index:
            row, column = (np.array(point[1:]) + 0.5) * zoom
            mark(draw, (float(column), float(row)), colour)


def _legend_entries(overlay: _Overlay) -> list[tuple[Colour, str]]:
    entries = [
        (colour, name if overlay.found.holds(value) else f"{name} (not found)")
        for (value, name), colour in zip(overlay.label_names.items(), cycle(_COLOURS), strict=False)
    ]
    has_truth = overlay.truth.label_map is not None or bool(overlay.truth.points)
    return entries + ([(_INK, "dotted, ring: truth")] if has_truth else [])


def _arrange(tiles: Sequence[Image.Image], columns: int, legend: Sequence[tuple[Colour, str]]) -> Image.Image:
    """Put the tiles in rows, and the legend below them."""
    width, height = tiles[0].size
    rows = -(-len(tiles) // columns)
    font = ImageFont.load_default(_FONT_PX)
    places, legend_height = _flow(legend, columns * width, font)
    sheet = Image.new("RGB", (columns * width, rows * height + legend_height), _BACKGROUND)
    for number, tile in enumerate(tiles):
        sheet.paste(tile, (number % columns * width, number // columns * height))
    draw = ImageDraw.Draw(sheet)
    for (x, y), (colour, name) in zip(places, legend, strict=True):
        top = rows * height + y
        draw.rectangle((x, top + 4, x + 12, top + 16), fill=colour)
        draw.text((x + 18, top), name, fill=_INK, font=font)
    return sheet


def _flow(
    legend: Sequence[tuple[Colour, str]], width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> tuple[list[tuple[int, int]], int]:
    """Place legend entries from left to right, wrapping at the sheet's edge; also return the height."""
    places, x, y = [], _MARGIN_PX, _MARGIN_PX
    for _, name in legend:
        needed = round(font.getlength(name)) + 18
        if x > _MARGIN_PX and x + needed > width - _MARGIN_PX:
            x, y = _MARGIN_PX, y + _LINE_PX
        places.append((x, y))
        x += needed + 2 * _MARGIN_PX
    return places, y + _LINE_PX + _MARGIN_PX
