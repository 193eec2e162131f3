"""Landmarks of a template: the slice that each lies on, and where on it."""

from dataclasses import dataclass

import numpy as np

from fewshot_node.errors import TemplateError
from fewshot_node.records import Label, Volume
from fewshot_node.tasks.annotations.records import Index, Target


@dataclass(frozen=True, slots=True)
class LandmarkPoint:
    """One annotated landmark: the slice it lies on and where on it, in fractional pixels."""

    label_value: int
    slice_index: int
    row: float
    column: float


def place_point(label: Label, index: Index, target: Target) -> LandmarkPoint:
    """Put a fractional (slice, row, column) onto the nearest slice.

    Raises
    ------
    TemplateError
        It lies outside the series; the message says where, in mm.
    """
    volume = target.volume
    inside = all(-0.5 <= one <= size - 0.5 for one, size in zip(index, volume.array.shape, strict=True))
    if not inside:
        place = ", ".join(f"{one:.1f}" for one in index)
        where = ", ".join(f"{one:.1f}" for one in volume.to_mm(np.asarray(index)))
        raise TemplateError(
            f"{target.path}: landmark {label.name!r} at {where} mm (LPS) lies outside {target.series}: "
            f"slice, row, column {place} of {volume.array.shape}. {_remedy(index, volume)}"
        )
    nearest = min(max(round(index[0]), 0), len(volume.array) - 1)
    return LandmarkPoint(label.value, nearest, index[1], index[2])


def _remedy(index: Index, volume: Volume) -> str:
    negated = volume.to_index(np.diag([-1.0, -1.0, 1.0]) @ volume.to_mm(np.asarray(index)))
    if all(-0.5 <= one <= size - 0.5 for one, size in zip(negated, volume.array.shape, strict=True)):
        return "With x and y negated it lies inside: give LPS mm (DICOM), not RAS (NIfTI)"
    return "Give the series that it was placed on, in LPS mm (DICOM), not RAS (NIfTI)"
