"""Comprehensive 3D SR with TID 1500 (PS3.16): what a task found, where, how large and how sure.

The report is the root of its result in the sense of IHE RAD AI Results (AIR): the one object that a display
opens first, and that leads to all others. Where each choice comes from:

- AIR 6.5.3.1, General Result Encoding: a series of its own in the study of the images, a description that says
  what made it, the model in the Contributing Equipment Sequence with a Device UID.
- AIR, Qualitative Findings: Comprehensive 3D SR with TID 1500 as the root template. "Procedure reported" is the
  imaging procedure that was analysed, not the algorithm; it is there whether something was found or not.
- AIR, Measurements, Locations, Regions and Tracking Identifiers: TID 1501, 1410 and 1411 groups with coded
  findings and sites, UCUM units, references to images and segments, and a tracking UID shared with the segment.
- AIR, Root Results: the tree hangs on one instance. So the report refers to each object of its result, under
  "Supplementary Data" with the purpose as concept name, also to those that no group needs; and it says at its
  root, in "Qualitative Evaluations" of TID 1500, whether anything was found (PS3.16 CID 6047). A result without
  findings is therefore a report like any other: its procedure, the summary, and each structure as absent.

AIR is a supplement for trial implementation; number 6.5.3.1 is that of its revision 1.1, the other
sections are named by their titles. TID 1500 is extensible: readers pass over what they do not know.
"""

from collections.abc import Sequence

from highdicom.sr import (
    CodeContentItem,
    CompositeContentItem,
    Comprehensive3DSR,
    ContainerContentItem,
    ContentItem,
    ContentSequence,
    DeviceObserverIdentifyingAttributes,
    ImageContentItem,
    ImageLibraryEntryDescriptors,
    MeasurementReport,
    ObservationContext,
    ObserverContext,
    RelationshipTypeValues,
)
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code as CodedValue

from fewshot_node.dicom.objects import provenance
from fewshot_node.dicom.objects.seg import segments
from fewshot_node.dicom.objects.sr_codes import (
    PRESENTATION_STATE,
    QUALITATIVE_EVALUATIONS,
    RELATED_OBJECTS,
    RENDERING,
    SEGMENTATION_RESULT,
    SOURCE,
    SUMMARY,
    WITH_FINDINGS,
    WITHOUT_FINDINGS,
)
from fewshot_node.dicom.objects.sr_groups import GroupWriter
from fewshot_node.dicom.objects.sr_reading import ReportedFinding, read_report
from fewshot_node.dicom.objects.stand_ins import stand_ins
from fewshot_node.records import Result, Volume
from fewshot_node.uids import ResultUids

__all__ = ["ReportedFinding", "read_report", "write_report"]

PROCEDURES = {
    "CT": codes.cid100.CTUnspecifiedBodyRegion,
    "MR": codes.cid100.MRIUnspecifiedBodyRegion,
    "PT": codes.cid100.PETUnspecifiedBodyRegion,
    "NM": codes.cid100.NMUnspecifiedBodyRegion,
}
"""The procedure that is reported on images of a modality; of any other it is the next."""
OTHER_PROCEDURE = codes.cid100.ImagingProcedure

PURPOSES: dict[str, tuple[CodedValue, bool]] = {
    "1.2.840.10008.5.1.4.1.1.66.4": (SEGMENTATION_RESULT, True),
    "1.2.840.10008.5.1.4.1.1.66.7": (SEGMENTATION_RESULT, True),
    "1.2.840.10008.5.1.4.1.1.481.3": (SEGMENTATION_RESULT, False),
    "1.2.840.10008.5.1.4.1.1.7": (RENDERING, True),
    "1.2.840.10008.5.1.4.1.1.7.2": (RENDERING, True),
    "1.2.840.10008.5.1.4.1.1.7.4": (RENDERING, True),
    "1.2.840.10008.5.1.4.1.1.11.1": (PRESENTATION_STATE, False),
}
"""SOP Class -> purpose of an object of a result, and whether it is an image; any other is a rendering, and none.

In this order: segmentation, label map, structure set, secondary captures (single frame, grayscale, colour),
presentation state.
"""


def write_report(
    result: Result,
    volume: Volume,
    sources: Sequence[Dataset],
    uids: ResultUids,
    segmentation: Dataset | None = None,
    others: Sequence[Dataset] = (),
) -> Dataset:
    """Write what a task found as a complete, unverified, preliminary measurement report.

    One measurement group for each structure, always with its presence and certainty: TID 1411 with the
    volume of the segment it refers to, TID 1410 with a landmark's point or, on a single slice, with a
    segment's frame and area, TID 1501 for what was not found. A point is given in patient coordinates
    (SCOORD3D); where the source states no Frame of Reference, on the nearest image instead (SCOORD).
    Certainty of Finding is that of the stated presence, in percent: a structure that is there with
    confidence 0.1 is reported absent with 90 %.

    Parameters
    ----------
    sources
        Headers of the volume's instances in slice order, from `read_sources`.
    segmentation
        The Segmentation of the same result; its segments are referred to by their tracking UIDs.
    others
        The other objects of the same result, in their order; the report is the root of all of them.

    Raises
    ------
    SeriesError
        The sources are of an image class that cannot be referred to.
    """
    objects = [*([] if segmentation is None else [segmentation]), *others]
    groups = GroupWriter(result, volume, uids, segmentation)
    with provenance.known_image_class(sources[0]):
        report = _document(groups, sources, objects)
        provenance.complete(report, sources, result)
    provenance.name_by_content(report, uids.report_instance)
    return report


def _document(groups: GroupWriter, sources: Sequence[Dataset], objects: Sequence[Dataset]) -> Comprehensive3DSR:
    result, uids = groups.result, groups.uids
    images = stand_ins(sources, groups.volume)
    return Comprehensive3DSR(
        evidence=[*images, *(_reference(one) for one in objects)],
        content=_content(groups, images, objects),
        series_instance_uid=uids.report_series(),
        series_number=provenance.series_number(sources[0], result.task_name, provenance.ResultKind.REPORT),
        sop_instance_uid=provenance.UNNAMED,
        is_complete=True,
        is_final=False,
        is_verified=False,
        series_description=provenance.describe(result, "report"),
        **provenance.series_attributes(result, uids),
    )


def _reference(one: Dataset) -> Dataset:
    """Return what the evidence needs of an object, without its pixels."""
    reference = Dataset()
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"):
        setattr(reference, keyword, one[keyword].value)
    return reference


def _content(groups: GroupWriter, images: Sequence[Dataset], objects: Sequence[Dataset]) -> Dataset:
    """Return the root of the content tree."""
    result, volume = groups.result, groups.volume
    report = MeasurementReport(
        observation_context=_observer(result, groups.uids),
        procedure_reported=PROCEDURES.get(volume.modality, OTHER_PROCEDURE),
        imaging_measurements=[groups.write(finding) for finding in segments(result)],
    )
    root: Dataset = report[0]
    library = _library(images, volume)
    if library is not None:
        root.ContentSequence.insert(len(root.ContentSequence) - 1, library)  # before the measurements (TID 1500)
    root.ContentSequence.append(_summary(result))
    if objects:
        root.ContentSequence.append(_container(RELATED_OBJECTS, [_item(one) for one in objects]))
    return root


def _observer(result: Result, uids: ResultUids) -> ObservationContext:
    """Return the observer (TID 1001): a device, whose UID is mandatory (TID 1004); no person."""
    device = DeviceObserverIdentifyingAttributes(
        uid=uids.device_observer(),
        name=provenance.long_string(result.algorithm.name),
        manufacturer_name=provenance.MANUFACTURER,
        model_name=provenance.MODEL_NAME,
        serial_number=uids.device_observer(),
    )
    context = ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=device)
    return ObservationContext(observer_device_context=context)


def _summary(result: Result) -> ContainerContentItem:
    """Say for the whole result whether anything was found."""
    found = any(finding.found for finding in result.findings)
    value = WITH_FINDINGS if found else WITHOUT_FINDINGS
    item = CodeContentItem(name=SUMMARY, value=value, relationship_type=RelationshipTypeValues.CONTAINS)
    return _container(QUALITATIVE_EVALUATIONS, [item])


def _container(name: CodedValue, items: Sequence[ContentItem]) -> ContainerContentItem:
    container = ContainerContentItem(name=name, relationship_type=RelationshipTypeValues.CONTAINS)
    container.ContentSequence = ContentSequence(items)
    return container


def _item(one: Dataset) -> ImageContentItem | CompositeContentItem:
    """Refer to an object of the result by its purpose."""
    purpose, is_image = PURPOSES.get(str(one.SOPClassUID), (RENDERING, False))
    kind = ImageContentItem if is_image else CompositeContentItem
    return kind(
        name=purpose,
        referenced_sop_class_uid=one.SOPClassUID,
        referenced_sop_instance_uid=one.SOPInstanceUID,
        relationship_type=RelationshipTypeValues.CONTAINS,
    )


def _library(images: Sequence[Dataset], volume: Volume) -> ContainerContentItem | None:
    """Return the library of the images (TID 1600): one group, since they share what is said of them.

    Modality, rows and columns, and the Frame of Reference that the source states (a derived one is not claimed to
    be the source's) stand once, at the group. The images' geometry stays with them: repeating it is optional, and
    costs more than all the rest of the report. None where highdicom knows no modality for the SOP class, which the
    library must state.
    """
    shared = Dataset()
    for keyword in ("SOPClassUID", "SOPInstanceUID", "Rows", "Columns"):
        shared[keyword] = images[0][keyword]
    shared.Modality = "OT"  # keeps highdicom from describing the geometry; the code is the SOP class's
    if volume.frame_of_reference_stated:
        shared.FrameOfReferenceUID = volume.frame_of_reference_uid
    try:
        descriptors = ImageLibraryEntryDescriptors(shared)
    except ValueError:
        return None
    group = _container(codes.DCM.ImageLibraryGroup, [*descriptors, *(_entry(image) for image in images)])
    return _container(codes.DCM.ImageLibrary, [group])


def _entry(image: Dataset) -> ImageContentItem:
    return ImageContentItem(
        name=SOURCE,
        referenced_sop_class_uid=image.SOPClassUID,
        referenced_sop_instance_uid=image.SOPInstanceUID,
        relationship_type=RelationshipTypeValues.CONTAINS,
    )
