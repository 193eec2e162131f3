"""Comprehensive 3D SR with TID 1500 (PS3.16): what a task found, where, how large and how sure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import highdicom as hd
import numpy as np
from highdicom.sr import (
    AlgorithmIdentification,
    Comprehensive3DSR,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    ImageLibraryEntryDescriptors,
    ImageRegion,
    ImageRegion3D,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    ReferencedSegment,
    SourceImageForRegion,
    SourceSeriesForSegmentation,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from fewshot_node.dicom.objects import provenance
from fewshot_node.dicom.objects.seg import segments
from fewshot_node.dicom.objects.sr_reading import (
    ABSENT,
    CERTAINTY,
    PRESENCE,
    PRESENT,
    VOLUME,
    ReportedFinding,
    read_report,
)
from fewshot_node.records import Result, StructureFinding, Volume
from fewshot_node.uids import ResultUids

__all__ = ["ReportedFinding", "read_report", "write_report"]

SERIES_NUMBER_BASE = 9500
PROCEDURES = {
    "CT": codes.cid100.CTUnspecifiedBodyRegion,
    "MR": codes.cid100.MRIUnspecifiedBodyRegion,
    "PT": codes.cid100.PETUnspecifiedBodyRegion,
    "NM": codes.cid100.NMUnspecifiedBodyRegion,
}
"""The procedure that is reported on images of a modality; of any other it is the next."""
OTHER_PROCEDURE = codes.cid100.ImagingProcedure

MeasurementGroup = (
    MeasurementsAndQualitativeEvaluations
    | PlanarROIMeasurementsAndQualitativeEvaluations
    | VolumetricROIMeasurementsAndQualitativeEvaluations
)


def write_report(
    result: Result,
    volume: Volume,
    sources: Sequence[Dataset],
    uids: ResultUids,
    segmentation: Dataset | None = None,
) -> Dataset:
    """Write what a task found as a complete, unverified, preliminary measurement report.

    One measurement group for each structure, always with its presence and certainty: TID 1411 with the
    volume of the segment it refers to, TID 1410 with a landmark's point, TID 1501 for what was not found.
    A point is given in patient coordinates (SCOORD3D); where the source states no Frame of Reference, on
    the nearest image instead (SCOORD). Certainty of Finding is that of the stated presence, in percent:
    a structure that is there with confidence 0.1 is reported absent with 90 %.

    Parameters
    ----------
    sources
        Headers of the volume's instances in slice order, from `read_sources`.
    segmentation
        The Segmentation of the same result; its segments are referred to by their tracking UIDs.

    Raises
    ------
    SeriesError
        The sources are of an image class that cannot be referred to.
    """
    with provenance.known_image_class(sources[0]):
        report = _document(result, volume, sources, uids, segmentation)
        provenance.complete(report, sources, result)
    provenance.name_by_content(report, result, uids.report_instance)
    return report


def _document(
    result: Result, volume: Volume, sources: Sequence[Dataset], uids: ResultUids, segmentation: Dataset | None
) -> Comprehensive3DSR:
    images = provenance.stand_ins(sources, volume)
    return Comprehensive3DSR(
        evidence=images if segmentation is None else [*images, _reference(segmentation)],
        content=_content(result, volume, images, uids, segmentation)[0],
        series_instance_uid=uids.report_series(),
        series_number=provenance.series_number(sources[0], SERIES_NUMBER_BASE),
        sop_instance_uid=provenance.UNNAMED,
        is_complete=True,
        is_final=False,
        is_verified=False,
        series_description=provenance.describe(result, "report"),
        **provenance.series_attributes(result, uids),
    )


def _reference(segmentation: Dataset) -> Dataset:
    """Return what the evidence needs of the segmentation, without its pixels."""
    reference = Dataset()
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"):
        setattr(reference, keyword, segmentation[keyword].value)
    return reference


def _content(
    result: Result,
    volume: Volume,
    images: Sequence[Dataset],
    uids: ResultUids,
    segmentation: Dataset | None,
) -> MeasurementReport:
    device = DeviceObserverIdentifyingAttributes(
        uid=uids.device_observer(),
        name=provenance.long_string(result.algorithm.name),
        manufacturer_name=provenance.MANUFACTURER,
        model_name=provenance.MODEL_NAME,
        serial_number=uids.device_observer(),
    )
    numbers = _segment_numbers(segmentation)
    library = list(_library(images, volume))
    return MeasurementReport(
        observation_context=ObservationContext(
            observer_device_context=ObserverContext(
                observer_type=codes.DCM.Device, observer_identifying_attributes=device
            )
        ),
        procedure_reported=PROCEDURES.get(volume.modality, OTHER_PROCEDURE),
        imaging_measurements=[
            _Group(result, finding, volume, uids).build(segmentation, numbers) for finding in segments(result)
        ],
        referenced_images=library if _has_modality_code(library[0]) else None,
    )


def _segment_numbers(segmentation: Dataset | None) -> dict[str, int]:
    """Map tracking UIDs to segment numbers."""
    if segmentation is None:
        return {}
    return {str(item.TrackingUID): int(item.SegmentNumber) for item in segmentation.SegmentSequence}


def _library(images: Sequence[Dataset], volume: Volume) -> Iterator[Dataset]:
    """Give the images for the library (TID 1600) with modality, rows and columns, and Frame of Reference.

    Their geometry stays with the images: repeating it is optional, and costs more than all the rest of
    the report. A derived Frame of Reference is not claimed to be the source's.
    """
    for image in images:
        entry = Dataset()
        for keyword in ("SOPClassUID", "SOPInstanceUID", "Rows", "Columns"):
            entry[keyword] = image[keyword]
        entry.Modality = "OT"  # keeps highdicom from describing the geometry; the code is the SOP class's
        if volume.frame_of_reference_stated:
            entry.FrameOfReferenceUID = volume.frame_of_reference_uid
        yield entry


def _has_modality_code(image: Dataset) -> bool:
    """Tell whether highdicom knows a modality for the image's SOP class, which the library must state."""
    try:
        ImageLibraryEntryDescriptors(image)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True, eq=False)
class _Group:
    """The measurement group of one structure."""

    result: Result
    finding: StructureFinding
    volume: Volume
    uids: ResultUids

    def common(self) -> dict[str, Any]:
        """Return what the group says in whichever template."""
        label, algorithm = self.finding.label, self.result.algorithm
        region = label.anatomic_region
        return {
            "tracking_identifier": TrackingIdentifier(
                uid=self.uids.tracking(label.name),
                identifier=provenance.tracking_identifier(self.result, label.name),
            ),
            "finding_category": provenance.coded(label.category),
            "finding_type": provenance.coded(label.type),
            "finding_sites": None if region is None else [FindingSite(provenance.coded(region))],
            "algorithm_id": AlgorithmIdentification(
                algorithm.name, algorithm.version, list(algorithm.parameters) or None
            ),
            "measurements": list(self._measurements()),
            "qualitative_evaluations": [QualitativeEvaluation(PRESENCE, PRESENT if self.finding.found else ABSENT)],
        }

    def build(self, segmentation: Dataset | None, numbers: dict[str, int]) -> MeasurementGroup:
        """Return the group in the template that its evidence calls for."""
        if self.finding.found and self.finding.point_mm is not None:
            region = self._point_3d() if self.volume.frame_of_reference_stated else self._point_on_image()
            return PlanarROIMeasurementsAndQualitativeEvaluations(referenced_region=region, **self.common())
        if self.finding.found and segmentation is not None:
            segment = ReferencedSegment(
                sop_class_uid=segmentation.SOPClassUID,
                sop_instance_uid=segmentation.SOPInstanceUID,
                segment_number=numbers[self.uids.tracking(self.finding.label.name)],
                source_series=SourceSeriesForSegmentation(self.volume.series_instance_uid),
            )
            return VolumetricROIMeasurementsAndQualitativeEvaluations(referenced_segment=segment, **self.common())
        return MeasurementsAndQualitativeEvaluations(**self.common())

    def _measurements(self) -> Iterator[Measurement]:
        finding = self.finding
        certainty = finding.confidence if finding.found else 1.0 - finding.confidence
        yield Measurement(CERTAINTY, round(100.0 * certainty, 4), codes.UCUM.Percent)
        if finding.found and finding.volume_mm3 is not None:
            yield Measurement(VOLUME, round(finding.volume_mm3, 3), codes.UCUM.CubicMillimeter)

    def _point_3d(self) -> ImageRegion3D:
        return ImageRegion3D(
            graphic_type=hd.sr.GraphicTypeValues3D.POINT,
            graphic_data=np.array([self.finding.point_mm], dtype=np.float64),
            frame_of_reference_uid=self.volume.frame_of_reference_uid,
        )

    def _point_on_image(self) -> ImageRegion:
        """Return the point on its nearest slice; (0, 0) is the corner of the image, not a pixel centre.

        PS3.3 C.18.6.1.2: the first pixel's centre lies at (0.5, 0.5).
        """
        slices, rows, columns = self.volume.array.shape
        index = self.volume.to_index(np.array(self.finding.point_mm, dtype=np.float64))
        frame = self.volume.frames[int(np.clip(np.rint(index[0]), 0, slices - 1))]
        column_row = np.clip([index[2] + 0.5, index[1] + 0.5], 0, [columns, rows])
        return ImageRegion(
            graphic_type=hd.sr.GraphicTypeValues.POINT,
            graphic_data=column_row[None],
            source_image=SourceImageForRegion(
                referenced_sop_class_uid=frame.sop_class_uid,
                referenced_sop_instance_uid=frame.sop_instance_uid,
                referenced_frame_numbers=None if frame.frame_number is None else [frame.frame_number],
            ),
        )
