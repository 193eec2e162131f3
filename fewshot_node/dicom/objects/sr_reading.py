"""Findings out of a measurement report (TID 1500) that this node, or one like it, wrote."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code as CodedValue

from fewshot_node.dicom.objects.sr_codes import AREA, CERTAINTY, PRESENCE, PRESENT, VOLUME
from fewshot_node.errors import NotDicomError, TemplateError
from fewshot_node.records import Volume

Point = tuple[float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class ReportedFinding:
    """One measurement group of a report.

    Attributes
    ----------
    name
        Tracking identifier: task and label name.
    area_mm2
        Instead of a volume, where the series is a single slice.
    confidence
        Confidence, 0..1, that the structure is there, whether it is reported present or absent.
    point_mm
        LPS mm; for a point that is stated on an image, only when the volume was passed.
    """

    name: str
    tracking_uid: str
    found: bool
    volume_mm3: float | None
    area_mm2: float | None
    point_mm: Point | None
    confidence: float | None


def read_report(source: Path | Dataset, volume: Volume | None = None) -> tuple[ReportedFinding, ...]:
    """Read the findings of a TID 1500 report: points, then segments, then what was not found.

    Parameters
    ----------
    volume
        Places points that are stated on an image (SCOORD) in mm.

    Raises
    ------
    NotDicomError
        `source` is a path to something else than DICOM.
    TemplateError
        It is no Comprehensive 3D SR with TID 1500.
    """
    report = _load(source)
    groups: tuple[Any, ...] = (
        *report.get_planar_roi_measurement_groups(),
        *report.get_volumetric_roi_measurement_groups(),
        *report.get_image_measurement_groups(),
    )
    return tuple(_finding(group, volume) for group in groups)


def _load(source: Path | Dataset) -> hd.sr.MeasurementReport:
    try:
        dataset = source if isinstance(source, Dataset) else pydicom.dcmread(source)
    except (pydicom.errors.InvalidDicomError, OSError, EOFError) as error:
        raise NotDicomError(f"{source} is no readable DICOM file: check the path") from error
    try:
        content = hd.sr.Comprehensive3DSR.from_dataset(dataset).content
    except (AttributeError, ValueError) as error:
        message = f"instance {dataset.get('SOPInstanceUID')} is no Comprehensive 3D SR: pass one"
        raise TemplateError(message) from error
    if not isinstance(content, hd.sr.MeasurementReport):
        message = f"report {dataset.SOPInstanceUID} does not follow TID 1500: pass a measurement report"
        raise TemplateError(message)
    return content


MeasurementGroup = (
    hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations
    | hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations
    | hd.sr.MeasurementsAndQualitativeEvaluations
)


def _finding(group: MeasurementGroup, volume: Volume | None) -> ReportedFinding:
    presence = [item.value for item in group.get_qualitative_evaluations(PRESENCE)]
    found = presence[0] == PRESENT if presence else True
    certainty = _value(group, CERTAINTY)
    confidence = None if certainty is None else certainty / 100.0
    return ReportedFinding(
        name=str(group.tracking_identifier),
        tracking_uid=str(group.tracking_uid),
        found=found,
        volume_mm3=_value(group, VOLUME),
        area_mm2=_value(group, AREA),
        point_mm=next(_points(group, volume), None),
        confidence=confidence if found or confidence is None else 1.0 - confidence,
    )


def _value(group: MeasurementGroup, name: CodedValue) -> float | None:
    measurements = group.get_measurements(name)
    return float(measurements[0].value) if measurements else None


def _points(group: MeasurementGroup, volume: Volume | None) -> Iterator[Point]:
    if not isinstance(group, hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations):
        return
    region = group.roi
    if isinstance(region, hd.sr.ImageRegion3D):
        x, y, z = (float(value) for value in np.ravel(region.value)[:3])
        yield x, y, z
    elif isinstance(region, hd.sr.ImageRegion) and volume is not None:
        yield from _point_on_image(region, volume)


def _point_on_image(region: hd.sr.ImageRegion, volume: Volume) -> Iterator[Point]:
    reference = region.ContentSequence[0].ReferencedSOPSequence[0]
    number = reference.get("ReferencedFrameNumber")
    wanted = (str(reference.ReferencedSOPInstanceUID), None if number is None else int(number))
    column, row = (float(value) for value in np.ravel(region.value)[:2])
    for index, frame in enumerate(volume.frames):
        if (frame.sop_instance_uid, frame.frame_number) == wanted:
            x, y, z = volume.to_mm(np.array([index, row - 0.5, column - 0.5]))
            yield float(x), float(y), float(z)
