"""Random anatomies: lists of simple shapes, each with the label it carries and the material it looks like."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_STRUCTURES = 96


@dataclass(frozen=True, slots=True)
class Blob:
    """A rotated superellipse in body coordinates, where the body's half width is about 1."""

    x: float
    y: float
    radius_x: float
    radius_y: float
    angle: float = 0.0
    squareness: int = 1

    def mirrored(self) -> "Blob":
        """Return the same shape on the other side of the body."""
        return Blob(-self.x, self.y, self.radius_x, self.radius_y, -self.angle, self.squareness)

    def jittered(self, rng: np.random.Generator, amount: float) -> "Blob":
        """Return the shape as another patient has it; ``amount`` is relative to its size."""
        size = float(np.sqrt(self.radius_x * self.radius_y))
        dx, dy, sx, sy, da = rng.normal(0.0, amount, 5)
        return Blob(
            self.x + 0.5 * size * dx,
            self.y + 0.5 * size * dy,
            self.radius_x * float(np.exp(sx)),
            self.radius_y * float(np.exp(sy)),
            self.angle + da,
            self.squareness,
        )


class Anatomy:
    """The list of structures that a map is painted from, later ones over earlier ones."""

    def __init__(self, rng: np.random.Generator, label_budget: int) -> None:
        self.rng = rng
        self.label_budget = label_budget
        self.parts: list[tuple[int, tuple[Blob, ...]]] = []
        self.label_of = np.zeros(MAX_STRUCTURES, np.uint8)
        self.material_of = np.zeros(MAX_STRUCTURES, np.uint8)
        self._structures = self._labels = self._materials = 1

    @property
    def full(self) -> bool:
        """Whether the labels, or the places for structures, are used up."""
        return self._labels > self.label_budget or self._structures > MAX_STRUCTURES - 24

    def new_label(self) -> int:
        """Return a label that no structure carries yet."""
        self._labels += 1
        return self._labels - 1

    def new_material(self) -> int:
        """Return a material that no structure is made of yet."""
        self._materials += 1
        return self._materials - 1

    def add(self, blobs: tuple[Blob, ...], label: int, material: int) -> None:
        """Put a structure on top of those added before."""
        self.label_of[self._structures] = label
        self.material_of[self._structures] = material
        self.parts.append((self._structures, blobs))
        self._structures += 1


def _add_layers(anatomy: Anatomy) -> None:
    """Add the body's tissue in one to three concentric layers."""
    inset = 1.0
    for _ in range(anatomy.rng.integers(1, 4)):
        squareness = int(anatomy.rng.integers(1, 3))
        layer = Blob(0, 0, inset, inset, 0.0, squareness)
        anatomy.add((layer,), anatomy.new_label(), anatomy.new_material())
        inset *= float(anatomy.rng.uniform(0.75, 0.96))


def _add_distractors(anatomy: Anatomy) -> None:
    """Add structures that are seen but belong to their host's label, as bowel does in an abdominal task."""
    rng = anatomy.rng
    host = int(anatomy.label_of[rng.integers(1, len(anatomy.parts) + 1)])
    for _ in range(rng.integers(0, 7)):
        anatomy.add((_random_blob(rng, 0.05, 0.3),), host, anatomy.new_material())


def _random_blob(rng: np.random.Generator, smallest: float, largest: float) -> Blob:
    distance, direction = 0.85 * np.sqrt(rng.uniform()), rng.uniform(0, 2 * np.pi)
    size = float(np.exp(rng.uniform(np.log(smallest), np.log(largest))))
    aspect = float(np.exp(rng.normal(0, 0.3)))
    return Blob(
        float(distance * np.cos(direction)),
        float(distance * np.sin(direction)),
        size * aspect,
        size / aspect,
        float(rng.uniform(0, np.pi)),
        int(rng.choice([1, 1, 2])),
    )


def _add_organ(anatomy: Anatomy) -> None:
    """Add an organ, perhaps on both sides, perhaps with a nested part (cavity, cortex, lesion)."""
    rng = anatomy.rng
    blob = _random_blob(rng, 0.1, 0.5)
    material = anatomy.new_material()
    label = anatomy.new_label()
    # A lobe on the side keeps organs from being ellipses.
    lobe = Blob(
        blob.x + float(rng.normal(0, blob.radius_x)),
        blob.y + float(rng.normal(0, blob.radius_y)),
        blob.radius_x * float(rng.uniform(0.4, 0.9)),
        blob.radius_y * float(rng.uniform(0.4, 0.9)),
        float(rng.uniform(0, np.pi)),
    )
    blobs: tuple[Blob, ...] = (blob, lobe) if rng.uniform() < 0.6 else (blob,)
    sides: list[tuple[Blob, ...]] = [blobs]
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
            inner = Blob(
                outer.x,
                outer.y,
                outer.radius_x * shrink,
                outer.radius_y * shrink,
                outer.angle,
                outer.squareness,
            )
            anatomy.add((inner,), inner_label, inner_material)


def _curve(rng: np.random.Generator, points: int, length: float, bend: float) -> NDArray[np.float32]:
    """Return a smooth random curve, ``(points, 2)`` in body coordinates."""
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, bend / points, points) + rng.normal(0, bend) / points)
    steps = np.stack([np.cos(heading), np.sin(heading)], axis=1) * (length / points)
    track = np.cumsum(steps, axis=0)
    centre = rng.uniform(-0.45, 0.45, 2)
    return np.asarray(track - track.mean(axis=0) + centre, np.float32)


def _add_tube(anatomy: Anatomy) -> None:
    """Add a vessel: a thin curved tube, with a wall now and then."""
    rng = anatomy.rng
    radius = float(np.exp(rng.uniform(np.log(0.015), np.log(0.07))))
    length = float(rng.uniform(0.3, 1.5))
    track = _curve(rng, min(24, int(length / radius) + 3), length, 1.2)
    shrink = [1.0, 0.6] if rng.uniform() < 0.25 else [1.0]
    for factor in shrink:
        blobs = tuple(Blob(float(x), float(y), radius * factor, radius * factor) for x, y in track)
        anatomy.add(blobs, anatomy.new_label(), anatomy.new_material())


def _add_chain(anatomy: Anatomy) -> None:
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
        blob = Blob(float(here[0]), float(here[1]), thickness, across, angle, 2)
        anatomy.add((blob,), label, bone if is_bone else disc)


def _add_ribs(anatomy: Anatomy) -> None:
    """Add a ring of small bones near the body's surface, one label."""
    rng = anatomy.rng
    radius, size = float(rng.uniform(0.7, 0.9)), float(rng.uniform(0.03, 0.07))
    turns = np.linspace(0, 2 * np.pi, int(rng.integers(6, 15)), endpoint=False) + rng.uniform(0, 1)
    blobs = tuple(
        Blob(radius * float(np.cos(t)), radius * float(np.sin(t)), size * 0.6, size * 1.6, float(t)) for t in turns
    )
    anatomy.add(blobs, anatomy.new_label(), anatomy.new_material())


def _add_landmark(anatomy: Anatomy) -> None:
    """Add a structure of a few pixels."""
    blob = _random_blob(anatomy.rng, 0.02, 0.06)
    anatomy.add((blob,), anatomy.new_label(), anatomy.new_material())


_ADDERS: tuple[tuple[Callable[[Anatomy], None], float], ...] = (
    (_add_organ, 0.5),
    (_add_tube, 0.17),
    (_add_landmark, 0.17),
    (_add_ribs, 0.06),
    (_add_chain, 0.10),
)


def random_anatomy(rng: np.random.Generator) -> Anatomy:
    """Draw the layers, distractors, organs, tubes, bones and landmarks of one body."""
    anatomy = Anatomy(rng, label_budget=int(rng.integers(6, 23)))
    _add_layers(anatomy)
    _add_distractors(anatomy)
    weights = np.array([weight for _, weight in _ADDERS])
    while not anatomy.full:
        _ADDERS[rng.choice(len(_ADDERS), p=weights)][0](anatomy)
    return anatomy
