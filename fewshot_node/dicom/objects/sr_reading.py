"""Findings out of measurement reports (TID 1500): this node's own, and anybody's."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import highdicom as hd
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code as CodedValue

from fewshot_node.dicom.objects.headers import read_object
from fewshot_node.dicom.objects.sr_codes import AREA, CERTAINTY, PRESENCE, PRESENT, VOLUME
from fewshot_node.dicom.objects.sr_regions import (
    MeasurementGroup,
    Point,
    ReportedRegion,
    ReportedSegment,
    regions,
    segment,
)
from fewshot_node.errors import TemplateError
from fewshot_node.records import Code, Volume

_CLASSES: dict[str, Any] = {
    "1.2.840.10008.5.1.4.1.1.88.22": hd.sr.EnhancedSR,
    "1.2.840.10008.5.1.4.1.1.88.33": hd.sr.ComprehensiveSR,
    "1.2.840.10008.5.1.4.1.1.88.34": hd.sr.Comprehensive3DSR,
}
"""The SR documents that may follow TID 1500."""
_FACTORS = {"%": 1.0, "mm2": 1.0, "cm2": 100.0, "mm3": 1.0, "cm3": 1000.0, "ml": 1000.0, "mL": 1000.0}
"""UCUM unit -> factor to per cent, mm2 or mm3."""


@dataclass(frozen=True, slots=True, eq=False)
class ReportedFinding:
    """One measurement group of a report.

    Attributes
    ----------
    name
        Tracking identifier: in our reports task and label name.
    found
        Whether it is reported present; a group that does not say so is about something that is there.
    area_mm2
        Instead of a volume, where the series is a single slice.
    confidence
        Confidence, 0..1, that the structure is there, whether it is reported present or absent.
    point_mm
        LPS mm of the first point; for a point that is stated on an image, only when the volume was passed.
    finding, sites
        What it is and where it lies.
    """

    name: str
    tracking_uid: str
    found: bool
    volume_mm3: float | None
    area_mm2: float | None
    point_mm: Point | None
    confidence: float | None
    finding: Code | None = None
    sites: tuple[Code, ...] = ()
    regions: tuple[ReportedRegion, ...] = ()
    segment: ReportedSegment | None = None


def read_report(source: Path | Dataset, volume: Volume | None = None) -> tuple[ReportedFinding, ...]:
    """Read the findings of a TID 1500 report: planar groups, then volumetric ones, then those without region.

    Parameters
    ----------
    volume
        Places what is stated on its images (SCOORD) in mm.

    Raises
    ------
    NotDicomError
        `source` is a path to something else than DICOM.
    TemplateError
        It is no Comprehensive 3D, Comprehensive or Enhanced SR with TID 1500.
    """
    report = _load(source)
    groups: tuple[Any, ...] = (
        *report.get_planar_roi_measurement_groups(),
        *report.get_volumetric_roi_measurement_groups(),
        *report.get_image_measurement_groups(),
    )
    return tuple(_finding(group, volume) for group in groups)


def _load(source: Path | Dataset) -> hd.sr.MeasurementReport:
    dataset = read_object(source)
    uid, kind = dataset.get("SOPInstanceUID"), _CLASSES.get(str(dataset.get("SOPClassUID")))
    if kind is None:
        raise TemplateError(f"instance {uid} is no Comprehensive 3D, Comprehensive or Enhanced SR: pass one")
    try:
        content = kind.from_dataset(dataset).content
    except (AttributeError, KeyError, IndexError, TypeError, ValueError):
        content = None  # what is no measurement report may lack anything that one has
    if not isinstance(content, hd.sr.MeasurementReport):
        raise TemplateError(f"report {uid} does not follow TID 1500: pass a measurement report")
    return content


def _finding(group: MeasurementGroup, volume: Volume | None) -> ReportedFinding:
    presence = [item.value for item in group.get_qualitative_evaluations(PRESENCE)]
    found = presence[0] == PRESENT if presence else True
    certainty = _value(group, CERTAINTY)
    confidence = None if certainty is None else certainty / 100.0
    seen = tuple(regions(group, volume))
    points = [point for region in seen if region.graphic_type == "POINT" for point in region.points_mm]
    return ReportedFinding(
        name=str(group.tracking_identifier),
        tracking_uid=str(group.tracking_uid),
        found=found,
        volume_mm3=_value(group, VOLUME),
        area_mm2=_value(group, AREA),
        point_mm=points[0] if points else None,
        confidence=confidence if found or confidence is None else 1.0 - confidence,
        finding=None if group.finding_type is None else _code(group.finding_type),
        sites=tuple(_code(site.value) for site in group.finding_sites),
        regions=seen,
        segment=segment(group),
    )


def _value(group: MeasurementGroup, name: CodedValue) -> float | None:
    """Return a measurement in per cent, mm2 or mm3; None when there is none in a unit that is known."""
    for measurement in group.get_measurements(name):
        if measurement.unit.value in _FACTORS:
            return float(measurement.value) * _FACTORS[measurement.unit.value]
    return None


def _code(value: hd.sr.CodedConcept) -> Code:
    return Code(str(value.value), str(value.scheme_designator), str(value.meaning))
