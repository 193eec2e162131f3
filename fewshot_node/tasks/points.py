"""Landmark positions in JSON files.

Two forms are read; a key is a label's name or its value, and a label that is not listed is absent::

    {"landmarks": {"KPB": {"position_mm": [12.5, -80.0, 33.0]},
                   "2": {"slice_index": 14, "row": 203.5, "column": 188.0}}}

    {"KPB": [12.5, -80.0, 33.0]}

Positions are LPS mm (the DICOM patient coordinate system, PS3.3 C.7.6.2.1.1); indices count from 0 in
the sorted volume, at voxel centres.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fewshot_node.errors import TemplateError
from fewshot_node.records import Label, Volume

_INDEX_KEYS = ("slice_index", "row", "column")
_REMEDY = 'write {"landmarks": {"NAME": {"position_mm": [x, y, z]}}}'


@dataclass(frozen=True, slots=True)
class LandmarkPoint:
    """One annotated landmark: the slice it lies on and where on it, in fractional pixels."""

    label_value: int
    slice_index: int
    row: float
    column: float


def read_points(path: Path, volume: Volume, labels: Sequence[Label]) -> tuple[LandmarkPoint, ...]:
    """Read the landmarks of a series, in the order of `labels`.

    Raises
    ------
    TemplateError
        The file is no such JSON, names an unknown label or one twice, or a point lies outside the image.
    """
    found: dict[int, LandmarkPoint] = {}
    for key, entry in _entries(path).items():
        label = _label_of(key, labels, path)
        if label.value in found:
            raise TemplateError(f"{path} gives landmark {label.name!r} twice: keep one")
        found[label.value] = _place(label, _index_of(key, entry, volume, path), volume, path)
    if not found:
        raise TemplateError(f"{path} holds no landmark: {_REMEDY}")
    return tuple(found[label.value] for label in labels if label.value in found)


def read_positions_mm(path: Path, volume: Volume, labels: Sequence[Label]) -> dict[int, tuple[float, float, float]]:
    """Read the landmarks of a series as label value -> LPS mm, exact between slices too.

    Raises
    ------
    TemplateError
        The file is no such JSON, or names an unknown label.
    """
    positions = {}
    for key, entry in _entries(path).items():
        x_mm, y_mm, z_mm = volume.to_mm(np.asarray(_index_of(key, entry, volume, path)))
        positions[_label_of(key, labels, path).value] = (float(x_mm), float(y_mm), float(z_mm))
    return positions


def _entries(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise TemplateError(f"label file {path} cannot be read as JSON: {_REMEDY}") from error
    entries = data.get("landmarks", data) if isinstance(data, dict) else None
    if not isinstance(entries, dict) or (entries is not data and len(data) > 1):
        raise TemplateError(f"{path} is no list of landmarks: {_REMEDY}")
    return entries


def _label_of(key: str, labels: Sequence[Label], path: Path) -> Label:
    for label in labels:
        if key.strip().casefold() == label.name.casefold() or key.strip() == str(label.value):
            return label
    known = ", ".join(f"{label.value}={label.name}" for label in labels)
    raise TemplateError(f"{path} names the landmark {key!r}, which the task does not know: it knows {known}")


def _index_of(key: str, entry: Any, volume: Volume, path: Path) -> tuple[float, float, float]:
    if isinstance(entry, dict) and set(entry) == set(_INDEX_KEYS):
        return _three_numbers([entry[name] for name in _INDEX_KEYS], key, path)
    if isinstance(entry, dict) and set(entry) == {"position_mm"}:
        entry = entry["position_mm"]
    s, r, c = volume.to_index(np.array(_three_numbers(entry, key, path)))
    return float(s), float(r), float(c)


def _three_numbers(value: Any, key: str, path: Path) -> tuple[float, float, float]:
    numbers = value if isinstance(value, list) else []
    plain = all(isinstance(one, int | float) and not isinstance(one, bool) and math.isfinite(one) for one in numbers)
    if len(numbers) != 3 or not plain:
        raise TemplateError(f"{path}: landmark {key!r} is not three numbers: {_REMEDY}")
    return float(numbers[0]), float(numbers[1]), float(numbers[2])


def _place(label: Label, index: tuple[float, float, float], volume: Volume, path: Path) -> LandmarkPoint:
    inside = all(-0.5 <= one <= size - 0.5 for one, size in zip(index, volume.array.shape, strict=True))
    if not inside:
        place = ", ".join(f"{one:.1f}" for one in index)
        raise TemplateError(
            f"{path}: landmark {label.name!r} lies outside series {volume.series_instance_uid}: "
            f"slice, row, column {place} of {volume.array.shape}. Give LPS mm (DICOM), not RAS (NIfTI)"
        )
    nearest = min(max(round(index[0]), 0), len(volume.array) - 1)
    return LandmarkPoint(label.value, nearest, index[1], index[2])
