"""Which instance is this: UIDs of an encoded data set, and File Meta Information for it (PS3.10 7.1)."""

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from pydicom import config
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_file_meta_info
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from fewshot_node import __version__
from fewshot_node.dicom.head import head_values
from fewshot_node.errors import NotDicomError
from fewshot_node.uids import derive_uid

_UID = re.compile(r"[0-9]+(\.[0-9]+)*", re.ASCII)
_KEYWORDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_TAGS = {keyword: tag_for_keyword(keyword) or 0 for keyword in _KEYWORDS}

# JPIP Referenced Deflate and JPIP HTJ2K Referenced Deflate deflate the data set too (PS3.5 A.7, A.10).
_DEFLATED = {DeflatedExplicitVRLittleEndian, "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"}
_DEFLATED_HEAD_BYTES = 16 * 2**20

MOST_INSTANCES = 1_000_000
"""A series is not taken to have more, whoever says so."""
_LONGEST_IS = 12

_PREFIX = bytes(128) + b"DICM"
_GROUP_LENGTH_ELEMENT_BYTES = 12

IMPLEMENTATION_CLASS_UID = derive_uid("implementation-class")
IMPLEMENTATION_VERSION_NAME = f"FEWSHOT_{__version__}"[:16]


@dataclass(frozen=True, slots=True)
class InstanceIdentity:
    """The UIDs that say what an instance is and where it belongs."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    stated_instances: int | None = None
    """How many instances the series has, where an attribute says so."""


def is_uid(text: str) -> bool:
    """Tell whether `text` has the form of a UID: groups of digits joined by dots, at most 64 characters.

    PS3.5 9.1 also forbids leading zeros in a group. Devices in use send them, and they do no harm in a
    path, so they are let through.
    """
    return len(text) <= 64 and _UID.fullmatch(text) is not None


def decode_uid(value: object) -> str:
    """Return a UID as text from its encoded value, without the padding (PS3.5 9.1).

    pydicom's own conversion would warn about each unusual value; what is unusual is decided by `is_uid`.
    """
    return value.decode("ascii", errors="replace").rstrip("\0 ") if isinstance(value, bytes) else ""


def encode_file_meta(
    identity: tuple[str, str], transfer_syntax_uid: str, calling_ae_title: str, ae_title: str
) -> bytes:
    """Return preamble, prefix and File Meta Information (PS3.10 7.1) of a received instance.

    `identity` is (SOP Class UID, SOP Instance UID). The peer that called is both the source of the file
    and the sending AE; this node is the receiving one.
    """
    meta = FileMetaDataset()
    values = {
        "MediaStorageSOPClassUID": ("UI", identity[0]),
        "MediaStorageSOPInstanceUID": ("UI", identity[1]),
        "TransferSyntaxUID": ("UI", transfer_syntax_uid),
        "ImplementationClassUID": ("UI", IMPLEMENTATION_CLASS_UID),
        "ImplementationVersionName": ("SH", IMPLEMENTATION_VERSION_NAME),
        "SourceApplicationEntityTitle": ("AE", calling_ae_title),
        "SendingApplicationEntityTitle": ("AE", calling_ae_title),
        "ReceivingApplicationEntityTitle": ("AE", ae_title),
    }
    for keyword, (vr, value) in values.items():
        meta.add(DataElement(tag_for_keyword(keyword) or 0, vr, value, validation_mode=config.IGNORE))
    buffer = DicomBytesIO()
    write_file_meta_info(buffer, meta, enforce_standard=True)
    return _PREFIX + buffer.getvalue()


def read_file_meta(path: Path) -> tuple[FileMetaDataset, int]:
    """Return the File Meta Information of a stored file and the offset of its data set.

    Raises
    ------
    NotDicomError
        The file does not begin like a file that this node stores.
    """
    try:
        meta = read_file_meta_info(path)
        group_length = int(meta.FileMetaInformationGroupLength)
    except Exception as error:  # pydicom raises many kinds for bytes that are no DICOM
        message = f"{path} is not a stored DICOM file: remove it from the spool"
        raise NotDicomError(message) from error
    return meta, len(_PREFIX) + _GROUP_LENGTH_ELEMENT_BYTES + group_length


def read_identity(
    path: Path, dataset_offset: int, transfer_syntax_uid: str, stated_counts: Sequence[str] = ()
) -> InstanceIdentity:
    """Read the identifying UIDs of the data set that begins at an offset of a file.

    Only the head of the data set is parsed; nothing is decoded, and no value but the four UIDs and the
    stated counts is kept.

    Parameters
    ----------
    stated_counts
        Keywords of attributes that may say how many instances the series has.

    Raises
    ------
    NotDicomError
        The data set cannot be parsed, or one of the UIDs is absent or has not the form of a UID.
    """
    try:
        values = _read_head(path, dataset_offset, UID(transfer_syntax_uid), stated_counts)
    except (OSError, ValueError, zlib.error) as error:
        raise NotDicomError(f"data set cannot be parsed ({type(error).__name__})") from error
    sop_class, sop_instance, study, series = (_uid_value(values, keyword) for keyword in _KEYWORDS)
    stated = _largest_count(values, UID(transfer_syntax_uid), stated_counts)
    return InstanceIdentity(sop_class, sop_instance, study, series, stated)


def _read_head(path: Path, dataset_offset: int, transfer_syntax: UID, counts: Sequence[str]) -> dict[int, bytes]:
    """Return the encoded values of UIDs and counts by tag; what is amiss behind the UIDs costs only the counts."""
    tags = set(_TAGS.values()) | {tag_for_keyword(keyword) or 0 for keyword in counts}
    values: dict[int, bytes] = {}
    with path.open("rb") as file:
        file.seek(dataset_offset)
        head = _inflate_head(file) if transfer_syntax in _DEFLATED else file
        try:
            for tag, value in head_values(head, transfer_syntax, tags):
                values[tag] = value  # noqa: PERF403  what came before an error counts
        except NotDicomError:
            if not all(tag in values for tag in _TAGS.values()):
                raise
    return values


def _inflate_head(file: BinaryIO) -> BinaryIO:
    """Inflate no more than a fixed amount: a small file can deflate to many gigabytes."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    return BytesIO(inflater.decompress(file.read(_DEFLATED_HEAD_BYTES), _DEFLATED_HEAD_BYTES))


def _largest_count(values: dict[int, bytes], transfer_syntax: UID, keywords: Sequence[str]) -> int | None:
    """Return the largest of the stated counts; what is no plausible number is not stated."""
    tags = [tag_for_keyword(keyword) or 0 for keyword in keywords]
    counts = [_count(values[tag], dictionary_VR(tag), transfer_syntax) for tag in tags if tag in values]
    return max((count for count in counts if 0 < count <= MOST_INSTANCES), default=None)


def _count(value: bytes, vr: str, transfer_syntax: UID) -> int:
    if vr == "US":
        return int.from_bytes(value, "little" if transfer_syntax.is_little_endian else "big")
    text = value.strip(b" \0")
    return int(text) if len(text) <= _LONGEST_IS and text.isdigit() else 0


def _uid_value(values: dict[int, bytes], keyword: str) -> str:
    value = decode_uid(values.get(_TAGS[keyword]))
    if not value:
        raise NotDicomError(f"{keyword} is absent or empty")
    if not is_uid(value):
        raise NotDicomError(f"{keyword} is not a valid UID")
    return value
