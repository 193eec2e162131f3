"""Variants of annotated slices: the same anatomy at another pose, with other intensities (method, step 6)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform, zoom

from fewshot_node.errors import TaskError
from fewshot_node.records import LabelArray

_ROTATION_RAD = 0.17
_SCALE = 0.12
_SHIFT = 0.05
_GAMMA = 0.25
_BIAS = 0.2
_NOISE = 0.02
_BIAS_CELLS = 4


@dataclass(frozen=True, slots=True)
class AugmentSettings:
    """How many variants of each template slice are learnt from beside the slice itself; 0 switches it off."""

    count: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 0:
            raise TaskError(f"augment.count is {self.count}: give 0 (none) or more")


@dataclass(frozen=True, slots=True, eq=False)
class Pose:
    """Where each pixel of a varied slice comes from: ``matrix @ rc + offset`` in pixels of the slice."""

    matrix: NDArray[np.float64]
    offset: NDArray[np.float64]


def draw_poses(count: int, shape: tuple[int, int], rng: np.random.Generator) -> tuple[Pose, ...]:
    """Draw one pose a slice: rotation and scale about the middle, then a shift."""
    return tuple(_pose(np.array(shape), rng) for _ in range(count))


def vary_images(
    array: NDArray[np.float32], modality: str, poses: Sequence[Pose], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Bring each slice of float32 (slices, rows, columns) to its pose and vary its intensities.

    CT keeps its Hounsfield units: noise is added, contrast does not change.
    """
    low, high = (float(value) for value in np.percentile(array, (0.5, 99.5)))
    span = max(high - low, 1e-6)
    varied = np.empty_like(array)
    for index, (image, pose) in enumerate(zip(array, poses, strict=True)):
        moved = affine_transform(image, pose.matrix, pose.offset, order=1, mode="nearest")
        if modality != "CT":
            moved = _recontrast(moved, low, span, rng)
        varied[index] = moved + rng.normal(0, _NOISE * span, image.shape)
    return varied


def vary_labels(label_map: LabelArray, poses: Sequence[Pose]) -> LabelArray:
    """Bring each slice of a uint8 (slices, rows, columns) label map to its pose."""
    pairs = zip(label_map, poses, strict=True)
    moved = [affine_transform(labels, pose.matrix, pose.offset, order=0, mode="constant") for labels, pose in pairs]
    return np.stack(moved)


def _pose(shape: NDArray[np.int64], rng: np.random.Generator) -> Pose:
    angle = rng.uniform(-_ROTATION_RAD, _ROTATION_RAD)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = rotation @ np.diag(1 + rng.uniform(-_SCALE, _SCALE, 2))
    middle = (shape - 1) / 2
    return Pose(matrix, middle - matrix @ middle + rng.uniform(-_SHIFT, _SHIFT, 2) * shape)


def _recontrast(image: NDArray[np.float32], low: float, span: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Gamma, and a smooth gain as a receive coil leaves it."""
    unit = np.clip((image - low) / span, 0, None)
    coarse = rng.uniform(-_BIAS, _BIAS, (_BIAS_CELLS, _BIAS_CELLS))
    gain = zoom(coarse, np.array(image.shape) / _BIAS_CELLS, order=3)
    gamma = np.exp(rng.uniform(-_GAMMA, _GAMMA))
    varied: NDArray[np.float32] = (low + span * unit**gamma * np.exp(gain)).astype(np.float32)
    return varied
