"""Random anatomy-like label maps: a body with layers, organs, bones, vessels and small structures inside.

A map is drawn twice, as two *variants*: the same structures with jittered shapes, as two patients have the
same anatomy. Labels say what must be told apart; materials say what looks alike. They differ on purpose:
vertebrae may look the same and carry different labels, and a label may hold structures of several materials.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import zoom

from fewshot_node.pretrain.anatomy import MAX_STRUCTURES, Blob, random_anatomy

OUTSIDE = 0
VARIANTS = 2

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class LabelMap:
    """Two variants of one synthetic anatomy, or more.

    Attributes
    ----------
    structures
        uint8 ``(variants, side, side)``: the structure at each pixel; 0 is outside the body.
    label_of
        uint8 ``(MAX_STRUCTURES,)``: structure to label; several structures may share one.
    material_of
        uint8 ``(MAX_STRUCTURES,)``: structure to material, which decides the look.
    """

    structures: NDArray[np.uint8]
    label_of: NDArray[np.uint8]
    material_of: NDArray[np.uint8]

    def __post_init__(self) -> None:
        if self.structures.dtype != np.uint8 or self.structures.ndim != 3 or len(self.structures) < VARIANTS:
            raise ValueError(f"structures must be uint8 ({VARIANTS} or more, side, side), not {self.structures.shape}")
        for name, table in (("label_of", self.label_of), ("material_of", self.material_of)):
            if table.shape != (MAX_STRUCTURES,) or table.dtype != np.uint8:
                raise ValueError(f"{name} must be uint8 ({MAX_STRUCTURES},), not {table.dtype} {table.shape}")

    def labels(self) -> NDArray[np.uint8]:
        """Return the label at each pixel, uint8 ``(variants, side, side)``."""
        return self.label_of[self.structures]


def _smooth_field(rng: np.random.Generator, nodes: int, side: int, amplitude: float) -> FloatArray:
    """Return a random displacement ``(2, side, side)`` that varies smoothly over ``side / nodes`` pixels."""
    coarse = rng.normal(0, amplitude, (2, nodes, nodes)).astype(np.float32)
    # Cubic once to a middling grid, then linear: a fifth of the time of cubic all the way.
    middle = zoom(coarse, (1, 4, 4), order=3, mode="nearest", grid_mode=True)
    factor = side / (4 * nodes)
    return np.asarray(zoom(middle, (1, factor, factor), order=1, mode="nearest"), np.float32)


def _paint(canvas: NDArray[np.uint8], coordinates: FloatArray, blob: Blob, value: int, unit_px: float) -> None:
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


def random_label_map(rng: np.random.Generator, side: int = 320, variants: int = VARIANTS) -> LabelMap:
    """Draw one synthetic anatomy in two variants, or more, on a ``side`` x ``side`` grid."""
    anatomy = random_anatomy(rng)
    unit_px = side * float(np.exp(rng.uniform(np.log(0.3), np.log(0.8))))
    stretch = float(np.exp(rng.normal(0, 0.2)))
    axis = (np.arange(side, dtype=np.float32) - side / 2) / np.float32(unit_px)
    plain = np.stack(np.broadcast_arrays(axis[None, :] * np.float32(stretch), axis[:, None]))
    shared = plain + _smooth_field(rng, 5, side, 0.06) + _smooth_field(rng, 12, side, 0.02)
    jitter = float(rng.uniform(0.02, 0.2))
    structures = np.zeros((variants, side, side), np.uint8)
    for variant in range(variants):
        coordinates = shared + _smooth_field(rng, 6, side, 0.25 * jitter)
        for structure, blobs in anatomy.parts:
            for blob in blobs:
                amount = jitter if len(blobs) < 3 else 0.0
                _paint(structures[variant], coordinates, blob.jittered(rng, amount), structure, unit_px)
        structures[variant][np.square(coordinates).sum(axis=0) > 2.2] = OUTSIDE
    return LabelMap(structures, anatomy.label_of, anatomy.material_of)
