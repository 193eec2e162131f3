"""Closed contours in millimetres to masks on the slices of a series."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from skimage.draw import polygon

from fewshot_node.errors import TemplateError
from fewshot_node.tasks.annotations.placing import span_mm
from fewshot_node.tasks.annotations.records import BoolArray, Target

_TOLERANCE_SLICES = 0.25
_SNAPPED_PIXELS = 0.02
"""Positions are written in rounded mm; a vertex so near to a pixel's centre was meant to be there."""


@dataclass(frozen=True, slots=True, eq=False)
class Contour:
    """A closed polygon on one slice; vertices are fractional (row, column) pixel centres."""

    slice_index: int
    vertices_rc: NDArray[np.float64]


def contour_from_mm(points_mm: NDArray[np.float64], target: Target, what: str) -> Contour | None:
    """Put a polygon, float (points, 3) in LPS mm, onto the slice that it lies in.

    Returns
    -------
    Contour | None
        None for one that lies beyond the series, where labels may be resampled.

    Raises
    ------
    TemplateError
        It crosses slices, lies between two of them or outside the series.
    """
    indices = target.volume.to_index(points_mm)
    heights = indices[:, 0]
    nearest = round(float(heights.mean()))
    off = float(np.abs(heights - nearest).max())
    spacing = target.volume.spacing_mm[0]
    inside = 0 <= nearest < len(target.volume.array)
    if not inside and not target.resample:
        low, high = points_mm.min(axis=0), points_mm.max(axis=0)
        where = ", ".join(f"{axis} {a:.0f}..{b:.0f}" for axis, a, b in zip("xyz", low, high, strict=True))
        raise TemplateError(
            f"label file {target.path}: a contour of {what} at {where} mm lies outside {target.series}, which spans "
            f"{span_mm(target)}: give the series that it was drawn on, or drop what lies outside with --resample"
        )
    if inside and off > (0.5 + _TOLERANCE_SLICES if target.resample else _TOLERANCE_SLICES):
        raise TemplateError(
            f"label file {target.path}: a contour of {what} lies up to {off * spacing:.2f} mm off the slices of "
            f"{target.series}, which are {spacing:.2f} mm apart: give the series that it was drawn on"
            + ("" if target.resample else ", or put it on the nearest slice with --resample")
        )
    return Contour(nearest, snapped(indices[:, 1:])) if inside else None


def snapped(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Move places that lie as good as on a pixel's centre onto it."""
    centres = np.rint(places)
    return np.where(np.abs(places - centres) < _SNAPPED_PIXELS, centres, places)


def fill(contours: Iterable[Contour], target: Target, what: str) -> BoolArray:
    """Return the mask, bool (slices, rows, columns), of the pixels whose centres lie in or on the contours.

    A contour inside another one of its slice is a hole (PS3.3 C.8.8.6.3), whose line belongs to what is around it.

    Raises
    ------
    TemplateError
        They hold no pixel of the series.
    """
    mask = np.zeros(target.volume.array.shape, dtype=np.bool_)
    for contour in sorted(contours, key=lambda one: -_area(one.vertices_rc)):
        _add(contour, mask[contour.slice_index])
    if not mask.any():
        raise TemplateError(
            f"label file {target.path}: {what} marks no pixel of {target.series}, which spans {span_mm(target)}: "
            "give the series that it was drawn on, or leave the structure out (--ignore-others or --map)"
        )
    return mask


def _add(contour: Contour, plane: BoolArray) -> None:
    rows, columns = contour.vertices_rc.T
    line = _line(contour.vertices_rc, plane.shape)
    inner = line.copy()
    inner[polygon(rows, columns, plane.shape)] = True  # type: ignore[no-untyped-call]
    if not inner.any():
        return
    if plane[inner].mean() > 0.5:
        plane &= ~inner | line
    else:
        plane |= inner


def _line(vertices: NDArray[np.float64], shape: tuple[int, ...]) -> BoolArray:
    """Return the pixels whose centres lie exactly on the line between vertices that are such centres too.

    Many programs trace the outermost pixels' centres, and go to the end of a tail one pixel wide and back: no area.
    """
    line = np.zeros(shape, dtype=np.bool_)
    whole = np.rint(vertices).astype(int)
    exact = (vertices == whole).all(axis=1)
    for start, end, both in zip(whole, np.roll(whole, -1, axis=0), exact & np.roll(exact, -1), strict=True):
        if both:
            steps = max(math.gcd(*np.abs(end - start).tolist()), 1)
            on_line = start + np.arange(steps + 1)[:, None] * ((end - start) // steps)
            inside = ((on_line >= 0) & (on_line < shape)).all(axis=1)
            line[tuple(on_line[inside].T)] = True
    return line


def _area(vertices: NDArray[np.float64]) -> float:
    rows, columns = vertices.T
    return float(abs(rows @ np.roll(columns, 1) - columns @ np.roll(rows, 1)) / 2)


def ellipse(ends_rc: NDArray[np.float64], vertices: int = 256) -> NDArray[np.float64]:
    """Return a polygon for an ellipse given by the ends of its two axes, float (4, n)."""
    centre = ends_rc.mean(axis=0)
    first, second = (ends_rc[1] - ends_rc[0]) / 2, (ends_rc[3] - ends_rc[2]) / 2
    angles = np.linspace(0, 2 * np.pi, vertices, endpoint=False)[:, None]
    around: NDArray[np.float64] = centre + np.cos(angles) * first + np.sin(angles) * second
    return around


def circle(points_rc: Sequence[Sequence[float]], vertices: int = 256) -> NDArray[np.float64]:
    """Return a polygon for a circle given by its centre and one point on it, float (2, 2)."""
    centre, edge = np.asarray(points_rc, dtype=np.float64)
    across = edge - centre
    aside = np.array([-across[1], across[0]])
    return ellipse(np.stack([centre - across, centre + across, centre - aside, centre + aside]), vertices)
