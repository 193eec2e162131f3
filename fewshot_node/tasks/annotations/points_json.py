"""Landmark positions in JSON files of this program's own form.

A key is a label's name or its value, and a label that is not listed is absent::

    {"landmarks": {"KPB": {"position_mm": [12.5, -80.0, 33.0]},
                   "2": {"slice_index": 14, "row": 203.5, "column": 188.0}}}

    {"KPB": [12.5, -80.0, 33.0]}

    {"KPB": [188.0, 203.5]}

Positions are LPS mm (the DICOM patient coordinate system, PS3.3 C.7.6.2.1.1); indices count from 0 in the sorted
volume, at voxel centres. Two numbers are column and row, of a series of one slice.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fewshot_node.errors import TemplateError
from fewshot_node.tasks.annotations.json_values import POINTS_REMEDY, three_numbers
from fewshot_node.tasks.annotations.records import Annotation, AnnotationFormat, Index, NamedPoint, Target

_INDEX_KEYS = ("slice_index", "row", "column")


def read(data: Any, target: Target) -> Annotation:
    """Read the landmarks of a file's content.

    Raises
    ------
    TemplateError
        It is no list of landmarks, or an entry has another form.
    """
    points = tuple(NamedPoint((key,), _index_of(key, entry, target)) for key, entry in _entries(data, target).items())
    return Annotation(AnnotationFormat.POINTS_JSON, points=points)


def _entries(data: Any, target: Target) -> Mapping[str, Any]:
    entries = data.get("landmarks", data) if isinstance(data, dict) else None
    if not isinstance(entries, dict) or (entries is not data and len(data) > 1):
        raise TemplateError(f"{target.path} is no list of landmarks: {POINTS_REMEDY}")
    return entries


def _index_of(key: str, entry: Any, target: Target) -> Index:
    if isinstance(entry, dict) and set(entry) == set(_INDEX_KEYS):
        return three_numbers([entry[name] for name in _INDEX_KEYS], key, target.path)
    if isinstance(entry, dict) and set(entry) == {"position_mm"}:
        entry = entry["position_mm"]
    if isinstance(entry, list) and len(entry) == 2 and len(target.volume.array) == 1:
        _, column, row = three_numbers([0, *entry], key, target.path)
        return 0.0, row, column
    s, r, c = target.volume.to_index(np.array(three_numbers(entry, key, target.path)))
    return float(s), float(r), float(c)
