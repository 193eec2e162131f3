"""From implicit shapes to voxels: pose of a patient, painting with partial volume, noise."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from fewshot_node.evaluation.phantom_records import PhantomSettings, Position
from fewshot_node.evaluation.shapes import Points, Shape
from fewshot_node.records import FloatArray, LabelArray

_VOXELS_AT_ONCE = 1_000_000
_WAVES = 6


@dataclass(frozen=True, slots=True)
class Part:
    """One shape and what it is made of; later parts lie over earlier ones.

    `label` None leaves the label map as it is (a vessel within the liver is still liver); 0 removes.
    """

    shape: Shape
    value: float
    label: int | None = 0
    posed: bool = True
    """False for what stays with the scanner, such as the couch."""


@dataclass(frozen=True, slots=True, eq=False)
class Pose:
    """How one patient differs from the canonical one: place, size and a smooth deformation.

    A canonical point is the rigidly moved and scaled patient point plus a sum of sine waves.
    `wave_vectors` is (waves, 3) in rad/mm, `amplitudes` (waves, 3) in mm, `phases` (waves,).
    """

    rotation: NDArray[np.float64]
    translation_mm: NDArray[np.float64]
    scale: NDArray[np.float64]
    wave_vectors: NDArray[np.float64]
    amplitudes: NDArray[np.float64]
    phases: NDArray[np.float64]

    def to_canonical(self, points: Points) -> Points:
        """Map patient points (3, ...) to the frame in which the shapes are written down."""
        shape = points.shape
        flat = points.reshape(3, -1)
        rigid = self.rotation.T.astype(points.dtype) @ (flat - self._column(self.translation_mm, flat))
        moved = rigid / self._column(self.scale, flat)
        return (moved + self._wave(moved)).astype(np.float32).reshape(shape)

    def to_patient(self, position: Position) -> Position:
        """Invert `to_canonical` for one point by fixed-point iteration."""
        goal = np.asarray(position, dtype=np.float64)[:, None]
        moved = goal
        for _ in range(200):
            moved = goal - self._wave(moved)
        patient = self.rotation @ (moved[:, 0] * self.scale) + self.translation_mm
        return float(patient[0]), float(patient[1]), float(patient[2])

    def _wave(self, points: FloatArray) -> FloatArray:
        argument = self.wave_vectors.astype(points.dtype) @ points + self._column(self.phases, points)
        displacement: FloatArray = self.amplitudes.T.astype(points.dtype) @ np.sin(argument)
        return displacement

    @staticmethod
    def _column(values: NDArray[np.float64], like: FloatArray) -> FloatArray:
        return values.astype(like.dtype)[:, None]


@dataclass(frozen=True, slots=True)
class PoseRange:
    """Largest rotation, shift, relative size difference and wave amplitude that a pose may have."""

    rotation_deg: float
    shift_mm: float
    size: float
    wave_mm: float
    wavelength_mm: tuple[float, float]


def draw_pose(rng: np.random.Generator, limits: PoseRange, variation: float) -> Pose:
    """Draw a patient's pose; `variation` scales every difference."""
    angles = rng.uniform(-1, 1, 3) * limits.rotation_deg * variation
    directions = rng.standard_normal((_WAVES, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    wavelengths = rng.uniform(*limits.wavelength_mm, (_WAVES, 1))
    common = rng.uniform(-1, 1)
    return Pose(
        rotation=Rotation.from_euler("xyz", angles, degrees=True).as_matrix(),
        translation_mm=rng.uniform(-1, 1, 3) * limits.shift_mm * variation,
        scale=1 + variation * limits.size * (0.7 * common + 0.3 * rng.uniform(-1, 1, 3)),
        wave_vectors=directions * 2 * np.pi / wavelengths,
        amplitudes=rng.uniform(-1, 1, (_WAVES, 3)) * limits.wave_mm * variation,
        phases=rng.uniform(0, 2 * np.pi, _WAVES),
    )


def centred_affine(settings: PhantomSettings, directions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Affine of a grid around the isocentre; columns of `directions` run along slices, rows, columns."""
    affine = np.eye(4)
    affine[:3, :3] = directions * [settings.slice_mm, settings.pixel_mm, settings.pixel_mm]
    middle = (np.array([settings.slices, settings.rows, settings.columns]) - 1) / 2
    affine[:3, 3] = -affine[:3, :3] @ middle
    return affine


def render(
    parts: Sequence[Part],
    pose: Pose,
    affine: NDArray[np.float64],
    settings: PhantomSettings,
    background: float,
) -> tuple[NDArray[np.float32], LabelArray]:
    """Paint all parts in order.

    Returns
    -------
    tuple
        Image float32 and label map uint8, both (slices, rows, columns). An edge is a ramp of one pixel in
        the image; in the label map a voxel belongs to the last part that holds its centre.
    """
    shape = (settings.slices, settings.rows, settings.columns)
    image = np.full(shape, background, dtype=np.float32)
    label_map = np.zeros(shape, dtype=np.uint8)
    for block in _blocks(settings):
        fixed = _positions(block, affine, settings)
        posed = pose.to_canonical(fixed)
        for part in parts:
            field = part.shape(posed if part.posed else fixed)
            cover = np.clip(np.float32(0.5) - field / np.float32(settings.pixel_mm), 0, 1)
            image[block] += cover * (np.float32(part.value) - image[block])
            if part.label is not None:
                label_map[block][field < 0] = part.label
    return image, label_map


def _blocks(settings: PhantomSettings) -> Iterator[slice]:
    """Split the slices so that the fields of one block stay within a few dozen megabytes."""
    step = max(1, _VOXELS_AT_ONCE // (settings.rows * settings.columns))
    for start in range(0, settings.slices, step):
        yield slice(start, min(start + step, settings.slices))


def _positions(block: slice, affine: NDArray[np.float64], settings: PhantomSettings) -> Points:
    indices = np.meshgrid(
        np.arange(block.start, block.stop, dtype=np.float32),
        np.arange(settings.rows, dtype=np.float32),
        np.arange(settings.columns, dtype=np.float32),
        indexing="ij",
    )
    linear, origin = affine[:3, :3].astype(np.float32), affine[:3, 3].astype(np.float32)
    positions: Points = np.tensordot(linear, np.stack(indices), axes=1) + origin[:, None, None, None]
    return positions


def correlated_noise(
    rng: np.random.Generator, shape: tuple[int, ...], sigma_px: tuple[float, float, float]
) -> NDArray[np.float32]:
    """Gaussian noise of unit standard deviation, smoothed over `sigma_px` (slices, rows, columns)."""
    noise = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma_px, mode="wrap")
    unit: NDArray[np.float32] = (noise / noise.std()).astype(np.float32)
    return unit
