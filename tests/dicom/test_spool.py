"""The spool: what becomes of a received file, and what can be read back from files alone."""

import errno
import os
import resource
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

import fewshot_node.dicom.spool as spool_module
from fewshot_node.dicom.identity import (
    InstanceIdentity,
    encode_file_meta,
    is_uid,
    read_file_meta,
    read_identity,
)
from fewshot_node.dicom.spool import Placement, Spool
from fewshot_node.errors import ConfigurationError, DiskFullError, NotDicomError, RefusedError

Put = Callable[..., Placement]


@pytest.fixture
def put(spool: Spool, make_instance: Any, encode_instance: Any) -> Put:
    """Make an instance, write it as a received file and place it."""

    def place(number: int = 1, calling: str = "SCANNER", **changes: Any) -> Placement:
        dataset = make_instance(number, **changes)
        uids = (dataset.SOPClassUID, dataset.SOPInstanceUID)
        meta = encode_file_meta(uids, dataset.file_meta.TransferSyntaxUID, calling, "FEWSHOT")
        file, path = spool.open_incoming()
        with file:
            file.write(meta + encode_instance(dataset))
        identity = InstanceIdentity(*uids, dataset.StudyInstanceUID, dataset.SeriesInstanceUID)
        return spool.place(path, len(meta), identity)

    return place


def everything(spool: Spool) -> list[str]:
    return sorted(str(path.relative_to(spool.root)) for path in spool.root.rglob("*") if path.is_file())


def test_a_placed_file_is_dicom_with_the_ae_titles(spool: Spool, put: Put, make_instance: Any) -> None:
    assert put() is Placement.STORED
    series = make_instance().SeriesInstanceUID
    (path,) = spool.series_files(series)
    assert everything(spool) == [f"series/{series}/{series}.1.dcm"]
    stored = dcmread(path)
    meta = stored.file_meta
    assert meta.SourceApplicationEntityTitle == "SCANNER"
    assert meta.SendingApplicationEntityTitle == "SCANNER"
    assert meta.ReceivingApplicationEntityTitle == "FEWSHOT"
    assert meta.MediaStorageSOPInstanceUID == stored.SOPInstanceUID
    assert meta.MediaStorageSOPClassUID == stored.SOPClassUID
    assert meta.ImplementationClassUID.startswith("2.25.")
    assert stored.PixelData == make_instance().PixelData


def test_the_same_instance_twice_is_kept_once(spool: Spool, put: Put) -> None:
    assert put(calling="SCANNER") is Placement.STORED
    before = everything(spool)
    assert put(calling="ROUTER_WITH_LONG") is Placement.IDENTICAL  # the data set counts, not the File Meta
    leftovers = [name for name in everything(spool) if name.startswith("incoming/")]
    assert [name for name in everything(spool) if name not in leftovers] == before


def test_a_changed_instance_is_kept_aside_once(spool: Spool, put: Put, make_instance: Any) -> None:
    put()
    first = spool.series_files(make_instance().SeriesInstanceUID)[0].read_bytes()
    for _ in range(2):
        assert put(InstanceNumber=77) is Placement.CONFLICT
    assert put(InstanceNumber=787878) is Placement.CONFLICT
    (stored,) = spool.series_files(make_instance().SeriesInstanceUID)
    assert stored.read_bytes() == first
    aside = [name for name in everything(spool) if name.startswith("conflicts/")]
    assert len(aside) == 2
    assert {dcmread(spool.root / name).InstanceNumber for name in aside} == {77, 787878}


@pytest.mark.parametrize(
    "uid",
    [
        "",
        ".",
        "..",
        "../1",
        "/etc",
        "1..2",
        "1.",
        ".1",
        "1.2/3",
        "1.2\0",
        "1.2\n",
        "1.2 ",
        "1.a",
        "\u0661.\u0662",
        "1" * 65,
    ],
)
def test_what_is_no_uid_becomes_no_path(spool: Spool, uid: str, tmp_path: Path) -> None:
    assert not is_uid(uid)
    before = sorted(tmp_path.rglob("*"))
    file, path = spool.open_incoming()
    file.close()
    for identity in (InstanceIdentity("1.2", uid, "1.3", "1.4"), InstanceIdentity("1.2", "1.3", "1.4", uid)):
        with pytest.raises(NotDicomError):
            spool.place(path, 0, identity)
    with pytest.raises(NotDicomError):
        spool.series_files(uid)
    path.unlink()
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == []
    assert set(before) <= set(tmp_path.rglob("*"))


@pytest.mark.parametrize("uid", ["1", "1.2.840.10008.1.2", "0.0", "999.999.01.23", "1" * 64])
def test_uids_that_devices_use_are_let_through(uid: str) -> None:
    assert is_uid(uid)


def test_scan_tells_counts_sizes_and_times(spool: Spool, put: Put) -> None:
    put(1)
    put(2)
    put(1, series_uid="1.2.3")
    (spool.root / "series" / "not a uid").mkdir()
    (spool.root / "series" / "1.2.99").mkdir()
    found = {spooled.series_instance_uid: spooled for spooled in spool.scan()}
    assert {uid: spooled.instances for uid, spooled in found.items()} == {
        "1.2.3": 1,
        "1.2.826.0.1.3680043.8.498.2": 2,
    }
    for uid, spooled in found.items():
        sizes = [path.stat().st_size for path in spool.series_files(uid)]
        assert spooled.bytes == sum(sizes)
        assert spooled.first_received <= spooled.last_received
        assert spooled.first_received.utcoffset() is not None


def test_the_origin_of_a_series_is_in_its_files(spool: Spool, put: Put, make_instance: Any) -> None:
    put(calling="CT 1")
    origin = spool.origin(make_instance().SeriesInstanceUID)
    assert (origin.study_instance_uid, origin.calling_ae_title) == (make_instance().StudyInstanceUID, "CT 1")
    with pytest.raises(NotDicomError, match=r"1\.9\.9 is not in the spool"):
        spool.origin("1.9.9")


def test_sweep_removes_what_was_not_finished_and_nothing_else(spool: Spool, put: Put) -> None:
    put()
    stored = everything(spool)
    file, _ = spool.open_incoming()
    file.write(b"half an ins")
    file.close()
    assert spool.sweep() == 1
    assert everything(spool) == stored
    assert spool.sweep() == 0


def test_a_crash_in_the_middle_of_a_removal_leaves_no_conflicts(
    spool: Spool, put: Put, make_instance: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    series, other = make_instance().SeriesInstanceUID, f"{make_instance().SeriesInstanceUID}0"
    for uid in (series, other):
        put(SeriesInstanceUID=uid)
        assert put(SeriesInstanceUID=uid, InstanceNumber=77) is Placement.CONFLICT
    rename, renamed = Path.rename, []

    def killed_at_the_second(path: Path, target: Path) -> Path:
        renamed.append(path)
        if len(renamed) == 2:
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            spool.remove_series(series, 1)
    again = Spool(spool.root)
    assert again.series_files(series) == ()
    again.sweep()
    assert len(list((spool.root / "conflicts").iterdir())) == 1
    assert sorted({name.split("/")[1] for name in everything(again)}) == [other]


@pytest.mark.parametrize("step", ["_same_dataset", "sha256_of"])
def test_a_conflict_with_a_series_that_is_removed_meanwhile_is_stored(
    spool: Spool, put: Put, make_instance: Any, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    series = make_instance().SeriesInstanceUID
    put()
    works = getattr(spool_module, step)

    def remove_first(*arguments: Any) -> Any:
        spool.remove_series(series, 1)
        return works(*arguments)

    monkeypatch.setattr(spool_module, step, remove_first)
    assert put(InstanceNumber=77) is Placement.STORED
    (stored,) = spool.series_files(series)
    assert dcmread(stored).InstanceNumber == 77
    assert list((spool.root / "conflicts").iterdir()) == []


def test_one_process_receives_into_a_spool(spool: Spool) -> None:
    with (
        spool.receiving(),
        pytest.raises(ConfigurationError, match="used by another receiver"),
        Spool(spool.root).receiving(),
    ):
        pass
    with spool.receiving():
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"file/spool cannot be made.*home"):
        Spool(tmp_path / "file" / "spool")


@pytest.mark.parametrize(
    ("number", "kind"), [("ENOSPC", DiskFullError), ("EDQUOT", DiskFullError), ("EROFS", RefusedError)]
)
def test_a_failing_disk_is_a_refusal(
    spool: Spool, put: Put, monkeypatch: pytest.MonkeyPatch, number: str, kind: type[Exception]
) -> None:
    def fail(_descriptor: int) -> None:
        raise OSError(getattr(errno, number), "as the kernel says")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(RefusedError) as caught:
        put()
    assert type(caught.value) is kind


def test_a_resend_after_a_failed_sync_is_durable_before_it_is_answered(
    spool: Spool, put: Put, make_instance: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(1)
    folder = spool.series_files(make_instance().SeriesInstanceUID)[0].parent
    works = os.fsync

    def fail_on_the_series(descriptor: int) -> None:
        if os.path.samestat(os.fstat(descriptor), folder.stat()):
            raise OSError(errno.EIO, "as the kernel says")
        works(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail_on_the_series)
        for _ in range(2):  # the file is there after the first time, but nothing has made that durable
            with pytest.raises(RefusedError, match="as the kernel says"):
                put(2)
    assert put(2) is Placement.IDENTICAL


def test_the_folders_of_a_new_spool_are_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    works = os.fsync

    def record(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        works(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    root = tmp_path / "home" / "spool"
    Spool(root)
    assert {path.stat().st_ino for path in (tmp_path, tmp_path / "home", root)} <= set(synced)


@pytest.mark.parametrize("meta", [b"", b"DICM", bytes(128) + b"DICM", bytes(128) + b"DICM" + b"\xff" * 40])
def test_a_file_without_file_meta_is_not_a_stored_one(tmp_path: Path, meta: bytes) -> None:
    path = tmp_path / "broken.dcm"
    path.write_bytes(meta)
    with pytest.raises(NotDicomError, match=r"broken\.dcm is not a stored DICOM file"):
        read_file_meta(path)


def test_a_deflated_bomb_is_read_in_bounded_memory(tmp_path: Path) -> None:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    # An element of 2 GiB before the UIDs: (0008,0001) UN.
    head = b"\x08\x00\x01\x00UN\x00\x00\xf0\xff\xff\x7f"
    path = tmp_path / "bomb"
    with path.open("wb") as file:
        file.write(deflater.compress(head))
        for _ in range(256):
            file.write(deflater.compress(bytes(2**20)))
        file.write(deflater.flush())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(NotDicomError):
        read_identity(path, 0, "1.2.840.10008.1.2.1.99")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024
