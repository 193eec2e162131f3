"""The gate before delivery: a result that breaks the standard or points at the wrong thing stays here."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from fewshot_node.dicom.identity import is_uid
from fewshot_node.dicom.objects.geometry import planes_of
from fewshot_node.errors import ConformanceError, GeometryError
from fewshot_node.records import Volume

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"

_TOLERANCE_MM = 0.01
_REMEDY = "a fault of this node; keep the series and report it"

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
    "ContentDate",
    "ContentTime",
    "ContributingEquipmentSequence",
)
REQUIRED = {
    SEGMENTATION: (
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
    ),
    COMPREHENSIVE_3D_SR: (
        "CompletionFlag",
        "VerificationFlag",
        "PreliminaryFlag",
        "ValueType",
        "ConceptNameCodeSequence",
        "ContentTemplateSequence",
        "ContentSequence",
        "CurrentRequestedProcedureEvidenceSequence",
    ),
}
"""Attributes of type 1, or that this node promises, of each object's modules (PS3.3 A.51.3, A.35.13.3)."""

_IDENTITY = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "AccessionNumber",
)


def check_object(dataset: Dataset, volume: Volume, sources: Sequence[Dataset]) -> None:
    """Check a Segmentation or a report before it leaves.

    Parameters
    ----------
    sources
        Headers of the volume's instances, from `read_sources`.

    Raises
    ------
    ConformanceError
        A required attribute is absent or empty, patient or study is not the source's, a UID is the
        source's own, a reference leads outside the instances used, or a frame lies off the volume's grid.
    """
    name = f"{dataset.get('Modality', 'object')} {dataset.get('SOPInstanceUID', 'without UID')}"
    _require_attributes(dataset, name)
    _require_identity(dataset, sources[0], name)
    _require_new_uids(dataset, volume, sources, name)
    _require_references(dataset, sources, name)
    if dataset.SOPClassUID == SEGMENTATION:
        _require_geometry(dataset, volume, name)


def _require_attributes(dataset: Dataset, name: str) -> None:
    sop_class = str(dataset.get("SOPClassUID", ""))
    if sop_class not in REQUIRED:
        raise ConformanceError(f"{name}: SOP class {sop_class} is none that this node writes: {_REMEDY}")
    for keyword in (*ALWAYS_REQUIRED, *REQUIRED[sop_class]):
        if keyword not in dataset or dataset[keyword].is_empty:
            raise ConformanceError(f"{name}: {keyword} is absent or empty: {_REMEDY}")


def _require_identity(dataset: Dataset, source: Dataset, name: str) -> None:
    for keyword in _IDENTITY:
        if str(dataset.get(keyword) or "") != str(source.get(keyword) or ""):
            raise ConformanceError(f"{name}: {keyword} is not that of the source: {_REMEDY}")


def _require_new_uids(dataset: Dataset, volume: Volume, sources: Sequence[Dataset], name: str) -> None:
    used = {str(source.SOPInstanceUID) for source in sources}
    if str(dataset.SOPInstanceUID) in used or str(dataset.SeriesInstanceUID) == volume.series_instance_uid:
        raise ConformanceError(f"{name}: it has a UID of its own source: {_REMEDY}")
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        if not is_uid(str(dataset[keyword].value)):
            raise ConformanceError(f"{name}: {keyword} is no UID: {_REMEDY}")


def _require_references(dataset: Dataset, sources: Sequence[Dataset], name: str) -> None:
    allowed = {str(source.SOPInstanceUID) for source in sources}
    if dataset.SOPClassUID == SEGMENTATION:
        _require_within(_referenced(dataset), allowed, f"{name}: it refers to instances that were not used")
        return
    evidence = _referenced_by(dataset.CurrentRequestedProcedureEvidenceSequence)
    segmentations = {uid for uid, sop_class in evidence.items() if sop_class == SEGMENTATION}
    _require_within(evidence, allowed | segmentations, f"{name}: its evidence was not used")
    _require_within(_referenced_by(dataset.ContentSequence), set(evidence), f"{name}: it refers to what is no evidence")


def _require_within(found: Iterable[str], allowed: set[str], message: str) -> None:
    outside = sorted(set(found) - allowed)
    if outside:
        raise ConformanceError(f"{message} ({outside[0]}): {_REMEDY}")


def _referenced(segmentation: Dataset) -> dict[str, str]:
    """Return the instances that a segmentation says it was derived from, not those of its copied study."""
    groups = [item.get("DerivationImageSequence") or () for item in _functional_groups(segmentation)]
    sequences = (
        segmentation.ReferencedSeriesSequence,
        segmentation.get("SourceImageSequence") or (),
        *groups,
    )
    return {uid: sop_class for sequence in sequences for uid, sop_class in _referenced_by(sequence).items()}


def _functional_groups(segmentation: Dataset) -> Iterable[Dataset]:
    yield from segmentation.SharedFunctionalGroupsSequence
    yield from segmentation.PerFrameFunctionalGroupsSequence


def _referenced_by(sequence: Iterable[Dataset]) -> dict[str, str]:
    """Map each SOP Instance UID that is referenced anywhere below a sequence to its SOP Class UID."""
    found: dict[str, str] = {}
    for item in sequence:
        if "ReferencedSOPInstanceUID" in item:
            found[str(item.ReferencedSOPInstanceUID)] = str(item.get("ReferencedSOPClassUID", ""))
        for element in item:
            if element.VR == "SQ":
                found |= _referenced_by(element.value)
    return found


def _require_geometry(dataset: Dataset, volume: Volume, name: str) -> None:
    """Check that each frame lies on a slice of the volume, corner by corner in mm."""
    try:
        planes = planes_of(dataset, Path())
    except GeometryError as error:
        raise ConformanceError(f"{name}: frames without geometry: {_REMEDY}") from error
    slices, rows, columns = volume.array.shape
    for number, plane in enumerate(planes, 1):
        far = plane.position_mm + plane.cosines[3:] * plane.spacing_mm[0] * (rows - 1)
        far = far + plane.cosines[:3] * plane.spacing_mm[1] * (columns - 1)
        slice_index = float(np.rint(volume.to_index(plane.position_mm)[0]))
        expected = volume.to_mm(np.array([[slice_index, 0, 0], [slice_index, rows - 1, columns - 1]]))
        off = float(np.abs(expected - np.stack([plane.position_mm, far])).max())
        inside = 0 <= slice_index < slices and plane.shape == (rows, columns)
        if not inside or off > _TOLERANCE_MM:
            raise ConformanceError(f"{name}: frame {number} is not on a slice of the volume: {_REMEDY}")
