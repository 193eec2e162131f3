"""Asking the PACS what it has, and for it: C-FIND and C-GET in the study root model (PS3.4 C)."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    Comprehensive3DSRStorage,
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    MRImageStorage,
    RLELossless,
    SegmentationStorage,
)
from pynetdicom import build_context, evt

from fewshot_node.config import PacsSettings
from fewshot_node.dicom.association import SUCCESS, associate, peer_name, read_answers
from fewshot_node.dicom.identity import is_uid
from fewshot_node.errors import DeliveryError, NotDicomError

FIND = UID("1.2.840.10008.5.1.4.1.2.2.1")
GET = UID("1.2.840.10008.5.1.4.1.2.2.3")
_RETRIEVED = [
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    JPEGLosslessSV1,
    RLELossless,
]
_USUAL = [
    CTImageStorage,
    EnhancedCTImageStorage,
    MRImageStorage,
    EnhancedMRImageStorage,
    SegmentationStorage,
    Comprehensive3DSRStorage,
]


@dataclass(frozen=True, slots=True, order=True)
class InstanceReference:
    """What it takes to ask for one instance in the study root model."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str = str(ExplicitVRLittleEndian)


@dataclass(frozen=True, slots=True)
class RemoteSeries:
    """A series that the PACS lists."""

    series_instance_uid: str
    modality: str
    description: str


def missing_instances(references: Sequence[InstanceReference], pacs: PacsSettings) -> tuple[str, ...]:
    """Return the SOP Instance UIDs that the PACS does not list (C-FIND at IMAGE level).

    Raises
    ------
    PeerUnavailableError, DeliveryError
        The PACS cannot be asked.
    """
    by_series: dict[tuple[str, str], set[str]] = defaultdict(set)
    for reference in references:
        key = (reference.study_instance_uid, reference.series_instance_uid)
        by_series[key].add(reference.sop_instance_uid)
    missing: set[str] = set()
    for (study_uid, series_uid), wanted in by_series.items():
        missing |= wanted - {str(item.get("SOPInstanceUID")) for item in _images(study_uid, series_uid, pacs)}
    return tuple(sorted(missing))


def list_series(study_instance_uid: str, pacs: PacsSettings) -> tuple[RemoteSeries, ...]:
    """List the series of a study (C-FIND at SERIES level).

    Raises
    ------
    PeerUnavailableError, DeliveryError
        The PACS cannot be asked.
    """
    query = _query("SERIES", StudyInstanceUID=study_instance_uid, SeriesInstanceUID="")
    query.Modality = query.SeriesDescription = ""
    # Some archives answer once for each instance.
    found = {str(item.get("SeriesInstanceUID")): item for item in _find(query, pacs)}
    return tuple(
        RemoteSeries(uid, str(item.get("Modality", "")), str(item.get("SeriesDescription", "")))
        for uid, item in found.items()
        if is_uid(uid)
    )


def fetch_series(study_instance_uid: str, series_instance_uid: str, pacs: PacsSettings) -> list[Dataset]:
    """Fetch the instances of a series over the same association (C-GET), sorted by SOP Instance UID.

    Raises
    ------
    PeerUnavailableError, DeliveryError
        The PACS cannot be asked, has no such series, or does not send all of it.
    """
    listed = list_instances(study_instance_uid, series_instance_uid, pacs)
    if not listed:
        raise DeliveryError(f"{peer_name(pacs)} lists no series {series_instance_uid}: check the UID")
    sop_classes = classes_of(listed)
    received: dict[str, Dataset] = {}

    def keep(event: evt.Event) -> int:
        dataset = event.dataset
        dataset.file_meta = event.file_meta
        received[str(dataset.SOPInstanceUID)] = dataset
        return SUCCESS

    contexts = [build_context(GET)]
    # one context for each transfer syntax, so that the PACS may send every instance as it is stored
    contexts += [build_context(sop_class, syntax) for sop_class in sop_classes for syntax in _RETRIEVED]
    with associate(pacs, contexts, sop_classes, [(evt.EVT_C_STORE, keep)]) as association:
        query = _query("SERIES", StudyInstanceUID=study_instance_uid, SeriesInstanceUID=series_instance_uid)
        responses = association.send_c_get(query, GET)
        list(read_answers(responses, pacs, "C-GET"))
    if len(received) < len(listed):
        count = f"{len(received)} of {len(listed)} instances"
        raise DeliveryError(f"{peer_name(pacs)} sent {count} of {series_instance_uid}: look at its log")
    return [received[uid] for uid in sorted(received)]


def read_reference(path: Path) -> InstanceReference:
    """Read from a file what it takes to send it and to ask for it.

    Raises
    ------
    NotDicomError
        It is no DICOM file.
    """
    tags = ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"]
    try:
        dataset = pydicom.dcmread(path, specific_tags=list(tags), stop_before_pixels=True)
        return InstanceReference(
            str(dataset.StudyInstanceUID),
            str(dataset.SeriesInstanceUID),
            str(dataset.SOPInstanceUID),
            str(dataset.SOPClassUID),
            str(dataset.file_meta.TransferSyntaxUID),
        )
    except (pydicom.errors.InvalidDicomError, OSError, EOFError, AttributeError, ValueError) as error:
        raise NotDicomError(f"{path} is no DICOM file that can be sent: check the outbox") from error


def list_instances(study_instance_uid: str, series_instance_uid: str, pacs: PacsSettings) -> dict[str, str]:
    """List the instances of a series (C-FIND at IMAGE level): SOP Instance UID -> SOP Class UID.

    The class is empty where the PACS does not say it: it is an optional key.

    Raises
    ------
    PeerUnavailableError, DeliveryError
        The PACS cannot be asked.
    """
    listed = _images(study_instance_uid, series_instance_uid, pacs)
    return {str(item.get("SOPInstanceUID")): str(item.get("SOPClassUID", "")) for item in listed}


def classes_of(listed: Mapping[str, str]) -> list[str]:
    """Return the SOP classes of listed instances, or where none is said those that this node makes and reads."""
    return sorted({sop_class for sop_class in listed.values() if is_uid(sop_class)}) or list(_USUAL)


def _images(study_uid: str, series_uid: str, pacs: PacsSettings) -> Iterator[Dataset]:
    query = _query("IMAGE", StudyInstanceUID=study_uid, SeriesInstanceUID=series_uid, SOPInstanceUID="")
    query.SOPClassUID = ""
    return _find(query, pacs)


def _query(level: str, **keys: str) -> Dataset:
    query = Dataset()
    query.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(query, keyword, value)
    return query


def _find(query: Dataset, pacs: PacsSettings) -> Iterator[Dataset]:
    """Ask, and give one answer at a time: a series may have many thousand instances. To be read to its end."""
    with associate(pacs, [build_context(FIND)]) as association:
        yield from read_answers(association.send_c_find(query, FIND), pacs, "C-FIND")
