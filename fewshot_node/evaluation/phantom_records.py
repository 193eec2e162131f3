"""What a phantom is, and what may be asked of one."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewshot_node.records import LabelArray

Position = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class PhantomSettings:
    """Grid of a phantom and how strongly patients and images differ.

    Attributes
    ----------
    slices, rows, columns
        Size of the grid, whose centre is the isocentre.
    slice_mm, pixel_mm
        Distance between slice centres, and between pixel centres.
    variation
        Factor on the differences between patients (pose, size, shape); 0 gives one and the same anatomy.
    noise
        Factor on noise, texture and bias field; 0 gives a clean image.
    """

    slices: int
    rows: int
    columns: int
    slice_mm: float
    pixel_mm: float
    variation: float = 1.0
    noise: float = 1.0

    def __post_init__(self) -> None:
        if self.slices < 1 or min(self.rows, self.columns) < 2 or min(self.slice_mm, self.pixel_mm) <= 0:
            raise ValueError(f"phantom settings: the grid is empty: {self}")
        if not (0 <= self.variation <= 1.5 and self.noise >= 0):
            raise ValueError(f"phantom settings: variation not within 0..1.5, or noise negative: {self}")


@dataclass(frozen=True, slots=True, eq=False)
class Phantom:
    """One synthetic patient with exact truth.

    Attributes
    ----------
    kind
        What it looks like, one word: "torso" or "knee".
    array
        float32 (slices, rows, columns): Hounsfield units for CT, arbitrary units for MR.
    label_map
        uint8 (slices, rows, columns): the structure that holds the voxel's centre; 0 is background.
    labels
        Label value -> name.
    landmarks
        Name -> LPS position in mm, computed from the shapes and not from the grid.
    affine
        float64 (4, 4): (slice, row, column, 1) -> LPS mm.
    laterality
        "R" or "L" for one of a pair, as in Laterality (PS3.3 C.7.3.1), else empty.
    """

    kind: str
    seed: int
    settings: PhantomSettings
    array: NDArray[np.float32]
    label_map: LabelArray
    labels: Mapping[int, str]
    landmarks: Mapping[str, Position]
    affine: NDArray[np.float64]
    modality: str
    orientation: str
    laterality: str = ""

    def __post_init__(self) -> None:
        if self.array.dtype != np.float32 or self.label_map.dtype != np.uint8:
            raise ValueError("phantom: array is not float32 or label map is not uint8")
        if self.array.shape != self.label_map.shape or self.array.ndim != 3:
            raise ValueError("phantom: array and label map are not of one (slices, rows, columns)")

    def to_index(self, position_mm: Position) -> NDArray[np.float64]:
        """Fractional (slice, row, column) of an LPS position."""
        return np.linalg.solve(self.affine, np.array([*position_mm, 1.0]))[:3]
