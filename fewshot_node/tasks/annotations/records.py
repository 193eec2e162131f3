"""What an annotation file says, whatever its format: regions and points on the grid of a series."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fewshot_node.records import Code, Volume

BoolArray = NDArray[np.bool_]
Index = tuple[float, float, float]


class AnnotationFormat(StrEnum):
    """The formats that are read; the value is what people call it."""

    SEG = "DICOM SEG"
    RTSTRUCT = "RTSTRUCT"
    REPORT = "TID 1500 SR"
    NIFTI = "NIfTI"
    NRRD = "NRRD"
    PNG = "PNG"
    PNG_LIST = "PNG + JSON"
    MARKUPS = "3D Slicer markups"
    POINTS_JSON = "JSON points"
    POINTS_CSV = "CSV points"


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """One labelled structure of a file.

    Attributes
    ----------
    number
        The file's own number of it: label value, segment or ROI number.
    names
        What the file calls it, the best first; empty where the file gives values only.
    draw
        Makes the mask, bool (slices, rows, columns); only called for regions that are wanted, since a file may
        hold a hundred.
    type
        Its coded concept, where the file states one.
    side
        ``"left"``, ``"right"`` or empty, where the file codes it apart from the name.
    """

    number: int
    names: tuple[str, ...]
    draw: Callable[[], BoolArray]
    type: Code | None = None
    side: str = ""


@dataclass(frozen=True, slots=True)
class NamedPoint:
    """One point: what the file calls it, and its fractional (slice, row, column) on the series."""

    names: tuple[str, ...]
    index: Index
    type: Code | None = None
    side: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Annotation:
    """All that a file says about a series; `notes` tell what was done to bring it there."""

    format: AnnotationFormat
    regions: tuple[Region, ...] = ()
    points: tuple[NamedPoint, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """The file to read and the series that it is read onto.

    Attributes
    ----------
    resample
        Whether labels on another grid are brought onto the series' (nearest neighbour) instead of refused.
    """

    path: Path
    volume: Volume
    resample: bool = False

    @property
    def series(self) -> str:
        """How a message names the series."""
        return f"series {self.volume.series_instance_uid}"


def value_regions(label_map: NDArray[np.integer], names: Mapping[int, tuple[str, ...]]) -> tuple[Region, ...]:
    """Return a region for each value of a label map that is on the grid already."""
    values = [int(value) for value in np.unique(label_map) if value]
    return tuple(Region(value, names.get(value, ()), _drawer(label_map, value)) for value in values)


def _drawer(label_map: NDArray[np.integer], value: int) -> Callable[[], BoolArray]:
    return lambda: label_map == value
