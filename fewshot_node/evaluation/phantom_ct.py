"""Torso-like CT: axial slices from the lungs to below the kidneys, with exact organ labels.

Canonical frame: LPS mm, x to the patient's left, y to the back, z to the head; the origin is the middle
of the upper abdomen.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewshot_node.evaluation import shapes as sh
from fewshot_node.evaluation.phantom_canvas import (
    Part,
    PoseRange,
    centred_affine,
    correlated_noise,
    draw_pose,
    render,
)
from fewshot_node.evaluation.phantom_records import Phantom, PhantomSettings

TORSO_SETTINGS = PhantomSettings(slices=40, rows=160, columns=160, slice_mm=5.0, pixel_mm=2.4)
TORSO_LABELS = {1: "liver", 2: "spleen", 3: "left kidney", 4: "right kidney"}

_AXIAL = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
_POSE = PoseRange(rotation_deg=4.0, shift_mm=7.0, size=0.07, wave_mm=2.6, wavelength_mm=(90.0, 220.0))


@dataclass(frozen=True, slots=True)
class _Contrast:
    """HU of what takes up contrast agent."""

    vessel: float
    vein: float
    liver: float
    spleen: float
    cortex: float
    medulla: float


_PHASES = (
    (0.15, _Contrast(vessel=42, vein=38, liver=60, spleen=50, cortex=33, medulla=31)),
    (0.15, _Contrast(vessel=290, vein=70, liver=72, spleen=120, cortex=175, medulla=75)),
    (0.50, _Contrast(vessel=160, vein=145, liver=108, spleen=122, cortex=178, medulla=145)),
    (0.20, _Contrast(vessel=105, vein=100, liver=88, spleen=94, cortex=140, medulla=150)),
)


class _Patient:
    """Draws the numbers in which one patient's organs differ."""

    def __init__(self, rng: np.random.Generator, variation: float) -> None:
        self.rng = rng
        self.variation = variation
        phase = _PHASES[int(rng.choice(len(_PHASES), p=[weight for weight, _ in _PHASES]))][1]
        self.contrast = phase

    def near(self, value: float, spread: float) -> float:
        """Draw within `value` +- `spread`."""
        return value + spread * self.variation * float(self.rng.uniform(-1, 1))

    def organ(self, centre: sh.Vector, radii: sh.Vector, taper: float = 0.0) -> sh.Shape:
        """Draw an ellipsoid near the given one: +-4 mm in place, +-10 % in each radius."""
        x, y, z = (self.near(value, 4) for value in centre)
        a, b, c = (self.near(value, 0.1 * value) for value in radii)
        return sh.ellipsoid((x, y, z), (a, b, c), taper)


def torso_ct(seed: int, settings: PhantomSettings = TORSO_SETTINGS) -> Phantom:
    """Make the torso of patient number `seed`: HU, and labels for liver, spleen and kidneys.

    Each patient has a pose, build, organ shapes and contrast phase of its own. The first and last slices
    hold none of the labelled organs at the default size.
    """
    rng = np.random.default_rng((1, seed))
    pose = draw_pose(rng, _POSE, settings.variation)
    patient = _Patient(rng, settings.variation)
    affine = centred_affine(settings, _AXIAL)
    image, label_map = render(_anatomy(patient), pose, affine, settings, background=-1000.0)
    return Phantom(
        kind="torso",
        seed=seed,
        settings=settings,
        array=_acquire(image, rng, settings),
        label_map=label_map,
        labels=TORSO_LABELS,
        landmarks={},
        affine=affine,
        modality="CT",
        orientation="axial",
    )


def _acquire(image: NDArray[np.float32], rng: np.random.Generator, settings: PhantomSettings) -> NDArray[np.float32]:
    """Add tissue texture and the correlated noise of a reconstruction, and clip to 12 bit."""
    tissue = np.float32(5.0 * settings.noise) * correlated_noise(rng, image.shape, (0.6, 2.0, 2.0))
    sigma = np.float32(rng.uniform(10, 18) * settings.noise)
    quantum = sigma * correlated_noise(rng, image.shape, (0, 0.6, 0.6))
    noisy = image + np.where(image > -300, tissue, np.float32(0)) + quantum
    clipped: NDArray[np.float32] = np.clip(np.round(noisy), -1024, 3071)
    return clipped


def _anatomy(patient: _Patient) -> list[Part]:
    fat = patient.near(13, 7)
    wall = sh.remembered(sh.superellipse((0, 2), (166 - fat, 114 - fat), 2.35))
    cavity = sh.remembered(sh.superellipse((0, -6), (150 - fat, 92 - fat), 2.3))
    above = sh.intersection(
        sh.union(
            sh.intersection(sh.dome((-66, -6, 56), (125, 230)), sh.half_space((1, 0, 0), 2)),
            sh.intersection(sh.dome((66, -4, 48), (115, 230)), sh.half_space((-1, 0, 0), 2)),
        ),
        sh.half_space((0, 0, -1), 12),
    )
    return [
        *_body(sh.superellipse((0, 0), (168, 117), 2.35), wall, cavity),
        *_bones(patient, wall),
        *_muscles(),
        *_bowel(patient, cavity),
        *_liver(patient, cavity, above),
        *_left_upper(patient, cavity, above),
        *_kidneys(patient, cavity),
        *_vessels(patient),
        *_chest(patient, cavity, above),
    ]


def _body(skin: sh.Shape, wall: sh.Shape, cavity: sh.Shape) -> list[Part]:
    couch = sh.intersection(
        sh.shell(sh.superellipse((0, -190), (345, 345), 2), 5, 8),
        sh.half_space((1, 0, 0), 175),
        sh.half_space((-1, 0, 0), 175),
        sh.half_space((0, -1, 0), 0),
    )
    return [
        Part(couch, 40, posed=False),
        Part(sh.grown(couch, -3), -860, posed=False),
        Part(skin, 25),
        Part(sh.grown(skin, -2.5), -102),
        Part(wall, 55),
        Part(sh.shell(wall, 11, 0.9), -70),
        Part(cavity, -98),
    ]


def _bones(patient: _Patient, wall: sh.Shape) -> list[Part]:
    phase = patient.near(0, 15)
    density = patient.near(1.0, 0.2)
    rib = sh.intersection(
        sh.shell(wall, 6, 3.6),
        sh.slabs(27, 6, phase, tilt=0.5),
        sh.half_space((0, -0.42, -1), 22),
        sh.complement(sh.superellipse((0, 96), (26, 40), 2)),
    )
    bodies = sh.complement(sh.slabs(34, 4, phase))
    column = sh.superellipse((0, 60), (22, 16), 2.2)
    laminae = [sh.capsule((side * 15, 72, 0), (0, 96, 0), 4.5) for side in (-1, 1)]
    process = sh.superellipse((0, 101), (4, 11), 2)
    transverse = sh.intersection(sh.extruded(sh.capsule((-40, 82, 0), (40, 82, 0), 4.5)), sh.slabs(34, 7, phase + 17))
    spine = sh.intersection(sh.union(process, sh.extruded(sh.union(*laminae))), sh.slabs(34, 12, phase + 15))
    return [
        Part(rib, 620 * density),
        Part(sh.grown(rib, -1.9), 260 * density),
        Part(sh.union(transverse, spine), 480 * density),
        Part(sh.grown(column, 0.5), 85),
        Part(sh.intersection(column, bodies), 560 * density),
        Part(sh.intersection(sh.grown(column, -2.5), bodies), 210 * density),
        Part(sh.superellipse((0, 83), (9.5, 7.5), 2), 22),
    ]


def _muscles() -> list[Part]:
    erector = [sh.superellipse((side * 31, 93), (21, 11.5), 2.3) for side in (-1, 1)]
    psoas = [sh.capsule((side * 26, 60, 10), (side * 42, 52, -140), 6, 19) for side in (-1, 1)]
    return [
        Part(sh.grown(sh.union(*erector), 2.0), -60),
        Part(sh.union(*erector), 56),
        Part(sh.union(*psoas), 58),
    ]


def _bowel(patient: _Patient, cavity: sh.Shape) -> list[Part]:
    rng, inside = patient.rng, sh.grown(cavity, -3)
    loops: list[Part] = []
    for _ in range(26):
        start = np.array([rng.uniform(-85, 95), rng.uniform(-75, 5), rng.uniform(-120, -18)])
        bend = start + rng.uniform(-45, 45, 3) * [1, 0.5, 0.5]
        loop = sh.intersection(sh.capsule(_vector(start), _vector(bend), rng.uniform(10, 16)), inside)
        loops += [Part(loop, rng.uniform(30, 75)), Part(sh.grown(loop, -2.2), rng.uniform(5, 40))]
        if rng.random() < 0.35:
            gas = sh.intersection(sh.grown(loop, -3), sh.half_space((0, 1, 0), float(start[1]) - 2))
            loops.append(Part(gas, -850))
    for x, top in ((-112.0, -45.0), (112.0, -12.0)):
        colon = sh.intersection(
            sh.capsule((x, 14, top), (x * 0.97, 14, -150), patient.near(17, 3)), sh.grown(cavity, -2)
        )
        gas = sh.intersection(sh.grown(colon, -2.5), sh.half_space((0, 1, 0), patient.near(6, 5)))
        loops += [Part(colon, 50), Part(sh.grown(colon, -2.5), patient.near(20, 40)), Part(gas, -830)]
    return loops


def _left_upper(patient: _Patient, cavity: sh.Shape, above: sh.Shape) -> list[Part]:
    below = sh.complement(sh.grown(above, 3))
    stomach = sh.intersection(
        sh.blend(patient.organ((52, -28, 22), (42, 36, 40)), patient.organ((18, -46, -6), (38, 20, 20)), 14),
        sh.grown(cavity, -3),
        below,
    )
    level = patient.near(-46, 9)
    spleen = sh.difference(
        sh.intersection(patient.organ((98, 24, 14), (33, 46, 43)), sh.grown(cavity, -3), below),
        sh.grown(stomach, 4),
        patient.organ((62, 30, 12), (24, 26, 26)),
    )
    inner = sh.grown(stomach, -3.5)
    pancreas = sh.capsule((-28, 2, -14), (66, 8, 8), patient.near(12, 2), 9)
    return [
        Part(pancreas, 0.5 * patient.contrast.spleen + 30),
        Part(stomach, 68),
        Part(inner, patient.near(14, 18)),
        Part(sh.intersection(inner, sh.half_space((0, 1, 0), level)), -880),
        Part(spleen, patient.near(patient.contrast.spleen, 8), label=2),
    ]


def _liver(patient: _Patient, cavity: sh.Shape, above: sh.Shape) -> list[Part]:
    right = patient.organ((-76, -6, 0), (66, 82, 66), taper=0.25)
    left = patient.organ((-22, -46, 24), (44, 36, 27))
    gallbladder = patient.organ((-42, -42, -28), (13, 20, 17))
    liver = sh.difference(
        sh.intersection(sh.blend(right, left, 24), sh.grown(cavity, -3)),
        sh.grown(above, 3),
        sh.grown(gallbladder, 2),
        patient.organ((-28, 36, -14), (27, 30, 70)),
        patient.organ((-30, 2, -48), (36, 36, 36)),
    )
    hilum = (-30.0, -8.0, 2.0)
    ends = patient.rng.uniform((-120, -60, -30), (-40, 50, 42), (7, 3))
    vessels = sh.union(*(sh.capsule(hilum, _vector(end), 4.2, 1.6) for end in ends))
    return [
        Part(liver, patient.near(patient.contrast.liver, 10), label=1),
        Part(sh.intersection(vessels, sh.grown(liver, -3)), patient.contrast.vein + 8, label=None),
        Part(gallbladder, patient.near(9, 6)),
    ]


def _kidneys(patient: _Patient, cavity: sh.Shape) -> list[Part]:
    parts: list[Part] = []
    for side, height, label in ((1, -8.0, 3), (-1, -20.0, 4)):
        x, y, z = side * patient.near(64, 4), patient.near(40, 4), patient.near(height, 5)
        whole = sh.ellipsoid((x, y, z), (patient.near(27, 3), patient.near(29, 3), patient.near(47, 5)))
        sinus = sh.ellipsoid((x - side * 17, y - 6, z), (16, 9, 19))
        kidney = sh.difference(sh.intersection(whole, sh.grown(cavity, 1)), sinus)
        pelvis = sh.capsule((x - side * 12, y - 6, z), (x - side * 26, y - 4, z - 14), 4)
        parts += [
            Part(sh.grown(whole, 5), -104),
            Part(kidney, patient.contrast.cortex, label=label),
            Part(sh.grown(kidney, -6), patient.contrast.medulla, label=None),
            Part(pelvis, 12),
        ]
    return parts


def _vessels(patient: _Patient) -> list[Part]:
    top, bottom = (patient.near(10, 3), 33.0, 140.0), (patient.near(4, 3), 33.0, -140.0)
    aorta = sh.capsule(top, bottom, patient.near(11, 1.5), 9)
    cava = sh.superellipse((patient.near(-19, 3), 33), (13, 9.5), 2)
    below_heart = sh.half_space((0, 0, 1), 62)
    return [
        Part(sh.intersection(cava, below_heart), patient.contrast.vein),
        Part(aorta, patient.contrast.vessel),
    ]


def _chest(patient: _Patient, cavity: sh.Shape, above: sh.Shape) -> list[Part]:
    heart = patient.organ((18, -34, 92), (58, 44, 36))
    mediastinum = sh.superellipse((2, -6), (23, 78), 2.2)
    lungs = sh.difference(sh.intersection(above, sh.grown(cavity, 1)), sh.grown(heart, 4), mediastinum)
    rng = patient.rng
    ends = rng.uniform((50, -50, 30), (110, 55, 110), (16, 3))
    ends[::2, 0] *= -1
    branches = [sh.capsule((np.sign(end[0]) * 30, 10, 80), _vector(end), 4, 1.3) for end in ends]
    blood = max(45.0, 0.8 * patient.contrast.vessel)
    return [
        Part(sh.grown(heart, 4), -60),
        Part(heart, 60),
        Part(sh.grown(heart, -9), blood),
        Part(lungs, patient.near(-840, 40)),
        Part(sh.intersection(sh.union(*branches), lungs), -40),
    ]


def _vector(values: Sequence[float] | NDArray[np.float64]) -> sh.Vector:
    return float(values[0]), float(values[1]), float(values[2])
