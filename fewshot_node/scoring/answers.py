"""What is asked, what is answered, and what is true: images, predictions, and annotations of one case."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fewshot_node.records import LabelArray, Landmark


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """Images of a patient who gave no template.

    Attributes
    ----------
    array
        float32 (slices, rows, columns): HU for CT with negative values, else as stored.
    modality
        Modality (0008,0060).
    spacing_mm
        Distance of voxel centres along slices, rows and columns.
    """

    array: NDArray[np.float32]
    modality: str
    spacing_mm: tuple[float, float, float]

    def __post_init__(self) -> None:
        if self.array.ndim != 3 or self.array.dtype != np.float32:
            raise ValueError(f"query: {self.array.dtype} {self.array.shape} is not float32 (slices, rows, columns)")


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What a method says about a query.

    Attributes
    ----------
    label_map
        uint8, the shape of the query: the method's answer.
    coarse
        The same before refinement; None where the method has no such stage.
    landmarks
        One entry a label of a landmark task, absent ones included; empty for segmentation.
    reused_s
        Seconds of work that an earlier call had already done: the answer alone would have cost them too.
    """

    label_map: LabelArray
    coarse: LabelArray | None = None
    landmarks: tuple[Landmark, ...] = ()
    reused_s: float = 0.0


class Truth(Protocol):
    """The annotation of one image: a case of a suite, or a template."""

    @property
    def label_map(self) -> LabelArray:
        """uint8 (slices, rows, columns); empty where only points are known."""
        ...

    @property
    def points(self) -> Mapping[int, tuple[float, float, float]]:
        """Label value -> fractional (slice, row, column) of a landmark."""
        ...

    @property
    def spacing_mm(self) -> tuple[float, float, float] | None:
        """Along slices, rows and columns; None when it is not known."""
        ...
