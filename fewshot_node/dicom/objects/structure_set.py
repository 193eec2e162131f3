"""RT Structure Set (PS3.3 A.19): a result's masks as outlines on the source's planes, its landmarks as points.

rt-utils is not used: it knows no multi-frame sources, draws through the centres of the outermost pixels (a mask loses
half a pixel all around, a single pixel everything), takes UIDs and dates from chance and clock, and wants OpenCV.
"""

from collections.abc import Iterator, Sequence

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage

from fewshot_node.dicom.objects import provenance
from fewshot_node.dicom.objects.colours import display_colours
from fewshot_node.dicom.objects.outlines import outlines
from fewshot_node.dicom.objects.segments import segments
from fewshot_node.dicom.objects.sr_codes import ANATOMY
from fewshot_node.records import Label, LabelArray, Result, SourceFrame, StructureFinding, Volume
from fewshot_node.uids import ResultUids

_STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"  # Detached Study Management: as PS3.3 C.8.8.5 wants it
_MOST_CORNERS = 1800
"""Of one outline: three coordinates each fill at most 12 bytes, and an explicit DS holds 65534 (PS3.5 7.1.2)."""


def write_structure_set(result: Result, volume: Volume, sources: Sequence[Dataset], uids: ResultUids) -> Dataset:
    """Write what a task found as regions of interest, one for each label, found or not.

    Outlines run along the edges of the mask's pixels, in the plane of their image; a region with a hole is cut in two,
    so that nothing has to be subtracted. Numbers, names and colours are those of the segmentation's segments.

    Parameters
    ----------
    sources
        Headers of the volume's instances in slice order, from `read_sources`.
    """
    attributes = provenance.series_attributes(result, uids)
    equipment = attributes.pop("contributing_equipment")
    structures = hd.SOPClass(
        study_instance_uid=volume.study_instance_uid,
        series_instance_uid=uids.structure_set_series(),
        series_number=provenance.series_number(sources[0], result.task_name, provenance.ResultKind.STRUCTURE_SET),
        sop_instance_uid=provenance.UNNAMED,
        sop_class_uid=RTStructureSetStorage,
        modality="RTSTRUCT",
        series_description=provenance.describe(result, "structure set"),
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **attributes,
    )
    structures.ContributingEquipmentSequence = equipment
    provenance.complete(structures, sources, result)
    _describe(structures, result)
    structures.FrameOfReferenceUID = volume.frame_of_reference_uid
    structures.PositionReferenceIndicator = sources[0].get("PositionReferenceIndicator", "")
    structures.ReferencedFrameOfReferenceSequence = [_frame_of_reference(volume)]
    _add_regions(structures, result, volume)
    provenance.name_by_content(structures, uids.structure_set_instance)
    return structures


def _describe(structures: Dataset, result: Result) -> None:
    structures.OperatorsName = ""
    structures.ApprovalStatus = "UNAPPROVED"
    structures.StructureSetLabel = f"AI {result.task_name}"[:16].strip()
    structures.StructureSetName = provenance.describe(result, "structure set")
    structures.StructureSetDate, structures.StructureSetTime = structures.ContentDate, structures.ContentTime
    del structures.ContentDate, structures.ContentTime  # the class has none


def _frame_of_reference(volume: Volume) -> Dataset:
    series, study, frame_of_reference = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = volume.series_instance_uid
    instances = {frame.sop_instance_uid: frame for frame in volume.frames}
    series.ContourImageSequence = [_image(SourceFrame(one.sop_class_uid, uid)) for uid, one in instances.items()]
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = _STUDY_CLASS, volume.study_instance_uid
    study.RTReferencedSeriesSequence = [series]
    frame_of_reference.FrameOfReferenceUID = volume.frame_of_reference_uid
    frame_of_reference.RTReferencedStudySequence = [study]
    return frame_of_reference


def _image(frame: SourceFrame) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = frame.sop_class_uid, frame.sop_instance_uid
    if frame.frame_number is not None:
        item.ReferencedFrameNumber = frame.frame_number
    return item


def _add_regions(structures: Dataset, result: Result, volume: Volume) -> None:
    findings = segments(result)
    colours = display_colours([finding.label for finding in findings])
    structures.StructureSetROISequence = [
        _region(number, finding.label, volume) for number, finding in enumerate(findings, 1)
    ]
    structures.ROIContourSequence = [
        _contours(number, finding, colour, result, volume)
        for number, (finding, colour) in enumerate(zip(findings, colours, strict=True), 1)
    ]
    structures.RTROIObservationsSequence = [
        _observation(number, finding.label) for number, finding in enumerate(findings, 1)
    ]


def _region(number: int, label: Label, volume: Volume) -> Dataset:
    region = Dataset()
    region.ROINumber = number
    region.ReferencedFrameOfReferenceUID = volume.frame_of_reference_uid
    region.ROIName = provenance.long_string(label.name)
    region.ROIGenerationAlgorithm = "AUTOMATIC"
    return region


def _observation(number: int, label: Label) -> Dataset:
    observation = Dataset()
    observation.ObservationNumber = observation.ReferencedROINumber = number
    observation.RTROIIdentificationCodeSequence = [hd.sr.CodedConcept.from_code(provenance.coded(label.type))]
    observation.RTROIInterpretedType = "ORGAN" if label.category.value in ANATOMY else ""
    observation.ROIInterpreter = ""
    return observation


def _contours(
    number: int, finding: StructureFinding, colour: hd.color.CIELabColor, result: Result, volume: Volume
) -> Dataset:
    region = Dataset()
    region.ROIDisplayColor = list(colour.to_rgb(clip=True))
    region.ReferencedROINumber = number
    contours = list(_point(finding, volume) if result.label_map is None else _closed(finding, result.label_map, volume))
    if contours:
        region.ContourSequence = contours
    return region


def _closed(finding: StructureFinding, label_map: LabelArray, volume: Volume) -> Iterator[Dataset]:
    mask = label_map == finding.label.value
    for index in np.flatnonzero(mask.any(axis=(1, 2))):
        for outline in outlines(mask[index], _MOST_CORNERS):
            places = np.column_stack([np.full(len(outline), index), outline])
            yield _contour("CLOSED_PLANAR", volume.to_mm(places), volume.frames[index])


def _point(finding: StructureFinding, volume: Volume) -> Iterator[Dataset]:
    if finding.point_mm is not None:
        place = np.array([finding.point_mm])
        nearest = int(np.clip(np.rint(volume.to_index(place)[0, 0]), 0, len(volume.frames) - 1))
        yield _contour("POINT", place, volume.frames[nearest])


def _contour(kind: str, places_mm: NDArray[np.float64], frame: SourceFrame) -> Dataset:
    contour = Dataset()
    contour.ContourImageSequence = [_image(frame)]
    contour.ContourGeometricType = kind
    contour.NumberOfContourPoints = len(places_mm)
    contour.ContourData = [f"{value + 0.0:.3f}" for value in np.round(places_mm, 3).ravel()]
    return contour
