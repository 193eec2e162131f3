"""Knee-like MR: sagittal slices of a knee with exact landmarks on patella and tibia.

Canonical frame: LPS mm with the origin in the middle of the joint; y runs to the back, z to the head.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from fewshot_node.evaluation import shapes as sh
from fewshot_node.evaluation.phantom_canvas import (
    Part,
    PoseRange,
    centred_affine,
    correlated_noise,
    draw_pose,
    render,
)
from fewshot_node.evaluation.phantom_records import Phantom, PhantomSettings, Position

KNEE_SETTINGS = PhantomSettings(slices=28, rows=160, columns=160, slice_mm=4.0, pixel_mm=1.0)
KNEE_LABELS = {1: "femur", 2: "tibia", 3: "patella"}
PATELLA_BASE = "KPB"
PATELLA_APEX = "KAL"
LIGAMENT_INSERTION = "KPLIP"
"""The paper's names for the landmarks of its knee task."""

_SAGITTAL = np.array([[-1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
_POSE = PoseRange(rotation_deg=6.0, shift_mm=6.0, size=0.08, wave_mm=1.3, wavelength_mm=(60.0, 160.0))


class _Knee:
    """The numbers in which one knee differs from another, and the points that hang on them."""

    def __init__(self, rng: np.random.Generator, variation: float) -> None:
        self.rng = rng
        self.variation = variation
        self.lateral = -1 if rng.random() < 0.5 else 1
        height = self.near(19, 2)
        middle = (self.near(0, 3), self.near(-47, 2), self.near(30, 4))
        self.patella = sh.ellipsoid(middle, (self.near(21, 2), self.near(9.5, 1), height), taper=0.25)
        self.base: Position = (middle[0], middle[1], middle[2] + height)
        self.apex: Position = (middle[0], middle[1], middle[2] - height)
        self.tuberosity_centre = (self.near(2 * self.lateral, 2), self.near(-12, 2), self.near(-42, 3))
        self.tuberosity_radii = (12.0, self.near(12, 1), 13.0)

    def near(self, value: float, spread: float) -> float:
        """Draw within `value` +- `spread`."""
        return value + spread * self.variation * float(self.rng.uniform(-1, 1))

    def tissue(self, value: float) -> float:
        """Draw a signal within 8 % of `value`."""
        return self.near(value, 0.08 * value)

    @property
    def insertion(self) -> Position:
        """Foremost point of the tibial tuberosity, where the patellar ligament ends."""
        x, y, z = self.tuberosity_centre
        return x, y - self.tuberosity_radii[1], z


def knee_mr(seed: int, settings: PhantomSettings = KNEE_SETTINGS) -> Phantom:
    """Make the knee of patient number `seed`: arbitrary MR units, three landmarks, bones as labels.

    Landmarks are the upper pole of the patella (KPB), its lower pole (KAL), and the insertion of the
    patellar ligament on the tibia (KPLIP). Left and right knees occur; the slices are a few degrees oblique.
    """
    rng = np.random.default_rng((2, seed))
    pose = draw_pose(rng, _POSE, settings.variation)
    knee = _Knee(rng, settings.variation)
    tilt = Rotation.from_euler("xyz", rng.uniform(-5, 5, 3) * settings.variation, degrees=True)
    affine = centred_affine(settings, tilt.as_matrix() @ _SAGITTAL)
    clean, label_map = render(_anatomy(knee), pose, affine, settings, background=0.0)
    return Phantom(
        kind="knee",
        seed=seed,
        settings=settings,
        array=_acquire(clean, rng, settings),
        label_map=label_map,
        labels=KNEE_LABELS,
        landmarks={name: pose.to_patient(place) for name, place in _landmarks(knee).items()},
        affine=affine,
        modality="MR",
        orientation="sagittal",
        laterality="R" if knee.lateral < 0 else "L",
    )


def _landmarks(knee: _Knee) -> Mapping[str, Position]:
    return {PATELLA_BASE: knee.base, PATELLA_APEX: knee.apex, LIGAMENT_INSERTION: knee.insertion}


def _acquire(clean: NDArray[np.float32], rng: np.random.Generator, settings: PhantomSettings) -> NDArray[np.float32]:
    """Add texture, the coil's bias field, gain and Rician noise."""
    texture = 1 + np.float32(0.05 * settings.noise) * correlated_noise(rng, clean.shape, (0.5, 1.2, 1.2))
    signal = clean * texture * _bias_field(rng, clean.shape, 0.35 * settings.noise)
    sigma = np.float32(rng.uniform(0.015, 0.035) * settings.noise)
    real, imaginary = rng.standard_normal((2, *clean.shape), dtype=np.float32) * sigma
    magnitude = np.hypot(signal + real, imaginary) * np.float32(rng.uniform(500, 1100))
    stored: NDArray[np.float32] = np.round(np.clip(magnitude, 0, 4095)).astype(np.float32)
    return stored


def _bias_field(rng: np.random.Generator, shape: tuple[int, ...], strength: float) -> NDArray[np.float32]:
    """Draw a smooth multiplicative field: the exponential of a random quadratic over the grid."""
    steps = (np.linspace(-1, 1, size, dtype=np.float32) for size in shape)
    axes = np.meshgrid(*steps, indexing="ij", sparse=True)
    linear, square = rng.uniform(-1, 1, (2, 3)).astype(np.float32)
    exponent = sum(a * axis + b * (axis * axis - 0.33) for a, b, axis in zip(linear, square, axes, strict=True))
    field: NDArray[np.float32] = np.exp(np.float32(strength / 2) * np.asarray(exponent)).astype(np.float32)
    return field


def _anatomy(knee: _Knee) -> list[Part]:
    femur, tibia = _femur(knee), _tibia(knee)
    tendon, fluid = knee.tissue(0.09), knee.tissue(0.72)
    cartilage, marrow = knee.tissue(0.58), knee.tissue(0.84)
    return [
        *_soft_tissue(knee),
        *_joint(knee, femur, tibia, fluid, cartilage),
        *_tendons(knee, tendon),
        *_bone(femur, marrow, 1),
        *_bone(tibia, marrow, 2),
        *_bone(knee.patella, marrow, 3),
        *_bone(sh.capsule((knee.lateral * 34, 30, -26), (knee.lateral * 36, 34, -130), 9, 6), marrow, 0),
    ]


def _bone(shape: sh.Shape, marrow: float, label: int) -> list[Part]:
    """Dark cortex of 1.6 mm around bright marrow."""
    return [Part(shape, 0.07, label=label), Part(sh.grown(shape, -1.6), marrow, label=None)]


def _femur(knee: _Knee) -> sh.Shape:
    shaft = sh.capsule((0, 2, 34), (0, -4, 150), knee.near(19, 2), knee.near(13, 1.5))
    condyles = sh.union(
        sh.ellipsoid((24, 7, 24), (20, 31, 23)),
        sh.ellipsoid((-24, 7, 24), (20, 31, 23)),
        sh.ellipsoid((0, -6, 30), (32, 25, 24)),
    )
    notch = sh.ellipsoid((0, 24, 8), (9, 26, 19))
    return sh.difference(sh.blend(condyles, shaft, 22), notch)


def _tibia(knee: _Knee) -> sh.Shape:
    plateau = sh.intersection(sh.ellipsoid((0, 7, -22), (42, 30, 24)), sh.half_space((0, 0, 1), -6.5))
    shaft = sh.capsule((0, 6, -34), (0, 8, -150), knee.near(21, 2), knee.near(13, 1.5))
    tuberosity = sh.ellipsoid(knee.tuberosity_centre, knee.tuberosity_radii)
    return sh.union(sh.blend(plateau, shaft, 20), tuberosity)


def _soft_tissue(knee: _Knee) -> list[Part]:
    fat, muscle = knee.tissue(0.95), knee.tissue(0.40)
    limb = sh.blend(
        sh.capsule((0, -3, 12), (0, 10, 150), knee.near(63, 2), knee.near(76, 3)),
        sh.capsule((0, -1, 0), (0, 14, -150), knee.near(60, 2), knee.near(56, 3)),
        20,
    )
    fascia = sh.grown(limb, -knee.near(7, 2.5))
    bellies = [sh.capsule((side * 28, 40, -6), (side * 22, 34, -120), 15, 27) for side in (-1, 1)]
    hamstrings = [sh.capsule((side * 36, 38, 18), (side * 30, 36, 130), 8, 28) for side in (-1, 1)]
    vastus = sh.capsule((0, -26, 58), (0, -30, 130), 9, 32)
    sides = [sh.capsule((side * 38, -12, 40), (side * 34, -14, 130), 12, 32) for side in (-1, 1)]
    deep = sh.capsule((0, 26, -40), (0, 28, -150), 12, 22)
    muscles = sh.intersection(sh.union(*bellies, *hamstrings, *sides, vastus, deep), fascia)
    artery = sh.capsule((4, 46, 160), (2, 46, -20), 4.0)
    vein = sh.capsule((-5, 49, 160), (-4, 48, -20), 3.4)
    return [
        Part(limb, 0.30),
        Part(sh.grown(limb, -1.5), fat),
        Part(muscles, muscle),
        Part(sh.shell(muscles, 1.0, 0.5), 0.6 * muscle),
        Part(sh.union(artery, vein), knee.tissue(0.14)),
    ]


def _joint(knee: _Knee, femur: sh.Shape, tibia: sh.Shape, fluid: float, cartilage: float) -> list[Part]:
    rind, top = knee.near(2.8, 0.5), sh.half_space((0, 0, 1), 44)
    pouch = sh.capsule((0, -32, 44), (0, -26, 66), 4, knee.near(3, 1.5))
    rims = [sh.ellipsoid((side * 21, 7, -3.5), (22, 26, 5.5)) for side in (-1, 1)]
    holes = [sh.ellipsoid((side * 21, 7, -3.5), (11, 13, 30)) for side in (-1, 1)]
    menisci = sh.difference(sh.union(*rims), *holes)
    backwards = sh.half_space((0, -1, 0), 42)
    return [
        Part(pouch, fluid),
        Part(sh.intersection(sh.grown(femur, rind), top, backwards), cartilage),
        Part(sh.intersection(sh.grown(tibia, rind), sh.half_space((0, 0, -1), 10)), cartilage),
        Part(menisci, knee.tissue(0.10)),
        Part(sh.capsule((5, 26, 20), (-3, 0, -6), 4.0), 0.16),
        Part(sh.capsule((-6, 10, 18), (0, 34, -12), 4.5), 0.10),
    ]


def _tendons(knee: _Knee, tendon: float) -> list[Part]:
    x, y, z = knee.base
    behind = sh.grown(knee.patella, 3.0)
    cartilage = sh.intersection(behind, sh.half_space((0, -1, 0), -(y + 1.5)))
    quadriceps = [sh.capsule((x + shift, y - 1, z - 5), (0.6 * shift, -40, 160), 4.6, 4.0) for shift in (-7, 0, 7)]
    ligament = [
        _band(np.add(knee.apex, (shift, -1, 2)), np.add(knee.insertion, (0.6 * shift, 0.5, 0)), 3.4)
        for shift in (-7, -3, 0, 3, 7)
    ]
    return [
        Part(cartilage, 0.58),
        Part(sh.union(*quadriceps), tendon),
        Part(sh.union(*ligament), tendon),
    ]


def _band(start: NDArray[np.float64], end: NDArray[np.float64], radius: float) -> sh.Shape:
    first, last = start.tolist(), end.tolist()
    return sh.capsule((first[0], first[1], first[2]), (last[0], last[1], last[2]), radius)
