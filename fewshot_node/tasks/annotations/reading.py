"""One function for all formats: file -> regions and points on the grid of a series."""

from collections.abc import Callable
from pathlib import Path

from pydicom.dataset import Dataset

from fewshot_node.errors import TemplateError
from fewshot_node.tasks.annotations import (
    markups,
    nifti,
    nrrd_labels,
    png,
    points_csv,
    points_json,
    report,
    rtstruct,
    segmentation,
)
from fewshot_node.tasks.annotations.json_values import read_json_file
from fewshot_node.tasks.annotations.recognise import READABLE, read_dicom, recognise
from fewshot_node.tasks.annotations.records import Annotation, AnnotationFormat, Target

_VOLUMES: dict[AnnotationFormat, Callable[[Target], Annotation]] = {
    AnnotationFormat.NIFTI: nifti.read,
    AnnotationFormat.NRRD: nrrd_labels.read,
    AnnotationFormat.PNG: png.read_picture,
}
_OBJECTS: dict[AnnotationFormat, Callable[[Dataset, Target], Annotation]] = {
    AnnotationFormat.SEG: segmentation.read,
    AnnotationFormat.RTSTRUCT: rtstruct.read,
    AnnotationFormat.REPORT: report.read,
}
_MOST_TEXT_BYTES = 2**26


def read_annotation(target: Target) -> Annotation:
    """Read an annotation file of any format; its content says which it is.

    Raises
    ------
    TemplateError
        It cannot be read, is no annotation, or does not fit the series.
    """
    found = recognise(target.path)
    if found in _VOLUMES:
        return _VOLUMES[found](target)
    if found in _OBJECTS:
        return _read_object(_OBJECTS[found], target)
    return _read_text(target)


def _read_object(read: Callable[[Dataset, Target], Annotation], target: Target) -> Annotation:
    try:
        return read(read_dicom(target.path), target)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        # An object that lacks what its module requires (type 1 attributes), or states nonsense there.
        message = f"label file {target.path} lacks what such an object must hold ({type(error).__name__})"
        raise TemplateError(f"{message}: export it again") from error


def _read_text(target: Target) -> Annotation:
    text = _text(target.path)
    if not text.lstrip().startswith(("{", "[")):
        return points_csv.read(text, target)
    data = read_json_file(target.path)
    if isinstance(data, dict) and "markups" in data:
        return markups.read(data, target)
    if isinstance(data, dict) and "slices" in data:
        return png.read_list(data, target)
    return points_json.read(data, target)


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MOST_TEXT_BYTES:
            raise ValueError("too long")
        text = path.read_text(encoding="utf-8-sig")
        if "\0" in text or not text.strip():
            raise ValueError("no text")
    except (OSError, ValueError) as error:
        raise TemplateError(f"label file {path} is of no known format: give {READABLE}") from error
    return text
