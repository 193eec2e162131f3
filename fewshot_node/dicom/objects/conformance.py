"""The gate before delivery: a result that breaks the standard or points at the wrong thing stays here."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from pydicom.dataset import Dataset

from fewshot_node.dicom.objects.checks import dciodvfy
from fewshot_node.dicom.objects.checks.concepts import unresolved_codes
from fewshot_node.dicom.objects.checks.faults import Fault
from fewshot_node.dicom.objects.checks.identifiers import foreign_identity, hidden_features, leaked_identifiers
from fewshot_node.dicom.objects.checks.modules import missing_attributes
from fewshot_node.dicom.objects.checks.placement import (
    misplaced_contours,
    misplaced_frames,
    misplaced_picture,
    misplaced_points,
)
from fewshot_node.dicom.objects.checks.references import foreign_uids, stray_references
from fewshot_node.dicom.objects.checks.values import invalid_values
from fewshot_node.errors import ConformanceError
from fewshot_node.records import Result, Volume

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
LABEL_MAP_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.7"
COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"
STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
PRESENTATION_STATE = "1.2.840.10008.5.1.4.1.1.11.1"

_REMEDY = "a fault of this node; keep the series and report it"
_SHOWN = 5

ALWAYS_REQUIRED = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SeriesDescription",
    "Modality",
    "Manufacturer",
    "ManufacturerModelName",
    "DeviceSerialNumber",
    "SoftwareVersions",
    "InstanceNumber",
    "ContributingEquipmentSequence",
)
_SEGMENTATION_REQUIRED = (
    "ContentDate",
    "ContentTime",
    "FrameOfReferenceUID",
    "ImageType",
    "SegmentationType",
    "SegmentSequence",
    "ContentLabel",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "PixelData",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "DimensionOrganizationSequence",
    "DimensionIndexSequence",
    "ReferencedSeriesSequence",
)
REQUIRED = {
    SEGMENTATION: _SEGMENTATION_REQUIRED,
    LABEL_MAP_SEGMENTATION: _SEGMENTATION_REQUIRED,
    COMPREHENSIVE_3D_SR: (
        "ContentDate",
        "ContentTime",
        "CompletionFlag",
        "VerificationFlag",
        "PreliminaryFlag",
        "ValueType",
        "ConceptNameCodeSequence",
        "ContentTemplateSequence",
        "ContentSequence",
        "CurrentRequestedProcedureEvidenceSequence",
    ),
    STRUCTURE_SET: (
        "FrameOfReferenceUID",
        "StructureSetLabel",
        "StructureSetDate",
        "StructureSetTime",
        "ApprovalStatus",
        "ReferencedFrameOfReferenceSequence",
        "StructureSetROISequence",
        "ROIContourSequence",
        "RTROIObservationsSequence",
    ),
    SECONDARY_CAPTURE: (
        "ContentDate",
        "ContentTime",
        "ConversionType",
        "ImageType",
        "BurnedInAnnotation",
        "RecognizableVisualFeatures",
        "SourceImageSequence",
        "DerivationDescription",
        "Rows",
        "Columns",
        "PixelData",
    ),
    PRESENTATION_STATE: (
        "ContentLabel",
        "PresentationCreationDate",
        "PresentationCreationTime",
        "ReferencedSeriesSequence",
        "DisplayedAreaSelectionSequence",
        "GraphicAnnotationSequence",
        "GraphicLayerSequence",
        "PresentationLUTShape",
    ),
}
"""Attributes of type 1, or that this node promises, of each object's modules (PS3.3 A.51.3, A.90.3, A.35.13.3, A.19.3,
A.8.1.3, A.33.1.3)."""


@dataclass(frozen=True, slots=True, eq=False)
class Origin:
    """What the objects of a result may speak of.

    Attributes
    ----------
    sources
        Headers of the volume's instances, from `read_sources`.
    companions
        The objects of the result itself, which refer to each other.
    """

    volume: Volume
    sources: Sequence[Dataset]
    result: Result
    companions: Sequence[Dataset] = ()


def check_object(dataset: Dataset, origin: Origin) -> None:
    """Check one object of a result before it leaves.

    Raises
    ------
    ConformanceError
        An attribute that its class needs is absent or empty, a value breaks its representation or number, a
        code cannot be resolved, patient or study are not the source's, a text identifies the patient where the
        source's does not, a UID is the source's own, a reference leads outside what was used, or a frame or
        a point lies off the volume's grid. The message names attributes and rules, never values.
    """
    sop_class = str(dataset.get("SOPClassUID", ""))
    if sop_class not in REQUIRED:
        raise ConformanceError(f"{_name(dataset)}: SOP class is none that this node writes: {_REMEDY}")
    _refuse(dataset, find_faults(dataset, origin))


def check_file(path: Path, dataset: Dataset, origin: Origin) -> None:
    """Have a written object checked by `dciodvfy`, where that is installed.

    Raises
    ------
    ConformanceError
        It finds an error that is not the source's own.
    """
    tool = dciodvfy.installed()
    if tool is not None:
        _refuse(dataset, iter(dciodvfy.reported_errors(path, dataset, origin.sources[0], tool)))


def find_faults(dataset: Dataset, origin: Origin) -> Iterator[Fault]:
    """Yield every rule that an object breaks, the most basic ones first."""
    source = origin.sources[0]
    promised = (*ALWAYS_REQUIRED, *REQUIRED.get(str(dataset.SOPClassUID), ()))
    yield from missing_attributes(dataset, source, promised)
    yield from foreign_identity(dataset, source)
    yield from leaked_identifiers(dataset, source, origin.result)
    yield from invalid_values(dataset, source)
    yield from foreign_uids(dataset, origin.sources)
    yield from stray_references(dataset, origin.sources, origin.companions)
    yield from unresolved_codes(dataset, source, (finding.label for finding in origin.result.findings))
    if "SegmentSequence" in dataset:
        yield from misplaced_frames(dataset, origin.volume)
    if "ContentSequence" in dataset:
        yield from misplaced_points(dataset, origin.volume)
    if "ROIContourSequence" in dataset:
        yield from misplaced_contours(dataset, origin.volume)
    if dataset.SOPClassUID == SECONDARY_CAPTURE:
        yield from hidden_features(dataset, origin.sources)
        yield from misplaced_picture(dataset, origin.volume)


def _refuse(dataset: Dataset, faults: Iterator[Fault]) -> None:
    first = list(islice(faults, _SHOWN))
    if first:
        more = ", and perhaps more" if len(first) == _SHOWN else ""
        raise ConformanceError(f"{_name(dataset)}: {'; '.join(map(str, first))}{more}: {_REMEDY}")


def _name(dataset: Dataset) -> str:
    return f"{dataset.get('Modality', 'object')} {dataset.get('SOPInstanceUID', 'without UID')}"
