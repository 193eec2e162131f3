"""The head of a data set: what real encodings hold, and what hostile ones may not cost."""

import resource
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from struct import pack
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from fewshot_node.dicom.identity import InstanceIdentity, read_identity
from fewshot_node.errors import NotDicomError

COUNTS = ("NumberOfSeriesRelatedInstances", "ImagesInAcquisition", "InConcatenationTotalNumber")
EXPLICIT = str(ExplicitVRLittleEndian)
ITEM = pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
ITEM_END = pack("<HHL", 0xFFFE, 0xE00D, 0)
SEQUENCE_END = pack("<HHL", 0xFFFE, 0xE0DD, 0)

Read = Callable[..., InstanceIdentity]


def element(tag: int, vr: bytes, value: bytes) -> bytes:
    return pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


def long_element(tag: int, vr: bytes, length: int) -> bytes:
    return pack("<HH2sHL", tag >> 16, tag & 0xFFFF, vr, 0, length)


SOP = element(0x00080016, b"UI", b"1.2.840.10008.5.1.4.1.1.2\0") + element(0x00080018, b"UI", b"1.2.3.4\0")
STUDY = element(0x0020000D, b"UI", b"1.2.3\0")
UIDS = STUDY + element(0x0020000E, b"UI", b"1.2.3.9\0")
FOUND = ("1.2.840.10008.5.1.4.1.1.2", "1.2.3.4", "1.2.3", "1.2.3.9")


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Read the identity of an encoded data set, with all counts."""

    def identify(encoded: bytes, transfer_syntax_uid: str = EXPLICIT, counts: tuple[str, ...] = COUNTS) -> Any:
        path = tmp_path / "head"
        path.write_bytes(b"meta" + encoded)
        return read_identity(path, 4, transfer_syntax_uid, counts)

    return identify


def uids(identity: InstanceIdentity) -> tuple[str, ...]:
    return (
        identity.sop_class_uid,
        identity.sop_instance_uid,
        identity.study_instance_uid,
        identity.series_instance_uid,
    )


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("undefined_length", [False, True])
def test_what_pydicom_writes_is_read(read: Read, make_instance: Any, syntax: str, undefined_length: bool) -> None:
    inner = Dataset()
    inner.SeriesInstanceUID = "9.9.9"  # of another series: not of the first level
    inner.NumberOfSeriesRelatedInstances = 999
    outer = Dataset()
    outer.ReferencedInstanceSequence = Sequence([inner])
    for item in (inner, outer):
        item.is_undefined_length_sequence_item = undefined_length
    instance = make_instance(1, ImagesInAcquisition=40, NumberOfSeriesRelatedInstances=87, InConcatenationTotalNumber=3)
    instance.ReferencedSeriesSequence = Sequence([outer, outer])
    instance["ReferencedSeriesSequence"].is_undefined_length = undefined_length
    buffer = BytesIO()
    implicit = syntax == ImplicitVRLittleEndian
    instance.file_meta = Dataset()  # type: ignore[assignment]
    dcmwrite(buffer, instance, implicit_vr=implicit, little_endian=syntax != ExplicitVRBigEndian)
    identity = read(buffer.getvalue(), syntax)
    expected = (instance.SOPClassUID, instance.SOPInstanceUID, instance.StudyInstanceUID, instance.SeriesInstanceUID)
    assert uids(identity) == expected
    assert identity.stated_instances == 87
    assert read(buffer.getvalue(), syntax, ("InConcatenationTotalNumber",)).stated_instances == 3
    assert read(buffer.getvalue(), syntax, ()).stated_instances is None


def test_an_unknown_value_of_undefined_length_holds_implicit_vr(read: Read) -> None:
    """PS3.5 6.2.2; the length 0x4955 would read as the VR UI."""
    inside = pack("<HHL", 0x0008, 0x1150, 0x4955) + bytes(0x4955)
    unknown = long_element(0x00091010, b"UN", 0xFFFFFFFF) + ITEM + inside + ITEM_END + SEQUENCE_END
    assert uids(read(SOP + unknown + UIDS)) == FOUND


def test_encapsulated_fragments_before_the_uids_are_passed(read: Read) -> None:
    fragments = pack("<HHL", 0xFFFE, 0xE000, 0) + pack("<HHL", 0xFFFE, 0xE000, 8) + ITEM_END
    assert uids(read(SOP + long_element(0x00091010, b"OB", 0xFFFFFFFF) + fragments + SEQUENCE_END + UIDS)) == FOUND


def test_a_data_set_in_the_other_vr_encoding_than_it_says_is_read(read: Read) -> None:
    assert uids(read(SOP + UIDS, ImplicitVRLittleEndian)) == FOUND
    implicit = b"".join(
        pack("<HHL", tag >> 16, tag & 0xFFFF, len(value)) + value
        for tag, value in (
            (0x00080016, b"1.2.840.10008.5.1.4.1.1.2\0"),
            (0x00080018, b"1.2.3.4\0"),
            (0x0020000D, b"1.2.3\0"),
            (0x0020000E, b"1.2.3.9\0"),
        )
    )
    assert uids(read(implicit, EXPLICIT)) == FOUND


@pytest.mark.parametrize(
    "value",
    [b"", b"0 ", b"-5", b"5\\6 ", b"1e3 ", b"12.5", b"99999999", b"9" * 40, "\u0663".encode(), b"\xb2 "],
)
def test_a_count_that_is_no_plausible_number_is_none(read: Read, value: bytes) -> None:
    identity = read(SOP + UIDS + element(0x00201209, b"IS", value))
    assert (uids(identity), identity.stated_instances) == (FOUND, None)


@pytest.mark.parametrize(
    "rest",
    [
        long_element(0x00201000, b"SQ", 0xFFFFFFFF) + b"garbage!" * 4,
        long_element(0x00201000, b"SQ", 0xFFFFFFFF),
        long_element(0x00201000, b"SQ", 0xFFFFFFFF) + ITEM * 200,
        (long_element(0x00201000, b"SQ", 0xFFFFFFFF) + ITEM) * 100,
        long_element(0x00201209, b"UN", 0xFFFFFFF0) + b"9" * 1000,
        element(0x00201209, b"IS", b"12")[:-1],
        b"\x20\x00\x09",
        pack("<HH2sH", 0x0020, 0x1208, b"UN", 0),
    ],
)
def test_what_is_amiss_behind_the_uids_costs_the_count_only(read: Read, rest: bytes) -> None:
    identity = read(SOP + UIDS + rest)
    assert uids(identity) == FOUND
    assert identity.stated_instances in {None, 1}


@pytest.mark.parametrize(
    ("encoded", "why"),
    [
        (SOP + STUDY, "SeriesInstanceUID is absent"),
        (SOP + long_element(0x0020000D, b"UN", 0x7FFFFFF0) + UIDS, "StudyInstanceUID is not a valid UID"),
        (SOP + (long_element(0x00081140, b"SQ", 0xFFFFFFFF) + ITEM) * 100 + UIDS, "nests too deeply"),
        (SOP + long_element(0x00081140, b"SQ", 0xFFFFFFF0) + UIDS, "StudyInstanceUID is absent"),
        (ITEM_END + SOP + UIDS, "SOPClassUID is absent"),
    ],
)
def test_a_head_without_sound_uids_is_refused(read: Read, encoded: bytes, why: str) -> None:
    with pytest.raises(NotDicomError, match=why):
        read(encoded)


def test_millions_of_items_cost_neither_memory_nor_time(tmp_path: Path) -> None:
    """Decoded, each of them takes some 700 bytes: an instance of 40 MB took 3 GB and two minutes."""
    path = tmp_path / "items"
    with path.open("wb") as file:
        file.write(SOP + long_element(0x00081140, b"SQ", 0xFFFFFFFF))
        for _ in range(40):
            file.write(pack("<HHL", 0xFFFE, 0xE000, 0) * 125_000)
        file.write(SEQUENCE_END + UIDS)
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(NotDicomError, match="too many elements"):
        read_identity(path, 0, EXPLICIT)
    assert time.monotonic() - started < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20 * 1024
