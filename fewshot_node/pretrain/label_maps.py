"""Random anatomy-like label maps: a body with layers, organs, bones, vessels and small structures inside.

A map is drawn twice, as two *variants*: the same structures with jittered shapes, as two patients have the same
anatomy. Labels say what must be told apart; materials say what looks alike. They differ on purpose: vertebrae may
look the same and carry different labels, and a body label may hold unlabelled structures of other materials.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import zoom

MAX_STRUCTURES = 96
OUTSIDE = 0
VARIANTS = 2

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class LabelMap:
    """Two variants of one synthetic anatomy.

    Attributes
    ----------
    structures
        uint8 ``(2, side, side)``: the structure at each pixel; 0 is outside the body.
    label_of
        uint8 ``(MAX_STRUCTURES,)``: structure to label; several structures may share one.
    material_of
        uint8 ``(MAX_STRUCTURES,)``: structure to material, which decides the look.
    """

    structures: NDArray[np.uint8]
    label_of: NDArray[np.uint8]
    material_of: NDArray[np.uint8]

    def __post_init__(self) -> None:
        if self.structures.dtype != np.uint8 or self.structures.ndim != 3 or len(self.structures) != VARIANTS:
            raise ValueError(f"structures must be uint8 ({VARIANTS}, side, side), not {self.structures.shape}")
        for name, table in (("label_of", self.label_of), ("material_of", self.material_of)):
            if table.shape != (MAX_STRUCTURES,) or table.dtype != np.uint8:
                raise ValueError(f"{name} must be uint8 ({MAX_STRUCTURES},), not {table.dtype} {table.shape}")

    def labels(self) -> NDArray[np.uint8]:
        """Return the label at each pixel, uint8 ``(2, side, side)``."""
        return self.label_of[self.structures]


@dataclass(frozen=True, slots=True)
class _Blob:
    """A rotated superellipse in body coordinates, where the body's half width is about 1."""

    x: float
    y: float
    radius_x: float
    radius_y: float
    angle: float = 0.0
    squareness: int = 1

    def mirrored(self) -> "_Blob":
        return _Blob(-self.x, self.y, self.radius_x, self.radius_y, -self.angle, self.squareness)

    def jittered(self, rng: np.random.Generator, amount: float) -> "_Blob":
        size = float(np.sqrt(self.radius_x * self.radius_y))
        dx, dy, sx, sy, da = rng.normal(0.0, amount, 5)
        return _Blob(
            self.x + 0.5 * size * dx,
            self.y + 0.5 * size * dy,
            self.radius_x * float(np.exp(sx)),
            self.radius_y * float(np.exp(sy)),
            self.angle + da,
            self.squareness,
        )


class _Anatomy:
    """The list of structures that a map is painted from, later ones over earlier ones."""

    def __init__(self, rng: np.random.Generator, label_budget: int) -> None:
        self.rng = rng
        self.label_budget = label_budget
        self.parts: list[tuple[int, tuple[_Blob, ...]]] = []
        self.label_of = np.zeros(MAX_STRUCTURES, np.uint8)
        self.material_of = np.zeros(MAX_STRUCTURES, np.uint8)
        self._structures = self._labels = self._materials = 1

    @property
    def full(self) -> bool:
        return self._labels > self.label_budget or self._structures > MAX_STRUCTURES - 24

    def new_label(self) -> int:
        self._labels += 1
        return self._labels - 1

    def new_material(self) -> int:
        self._materials += 1
        return self._materials - 1

    def add(self, blobs: tuple[_Blob, ...], label: int, material: int) -> None:
        self.label_of[self._structures] = label
        self.material_of[self._structures] = material
        self.parts.append((self._structures, blobs))
        self._structures += 1


def _add_layers(anatomy: _Anatomy) -> None:
    """Add the body's tissue in one to three concentric layers."""
    inset = 1.0
    for _ in range(anatomy.rng.integers(1, 4)):
        squareness = int(anatomy.rng.integers(1, 3))
        anatomy.add((_Blob(0, 0, inset, inset, 0.0, squareness),), anatomy.new_label(), anatomy.new_material())
        inset *= float(anatomy.rng.uniform(0.75, 0.96))


def _add_distractors(anatomy: _Anatomy) -> None:
    """Add structures that are seen but belong to their host's label, as bowel does in an abdominal task."""
    rng = anatomy.rng
    host = int(anatomy.label_of[rng.integers(1, len(anatomy.parts) + 1)])
    for _ in range(rng.integers(0, 7)):
        anatomy.add((_random_blob(rng, 0.05, 0.3),), host, anatomy.new_material())


def _random_blob(rng: np.random.Generator, smallest: float, largest: float) -> _Blob:
    distance, direction = 0.85 * np.sqrt(rng.uniform()), rng.uniform(0, 2 * np.pi)
    size = float(np.exp(rng.uniform(np.log(smallest), np.log(largest))))
    aspect = float(np.exp(rng.normal(0, 0.3)))
    return _Blob(
        float(distance * np.cos(direction)),
        float(distance * np.sin(direction)),
        size * aspect,
        size / aspect,
        float(rng.uniform(0, np.pi)),
        int(rng.choice([1, 1, 2])),
    )


def _add_organ(anatomy: _Anatomy) -> None:
    """Add one organ, perhaps mirrored to the other side, perhaps with a nested part (cavity, cortex, lesion)."""
    rng = anatomy.rng
    blob = _random_blob(rng, 0.1, 0.5)
    material = anatomy.new_material()
    label = anatomy.new_label()
    # A lobe on the side keeps organs from being ellipses.
    lobe = _Blob(
        blob.x + float(rng.normal(0, blob.radius_x)),
        blob.y + float(rng.normal(0, blob.radius_y)),
        blob.radius_x * float(rng.uniform(0.4, 0.9)),
        blob.radius_y * float(rng.uniform(0.4, 0.9)),
        float(rng.uniform(0, np.pi)),
    )
    blobs = (blob, lobe) if rng.uniform() < 0.6 else (blob,)
    sides = [blobs]
    if rng.uniform() < 0.3:
        sides.append(tuple(part.mirrored() for part in blobs))
    same_label = rng.uniform() < 0.5
    inner_label = anatomy.new_label() if rng.uniform() < 0.4 else None
    inner_material, shrink = anatomy.new_material(), float(rng.uniform(0.35, 0.8))
    for side_number, side in enumerate(sides):
        own = label if side_number == 0 or same_label else anatomy.new_label()
        anatomy.add(side, own, material)
        if inner_label is not None:
            outer = side[0]
            inner = _Blob(
                outer.x, outer.y, outer.radius_x * shrink, outer.radius_y * shrink, outer.angle, outer.squareness
            )
            anatomy.add((inner,), inner_label, inner_material)


def _curve(rng: np.random.Generator, points: int, length: float, bend: float) -> FloatArray:
    """Return a smooth random curve, ``(points, 2)`` in body coordinates."""
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, bend / points, points) + rng.normal(0, bend) / points)
    steps = np.stack([np.cos(heading), np.sin(heading)], axis=1) * (length / points)
    track = np.cumsum(steps, axis=0)
    centre = rng.uniform(-0.45, 0.45, 2)
    return np.asarray(track - track.mean(axis=0) + centre, np.float32)


def _add_tube(anatomy: _Anatomy) -> None:
    """Add a vessel: a thin curved tube, with a wall now and then."""
    rng = anatomy.rng
    radius = float(np.exp(rng.uniform(np.log(0.015), np.log(0.07))))
    length = float(rng.uniform(0.3, 1.5))
    track = _curve(rng, min(24, int(length / radius) + 3), length, 1.2)
    shrink = [1.0, 0.6] if rng.uniform() < 0.25 else [1.0]
    for factor in shrink:
        blobs = tuple(_Blob(float(x), float(y), radius * factor, radius * factor) for x, y in track)
        anatomy.add(blobs, anatomy.new_label(), anatomy.new_material())


def _add_chain(anatomy: _Anatomy) -> None:
    """Add a row of bones with discs between, alike in look; each its own label, or all one label."""
    rng = anatomy.rng
    count = int(rng.integers(4, 9))
    length = float(rng.uniform(0.9, 1.9))
    track = _curve(rng, 2 * count, length, 0.5)
    pitch = length / count
    along, across = pitch * float(rng.uniform(0.3, 0.4)), pitch * float(rng.uniform(0.4, 0.75))
    own_labels = rng.uniform() < 0.6
    with_discs = rng.uniform() < 0.7
    bone, disc = anatomy.new_material(), anatomy.new_material()
    bone_label, disc_label = anatomy.new_label(), anatomy.new_label()
    for index in range(2 * count - 1):
        here, after = track[index], track[min(index + 1, 2 * count - 1)]
        angle = float(np.arctan2(after[1] - here[1], after[0] - here[0]))
        is_bone = index % 2 == 0
        if not is_bone and not with_discs:
            continue
        thickness = along if is_bone else max(0.5 * pitch - along, 0.02) * 0.8
        shared = bone_label if is_bone else disc_label
        label = anatomy.new_label() if own_labels and index > 1 else shared
        blob = _Blob(float(here[0]), float(here[1]), thickness, across, angle, 2)
        anatomy.add((blob,), label, bone if is_bone else disc)


def _add_ribs(anatomy: _Anatomy) -> None:
    """Add a ring of small bones near the body's surface, one label."""
    rng = anatomy.rng
    radius, size = float(rng.uniform(0.7, 0.9)), float(rng.uniform(0.03, 0.07))
    turns = np.linspace(0, 2 * np.pi, int(rng.integers(6, 15)), endpoint=False) + rng.uniform(0, 1)
    blobs = tuple(
        _Blob(radius * float(np.cos(t)), radius * float(np.sin(t)), size * 0.6, size * 1.6, float(t)) for t in turns
    )
    anatomy.add(blobs, anatomy.new_label(), anatomy.new_material())


def _add_landmark(anatomy: _Anatomy) -> None:
    """Add a structure of a few pixels."""
    blob = _random_blob(anatomy.rng, 0.02, 0.06)
    anatomy.add((blob,), anatomy.new_label(), anatomy.new_material())


_ADDERS: tuple[tuple[Callable[[_Anatomy], None], float], ...] = (
    (_add_organ, 0.5),
    (_add_tube, 0.17),
    (_add_landmark, 0.17),
    (_add_ribs, 0.06),
    (_add_chain, 0.10),
)


def _anatomy(rng: np.random.Generator) -> _Anatomy:
    anatomy = _Anatomy(rng, label_budget=int(rng.integers(6, 23)))
    _add_layers(anatomy)
    _add_distractors(anatomy)
    weights = np.array([weight for _, weight in _ADDERS])
    while not anatomy.full:
        _ADDERS[rng.choice(len(_ADDERS), p=weights)][0](anatomy)
    return anatomy


def _smooth_field(rng: np.random.Generator, nodes: int, side: int, amplitude: float) -> FloatArray:
    """Return a random displacement ``(2, side, side)`` that varies smoothly over about ``side / nodes`` pixels."""
    coarse = rng.normal(0, amplitude, (2, nodes, nodes)).astype(np.float32)
    # Cubic once to a middling grid, then linear: a fifth of the time of cubic all the way.
    middle = zoom(coarse, (1, 4, 4), order=3, mode="nearest", grid_mode=True)
    return np.asarray(zoom(middle, (1, side / (4 * nodes), side / (4 * nodes)), order=1, mode="nearest"), np.float32)


def _paint(canvas: NDArray[np.uint8], coordinates: FloatArray, blob: _Blob, value: int, unit_px: float) -> None:
    """Write ``value`` where the warped ``coordinates`` lie in ``blob``, looking only at its surroundings."""
    side = canvas.shape[0]
    reach = (max(blob.radius_x, blob.radius_y) * 1.45 + 0.35) * unit_px
    column, row = side / 2 + blob.x * unit_px, side / 2 + blob.y * unit_px
    rows = slice(max(0, int(row - reach)), max(0, int(row + reach) + 1))
    columns = slice(max(0, int(column - reach)), max(0, int(column + reach) + 1))
    x, y = coordinates[0, rows, columns] - blob.x, coordinates[1, rows, columns] - blob.y
    cosine, sine = np.float32(np.cos(blob.angle)), np.float32(np.sin(blob.angle))
    u = np.square((cosine * x + sine * y) * np.float32(1 / blob.radius_x))
    v = np.square((cosine * y - sine * x) * np.float32(1 / blob.radius_y))
    if blob.squareness == 2:
        u, v = np.square(u), np.square(v)
    canvas[rows, columns][u + v < 1] = value


def random_label_map(rng: np.random.Generator, side: int = 320) -> LabelMap:
    """Draw one synthetic anatomy in two variants on a ``side`` x ``side`` grid."""
    anatomy = _anatomy(rng)
    unit_px = side * float(np.exp(rng.uniform(np.log(0.3), np.log(0.8))))
    stretch = float(np.exp(rng.normal(0, 0.2)))
    axis = (np.arange(side, dtype=np.float32) - side / 2) / np.float32(unit_px)
    plain = np.stack(np.broadcast_arrays(axis[None, :] * np.float32(stretch), axis[:, None]))
    shared = plain + _smooth_field(rng, 5, side, 0.06) + _smooth_field(rng, 12, side, 0.02)
    jitter = float(rng.uniform(0.02, 0.2))
    structures = np.zeros((VARIANTS, side, side), np.uint8)
    for variant in range(VARIANTS):
        coordinates = shared + _smooth_field(rng, 6, side, 0.25 * jitter)
        for structure, blobs in anatomy.parts:
            for blob in blobs:
                amount = jitter if len(blobs) < 3 else 0.0
                _paint(structures[variant], coordinates, blob.jittered(rng, amount), structure, unit_px)
        structures[variant][np.square(coordinates).sum(axis=0) > 2.2] = OUTSIDE
    return LabelMap(structures, anatomy.label_of, anatomy.material_of)
