"""Regions and points out of an RT Structure Set (PS3.3 A.19, C.8.8.5 and C.8.8.6)."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from fewshot_node.errors import TemplateError
from fewshot_node.records import Code
from fewshot_node.tasks.annotations.contours import contour_from_mm, fill
from fewshot_node.tasks.annotations.dicom_file import code_of, require_same_space
from fewshot_node.tasks.annotations.records import (
    Annotation,
    AnnotationFormat,
    BoolArray,
    NamedPoint,
    Region,
    Target,
)

_CLOSED = {"CLOSED_PLANAR", "CLOSEDPLANAR_XOR"}


def read(dataset: Dataset, target: Target) -> Annotation:
    """Read the ROIs: those with closed contours are regions, those of a single point are points.

    Raises
    ------
    TemplateError
        It belongs to another series or Frame of Reference, or a contour is not three numbers a point.
    """
    _require_space(dataset, target)
    contours = {
        int(item.ReferencedROINumber): list(item.get("ContourSequence") or ())
        for item in dataset.get("ROIContourSequence") or ()
    }
    types = {
        int(item.ReferencedROINumber): code_of(item, "RTROIIdentificationCodeSequence")
        for item in dataset.get("RTROIObservationsSequence") or ()
    }
    regions: list[Region] = []
    points: list[NamedPoint] = []
    for item in dataset.get("StructureSetROISequence") or ():
        number = int(item.ROINumber)
        names = (str(item.get("ROIName") or f"ROI {number}").strip(),)
        drawn = contours.get(number, [])
        closed = [one for one in drawn if str(one.get("ContourGeometricType")) in _CLOSED]
        if closed:
            regions.append(Region(number, names, _drawer(closed, names[0], target), types.get(number)))
        points += _points(drawn, names, types.get(number), target)
    return Annotation(AnnotationFormat.RTSTRUCT, tuple(regions), tuple(points))


def _require_space(dataset: Dataset, target: Target) -> None:
    frames, series = set(), set()
    for frame in dataset.get("ReferencedFrameOfReferenceSequence") or ():
        frames.add(str(frame.get("FrameOfReferenceUID") or ""))
        for study in frame.get("RTReferencedStudySequence") or ():
            series |= {str(one.SeriesInstanceUID) for one in study.get("RTReferencedSeriesSequence") or ()}
    frames |= {str(one.get("ReferencedFrameOfReferenceUID") or "") for one in dataset.StructureSetROISequence}
    require_same_space(series, frames - {""}, target)


def _drawer(closed: list[Dataset], name: str, target: Target) -> Callable[[], BoolArray]:
    def draw() -> BoolArray:
        placed = (contour_from_mm(_numbers(one, name, target), target, name) for one in closed)
        return fill((one for one in placed if one is not None), target, name)

    return draw


def _points(drawn: list[Dataset], names: tuple[str, ...], type_: Code | None, target: Target) -> Iterator[NamedPoint]:
    for contour in drawn:
        if str(contour.get("ContourGeometricType")) == "POINT":
            s, r, c = target.volume.to_index(_numbers(contour, names[0], target)[0])
            yield NamedPoint(names, (float(s), float(r), float(c)), type_)


def _numbers(contour: Dataset, name: str, target: Target) -> NDArray[np.float64]:
    try:
        values = np.array([float(value) for value in contour.ContourData], dtype=np.float64)
        triplets = values.reshape(-1, 3)
    except (AttributeError, TypeError, ValueError) as error:
        message = f"label file {target.path}: a contour of {name} is no list of x, y, z: export it again"
        raise TemplateError(message) from error
    if not len(triplets) or not np.isfinite(triplets).all():
        raise TemplateError(f"label file {target.path}: a contour of {name} is empty or not finite: export it again")
    return triplets
