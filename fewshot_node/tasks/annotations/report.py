"""Regions and points out of a measurement report (TID 1500, PS3.16), with SCOORD or SCOORD3D coordinates."""

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import highdicom as hd
import numpy as np
from highdicom.sr import GraphicTypeValues, GraphicTypeValues3D, ImageRegion, ImageRegion3D
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from fewshot_node.errors import TemplateError
from fewshot_node.records import Code, Volume
from fewshot_node.tasks.annotations.contours import Contour, circle, contour_from_mm, ellipse, fill, snapped
from fewshot_node.tasks.annotations.dicom_file import SIDES, require_same_space
from fewshot_node.tasks.annotations.records import (
    Annotation,
    AnnotationFormat,
    BoolArray,
    NamedPoint,
    Region,
    Target,
)

_PIXEL_CENTRE = 0.5
"""SCOORD counts from the corner of the first pixel (PS3.3 C.18.6.1), this program from its centre."""
_PLANAR = {"POLYLINE", "POLYGON", "CIRCLE", "ELLIPSE"}

_KINDS: dict[str, Any] = {
    "1.2.840.10008.5.1.4.1.1.88.22": hd.sr.EnhancedSR,
    "1.2.840.10008.5.1.4.1.1.88.33": hd.sr.ComprehensiveSR,
    "1.2.840.10008.5.1.4.1.1.88.34": hd.sr.Comprehensive3DSR,
}

Graphic = ImageRegion | ImageRegion3D


def read(dataset: Dataset, target: Target) -> Annotation:
    """Read the regions of the planar and volumetric ROI groups (TID 1410, 1411), points apart from areas.

    A group is called by its tracking identifier, its finding and its finding site.

    Raises
    ------
    TemplateError
        It follows another template, belongs to another Frame of Reference, or its regions are of an unread kind.
    """
    numbers = count(1)
    regions: list[Region] = []
    points: list[NamedPoint] = []
    referred = 0
    for group in _groups(dataset, target):
        names, type_, side = _names(group), _type(group), _side(group)
        graphics = list(_graphics(group))
        referred += not graphics
        points += (NamedPoint(names, _point(one, target), type_, side) for one in graphics if _kind(one) == "POINT")
        areas = [one for one in graphics if _kind(one) in _PLANAR]
        other = {_kind(one) for one in graphics} - {*_PLANAR, "POINT"}
        if other:
            raise TemplateError(f"label file {target.path}: {names[0]} is a {min(other)}: give areas or points")
        if areas:
            regions.append(Region(next(numbers), names, _drawer(areas, names[0], target), type_, side))
    if referred and not regions and not points:
        raise TemplateError(f"label file {target.path} only refers to a segmentation: give that DICOM SEG")
    return Annotation(AnnotationFormat.REPORT, tuple(regions), tuple(points))


def _groups(dataset: Dataset, target: Target) -> tuple[Any, ...]:
    try:
        content = _KINDS[str(dataset.SOPClassUID)].from_dataset(dataset).content
        if not isinstance(content, hd.sr.MeasurementReport):
            raise TypeError("another template")
        return (
            *content.get_planar_roi_measurement_groups(),
            *content.get_volumetric_roi_measurement_groups(),
        )
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        message = f"label file {target.path} is no measurement report that follows TID 1500: give one, or a DICOM SEG"
        raise TemplateError(message) from error


def _names(group: Any) -> tuple[str, ...]:
    sites = [str(site.value.meaning) for site in group.finding_sites]
    finding = group.finding_type
    found = (group.tracking_identifier, finding and finding.meaning, *sites)
    return tuple(dict.fromkeys(str(name) for name in found if name))


def _type(group: Any) -> Code | None:
    finding = group.finding_type
    return None if finding is None else Code(finding.value, finding.scheme_designator, finding.meaning)


def _side(group: Any) -> str:
    stated = [site.laterality for site in group.finding_sites if site.laterality is not None]
    return SIDES.get(str(stated[0].value), "") if stated else ""


def _graphics(group: Any) -> Iterator[Graphic]:
    """Give the regions of a group; none where it refers to a segment."""
    roi = group.roi
    if isinstance(roi, hd.sr.VolumeSurface):
        yield from (ImageRegion3D.from_dataset(item) for item in roi if isinstance(item, hd.sr.Scoord3DContentItem))
    elif roi is not None:
        yield from roi if isinstance(roi, list) else [roi]


def _kind(graphic: Graphic) -> str:
    return str(graphic.graphic_type.value)


def _point(graphic: Graphic, target: Target) -> tuple[float, float, float]:
    if _is_3d(graphic):
        s, r, c = target.volume.to_index(_in_mm(graphic, target)[0])
        return float(s), float(r), float(c)
    slice_index, places = _on_image(graphic, target)
    return float(slice_index), float(places[0, 0]), float(places[0, 1])


def _drawer(areas: list[Graphic], name: str, target: Target) -> Callable[[], BoolArray]:
    def draw() -> BoolArray:
        try:
            contours = [_contour(one, name, target) for one in areas]
        except (AttributeError, IndexError, ValueError) as error:
            message = f"label file {target.path}: an area of {name} lacks its image or its points"
            raise TemplateError(f"{message}: export it again") from error
        return fill((one for one in contours if one is not None), target, name)

    return draw


def _contour(graphic: Graphic, name: str, target: Target) -> Contour | None:
    if _is_3d(graphic):
        points_mm = _in_mm(graphic, target)
        is_ellipse = graphic.graphic_type == GraphicTypeValues3D.ELLIPSE
        return contour_from_mm(ellipse(points_mm) if is_ellipse else points_mm, target, name)
    slice_index, places = _on_image(graphic, target)
    if graphic.graphic_type == GraphicTypeValues.CIRCLE:
        places = circle(places.tolist())
    elif graphic.graphic_type == GraphicTypeValues.ELLIPSE:
        places = ellipse(places)
    return Contour(slice_index, snapped(places))


def _is_3d(graphic: Graphic) -> bool:
    return isinstance(graphic.graphic_type, GraphicTypeValues3D)


def _in_mm(graphic: Graphic, target: Target) -> NDArray[np.float64]:
    frame = str(graphic.get("ReferencedFrameOfReferenceUID") or "")
    require_same_space((), {frame} - {""}, target)
    return np.asarray(graphic.value, dtype=np.float64).reshape(-1, 3)


def _on_image(graphic: Graphic, target: Target) -> tuple[int, NDArray[np.float64]]:
    """Return the slice that a region is drawn on, and its (row, column) places."""
    reference = graphic.ContentSequence[0].ReferencedSOPSequence[0]
    number = reference.get("ReferencedFrameNumber")
    wanted = (str(reference.ReferencedSOPInstanceUID), None if number is None else int(number))
    index = _slice_of(wanted, target.volume)
    if index is None:
        raise TemplateError(
            f"label file {target.path} draws on instance {wanted[0]}, which {target.series} does not hold: "
            "give the series that it was drawn on"
        )
    return index, np.asarray(graphic.value, dtype=np.float64).reshape(-1, 2)[:, ::-1] - _PIXEL_CENTRE


def _slice_of(wanted: tuple[str, int | None], volume: Volume) -> int | None:
    for index, frame in enumerate(volume.frames):
        if (frame.sop_instance_uid, frame.frame_number) == wanted:
            return index
    return None
