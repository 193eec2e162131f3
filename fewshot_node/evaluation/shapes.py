"""Implicit shapes: functions that say how far outside a body a point lies.

A shape takes points, float32 (3, ...) in mm (x, y, z), and returns float32 (...): about the distance to the
surface in mm, negative inside. Boundaries are exact, distances away from them are approximate.
"""

from collections.abc import Callable
from functools import reduce

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float32]
Field = NDArray[np.float32]
Shape = Callable[[Points], Field]
Vector = tuple[float, float, float]

_TINY = 1e-6


def _column(vector: Vector, points: Points) -> Points:
    return np.asarray(vector, dtype=np.float32).reshape(3, *([1] * (points.ndim - 1)))


def ellipsoid(centre: Vector, radii: Vector, taper: float = 0.0) -> Shape:
    """Axis-aligned ellipsoid; `taper` > 0 widens its upper (+z) and narrows its lower half (egg shape)."""
    shortest = min(radii)

    def field(points: Points) -> Field:
        scaled = (points - _column(centre, points)) / _column(radii, points)
        if taper:
            scaled[:2] /= 1 + taper * np.clip(scaled[2], -1, 1)
        radius = np.sqrt((scaled * scaled).sum(axis=0))
        scaled /= _column(radii, points)
        gradient = np.sqrt((scaled * scaled).sum(axis=0))
        distance: Field = (radius - 1) * (radius + _TINY) / (gradient + np.float32(_TINY / shortest))
        return distance

    return field


def superellipse(centre_xy: tuple[float, float], radii_xy: tuple[float, float], power: float) -> Shape:
    """Endless cylinder along z whose section is a rounded box (`power` 2 is an ellipse)."""

    def field(points: Points) -> Field:
        u = np.abs(points[0] - np.float32(centre_xy[0])) / np.float32(radii_xy[0])
        v = np.abs(points[1] - np.float32(centre_xy[1])) / np.float32(radii_xy[1])
        distance: Field = ((u**power + v**power) ** (1 / power) - 1) * np.float32(min(radii_xy))
        return distance

    return field


def capsule(start: Vector, end: Vector, radius: float, end_radius: float | None = None) -> Shape:
    """Rod with round ends from `start` to `end`; its radius runs linearly from `radius` to `end_radius`."""
    axis = np.subtract(end, start)
    length2 = float(axis @ axis)
    growth = (radius if end_radius is None else end_radius) - radius

    def field(points: Points) -> Field:
        offset = points - _column(start, points)
        along = np.clip(np.tensordot(axis.astype(np.float32), offset, axes=1) / np.float32(length2), 0, 1)
        offset -= along[None] * _column((axis[0], axis[1], axis[2]), points)
        distance: Field = np.sqrt((offset * offset).sum(axis=0)) - np.float32(growth) * along
        distance -= np.float32(radius)
        return distance

    return field


def half_space(normal: Vector, offset: float) -> Shape:
    """Everything on the side of the plane ``normal . p = offset`` that the normal points away from."""
    direction = np.asarray(normal, dtype=np.float32)
    direction /= np.linalg.norm(direction)

    def field(points: Points) -> Field:
        distance: Field = np.tensordot(direction, points, axes=1) - np.float32(offset)
        return distance

    return field


def slabs(pitch: float, half_thickness: float, phase: float = 0.0, tilt: float = 0.0) -> Shape:
    """Parallel slabs, one every `pitch` mm along z; `tilt` lifts them with y (mm per mm)."""

    def field(points: Points) -> Field:
        height = (points[2] - np.float32(tilt) * points[1] - np.float32(phase)) / np.float32(pitch)
        distance: Field = np.abs(height - np.round(height)) * np.float32(pitch) - np.float32(half_thickness)
        return distance

    return field


def dome(top: Vector, fall: tuple[float, float]) -> Shape:
    """Everything above a paraboloid with its summit at `top`; it falls by d**2 / `fall` along x and y."""

    def field(points: Points) -> Field:
        x, y = points[0] - np.float32(top[0]), points[1] - np.float32(top[1])
        surface = top[2] - x * x / np.float32(fall[0]) - y * y / np.float32(fall[1])
        distance: Field = (surface - points[2]) * np.float32(0.7)
        return distance

    return field


def extruded(shape: Shape) -> Shape:
    """Section of a shape at z = 0, made endless along z."""

    def field(points: Points) -> Field:
        flat = points.copy()
        flat[2] = 0
        return shape(flat)

    return field


def union(*shapes: Shape) -> Shape:
    """Points of any of the shapes."""
    return lambda points: reduce(np.minimum, (shape(points) for shape in shapes))


def intersection(*shapes: Shape) -> Shape:
    """Points of all the shapes."""
    return lambda points: reduce(np.maximum, (shape(points) for shape in shapes))


def difference(shape: Shape, *removed: Shape) -> Shape:
    """Points of the first shape that none of the others holds."""
    return intersection(shape, *(complement(other) for other in removed))


def complement(shape: Shape) -> Shape:
    """Points outside a shape."""
    return lambda points: -shape(points)


def grown(shape: Shape, margin: float) -> Shape:
    """Shape with a margin in mm around it; a negative margin shrinks it."""
    return lambda points: shape(points) - np.float32(margin)


def shell(shape: Shape, depth: float, half_thickness: float) -> Shape:
    """Layer that lies `depth` mm below a shape's surface."""
    return lambda points: np.abs(shape(points) + np.float32(depth)) - np.float32(half_thickness)


def remembered(shape: Shape) -> Shape:
    """Shape that keeps its last field, for one that many others are cut with."""
    last: list[tuple[Points, Field]] = []

    def field(points: Points) -> Field:
        if not last or last[0][0] is not points:
            last[:] = [(points, shape(points))]
        return last[0][1]

    return field


def blend(first: Shape, second: Shape, radius: float) -> Shape:
    """Union whose crease is filled over about `radius` mm (polynomial smooth minimum)."""

    def field(points: Points) -> Field:
        a, b = first(points), second(points)
        overlap = np.clip(np.float32(radius) - np.abs(a - b), 0, None)
        distance: Field = np.minimum(a, b) - overlap * overlap / np.float32(4 * radius)
        return distance

    return field
