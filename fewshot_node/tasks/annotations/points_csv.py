"""Points in tables: CSV with a header, or 3D Slicer's .fcsv.

A column ``label`` (or ``name``) names the points. Where they lie say ``x, y, z`` (LPS mm; also ``x_mm``, ``l, p, s``),
``r, a, s`` (RAS mm), or ``slice_index, row, column`` (from 0, at voxel centres; also ``slice``). Comma, semicolon or
tab separates; with a semicolon or tab a decimal comma is read.
"""

import csv
import math
from collections.abc import Iterator, Sequence

import numpy as np

from fewshot_node.errors import TemplateError
from fewshot_node.tasks.annotations.placing import RAS_TO_LPS
from fewshot_node.tasks.annotations.recognise import READABLE
from fewshot_node.tasks.annotations.records import Annotation, AnnotationFormat, Index, NamedPoint, Target

_NAMES = ("label", "name", "landmark", "point")
_PLACES: tuple[tuple[tuple[str, ...], str], ...] = (
    (("slice_index", "row", "column"), "index"),
    (("slice", "row", "column"), "index"),
    (("l", "p", "s"), "LPS"),
    (("r", "a", "s"), "RAS"),
    (("x_mm", "y_mm", "z_mm"), "LPS"),
    (("x", "y", "z"), "LPS"),
)
_FCSV_SYSTEMS = {"0": "RAS", "RAS": "RAS", "1": "LPS", "LPS": "LPS"}
_SHOWN = 120
_REMEDY = "write a first line label,x,y,z (LPS mm), label,r,a,s (RAS mm) or label,slice_index,row,column"


def read(text: str, target: Target) -> Annotation:
    """Read the points of a table.

    Raises
    ------
    TemplateError
        The columns are not named, or a row is not a name and three numbers.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    comments = [line for line in lines if line.startswith("#")]
    rows = [line for line in lines if not line.startswith("#")]
    header, system = _fcsv(comments) if comments else ([], "")
    separator = max(",;\t", key=(rows[0] if rows else "").count)
    table = list(csv.reader(rows, delimiter=separator))
    if not header and table:
        header, table = [name.strip().lower() for name in table[0]], table[1:]
    return Annotation(AnnotationFormat.POINTS_CSV, points=tuple(_points(header, table, system, target)))


def _fcsv(comments: Sequence[str]) -> tuple[list[str], str]:
    """Return the columns and the coordinate system that the comments of an .fcsv file state."""
    stated = {key.strip(" #").lower(): value.strip() for key, _, value in (line.partition("=") for line in comments)}
    columns = [name.strip().lower() for name in stated.get("columns", "").split(",") if name.strip()]
    return columns, _FCSV_SYSTEMS.get(stated.get("coordinatesystem", "").upper(), "")


def _points(header: Sequence[str], table: Sequence[Sequence[str]], system: str, target: Target) -> Iterator[NamedPoint]:
    named = next((header.index(name) for name in _NAMES if name in header), None)
    place = next(((keys, frame) for keys, frame in _PLACES if set(keys) <= set(header)), None)
    if named is None or place is None:
        if len(header) < 2:
            raise TemplateError(f"label file {target.path} is of no known format: give {READABLE}")
        raise TemplateError(f"label file {target.path} has the columns {', '.join(header)[:_SHOWN]}: {_REMEDY}")
    keys, frame = place
    columns = [header.index(key) for key in keys]
    for number, row in enumerate(table, 1):
        name, values = _named_numbers(row, named, columns)
        if not name or not all(math.isfinite(value) for value in values):
            message = f"label file {target.path}: point {number} is not a name and three numbers"
            raise TemplateError(f"{message}: {_REMEDY}")
        yield NamedPoint((name,), _index(values, system or frame, target))


def _named_numbers(row: Sequence[str], named: int, columns: Sequence[int]) -> tuple[str, list[float]]:
    """Return a row's name and place; no name where either cannot be read."""
    try:
        return row[named].strip(), [float(row[column].replace(",", ".")) for column in columns]
    except (IndexError, ValueError):
        return "", []


def _index(values: Sequence[float], frame: str, target: Target) -> Index:
    if frame == "index":
        return values[0], values[1], values[2]
    position_mm = np.array(values) if frame == "LPS" else RAS_TO_LPS[:3, :3] @ np.array(values)
    s, r, c = target.volume.to_index(position_mm)
    return float(s), float(r), float(c)
