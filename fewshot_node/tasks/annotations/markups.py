"""Points out of 3D Slicer's markups (.mrk.json), in LPS or RAS mm."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from fewshot_node.errors import TemplateError
from fewshot_node.tasks.annotations.json_values import three_numbers
from fewshot_node.tasks.annotations.placing import RAS_TO_LPS
from fewshot_node.tasks.annotations.records import Annotation, AnnotationFormat, NamedPoint, Target

_SYSTEMS = {"LPS": np.eye(3), "0": RAS_TO_LPS[:3, :3], "RAS": RAS_TO_LPS[:3, :3], "1": np.eye(3)}
"""By name, and by the numbers that Slicer's older files have."""
_DEFINED = ("defined", "preview")


def read(data: Mapping[str, Any], target: Target) -> Annotation:
    """Read the control points of all point lists; those that were not placed are absent.

    Raises
    ------
    TemplateError
        A list is of another kind or unit, states no coordinate system, or a position is not three numbers.
    """
    lists = data.get("markups")
    if not isinstance(lists, list) or not all(isinstance(one, dict) for one in lists):
        raise TemplateError(f"label file {target.path} holds no list of markups: save it from 3D Slicer again")
    points = tuple(point for one in lists for point in _points(one, target))
    return Annotation(AnnotationFormat.MARKUPS, points=points)


def _points(markups: Mapping[str, Any], target: Target) -> Iterator[NamedPoint]:
    kind = str(markups.get("type"))
    if kind != "Fiducial":
        raise TemplateError(f"label file {target.path} holds markups of type {kind}: give a point list (Fiducial)")
    if str(markups.get("coordinateUnits", "mm")) != "mm":
        raise TemplateError(f"label file {target.path} is not in mm (coordinateUnits): save it in mm")
    to_lps = _SYSTEMS.get(str(markups.get("coordinateSystem", "")).upper())
    if to_lps is None:
        raise TemplateError(f"label file {target.path} states neither LPS nor RAS (coordinateSystem): save it again")
    for number, point in enumerate(markups.get("controlPoints") or (), 1):
        if not isinstance(point, dict):
            raise TemplateError(f"label file {target.path}: control point {number} is no object: save it again")
        if point.get("positionStatus", "defined") not in _DEFINED:
            continue
        name = str(point.get("label") or f"point {number}").strip()
        position_mm = to_lps @ np.array(three_numbers(point.get("position"), name, target.path))
        s, r, c = target.volume.to_index(position_mm)
        yield NamedPoint((name,), (float(s), float(r), float(c)))
