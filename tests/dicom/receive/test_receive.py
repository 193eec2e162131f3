"""The receiver against real senders, broken objects, crashes and a full disk."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import config, dcmread
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    generate_uid,
)
from pynetdicom import build_context
from pynetdicom.presentation import PresentationContext

from fewshot_node.config import ReceiveSettings
from fewshot_node.dicom.ledger import Ledger, SeriesState
from fewshot_node.dicom.receive.receiver import Receiver
from fewshot_node.dicom.spool import Spool
from fewshot_node.errors import ConfigurationError, PortInUseError, RetryableError

SUCCESS, PROCESSING_FAILURE, OUT_OF_RESOURCES = 0x0000, 0x0110, 0xA700
MISMATCH, COERCION, CANNOT_UNDERSTAND = 0xA900, 0xB000, 0xC000
SERIES_UID = "1.2.826.0.1.3680043.8.498.2"


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def stored_files(spool: Spool) -> list[Path]:
    return sorted((spool.root / "series").rglob("*.dcm"))


def incoming_files(spool: Spool) -> list[Path]:
    return sorted((spool.root / "incoming").iterdir())


def test_echo(intake: Any, connect: Any) -> None:
    assert connect(intake.receiver.port).echo() == SUCCESS


def test_an_instance_is_in_the_spool_and_in_the_ledger_when_it_is_answered(
    intake: Any, connect: Any, make_instance: Any, encode_instance: Any, split_file: Any
) -> None:
    sender = connect(intake.receiver.port)
    for number in (1, 2, 3):
        dataset = make_instance(number)
        assert sender.store(dataset) == SUCCESS
        path = intake.spool.root / "series" / SERIES_UID / f"{dataset.SOPInstanceUID}.dcm"
        meta, encoded = split_file(path)
        assert encoded == encode_instance(dataset)
        assert meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert (meta.SourceApplicationEntityTitle, meta.ReceivingApplicationEntityTitle) == (
            "SCANNER",
            "FEWSHOT",
        )
        entry = intake.entry(SERIES_UID)
        assert (entry.instances, entry.state, entry.calling_ae_title) == (
            number,
            SeriesState.RECEIVING,
            "SCANNER",
        )
        assert entry.bytes == sum(file.stat().st_size for file in stored_files(intake.spool))
    assert incoming_files(intake.spool) == []


@pytest.mark.dcmtk
def test_dcmtk_verifies_and_is_refused_what_is_not_offered(intake: Any, require_tool: Any) -> None:
    address = ["-aec", "FEWSHOT", "127.0.0.1", str(intake.receiver.port)]
    commands = {
        "echoscu": [require_tool("echoscu"), *address],
        "findscu": [require_tool("findscu"), "-S", "-k", "QueryRetrieveLevel=STUDY", *address],
    }
    ended = {
        name: subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        for name, command in commands.items()
    }
    assert ended["echoscu"].returncode == 0, ended["echoscu"].stderr
    assert ended["findscu"].returncode != 0
    assert "No Acceptable Presentation Contexts" in ended["findscu"].stderr
    assert subprocess.run(commands["echoscu"], capture_output=True, timeout=60, check=False).returncode == 0


@pytest.mark.dcmtk
def test_dcmtk_sends_a_series(
    intake: Any, make_instance: Any, require_tool: Any, tmp_path: Path, encode_instance: Any, split_file: Any
) -> None:
    folder = tmp_path / "sent"
    folder.mkdir()
    for number in range(1, 21):
        make_instance(number, pixel_bytes=200_000).save_as(folder / f"{number}.dcm", enforce_file_format=True)
    storescu = require_tool("storescu")
    command = [storescu, "-aec", "FEWSHOT", "-aet", "DCMTK", "+sd", "127.0.0.1", str(intake.receiver.port)]
    sent = subprocess.run([*command, str(folder)], capture_output=True, text=True, timeout=60, check=False)
    assert sent.returncode == 0, sent.stderr
    stored = {path.stem: split_file(path)[1] for path in stored_files(intake.spool)}
    for path in folder.iterdir():
        meta, encoded = split_file(path)
        assert stored.pop(meta.MediaStorageSOPInstanceUID) == encoded
    assert stored == {}
    entry = intake.entry(SERIES_UID)
    assert (entry.instances, entry.calling_ae_title) == (20, "DCMTK")


@pytest.mark.dcmtk
@pytest.mark.shared_data
def test_jpeg_2000_is_kept_as_it_came(
    intake: Any, shared_data: Path, require_tool: Any, tmp_path: Path, split_file: Any
) -> None:
    folder = tmp_path / "j2k"
    folder.mkdir()
    series_uid = generate_uid()
    for path in sorted((shared_data / "series" / "ct-abdomen-j2k").iterdir())[:5]:
        dataset = dcmread(path)
        # These were stripped of their UIDs: no sender can name them. The pixels stay as they are.
        dataset.SOPClassUID, dataset.SOPInstanceUID = (
            CTImageStorage,
            dataset.file_meta.MediaStorageSOPInstanceUID,
        )
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), series_uid
        dataset.save_as(folder / path.name)
    command = [require_tool("storescu"), "-aec", "FEWSHOT", "-xv", "+sd", "127.0.0.1"]
    sent = subprocess.run(
        [*command, str(intake.receiver.port), str(folder)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert sent.returncode == 0, sent.stderr
    stored = {path.stem: split_file(path) for path in intake.spool.series_files(series_uid)}
    for path in folder.iterdir():
        meta, encoded = split_file(path)
        kept_meta, kept = stored.pop(meta.MediaStorageSOPInstanceUID)
        assert kept_meta.TransferSyntaxUID == JPEG2000Lossless
        assert kept == encoded
    assert stored == {}


@pytest.mark.parametrize(
    "proposed",
    [
        [JPEG2000Lossless, ExplicitVRLittleEndian, ImplicitVRLittleEndian],
        [ExplicitVRLittleEndian, ImplicitVRLittleEndian],
        [ImplicitVRLittleEndian, ExplicitVRLittleEndian],
        [JPEGBaseline8Bit],
        [ExplicitVRBigEndian],
    ],
)
def test_the_senders_first_choice_of_transfer_syntax_is_taken(intake: Any, connect: Any, proposed: list[str]) -> None:
    sender = connect(intake.receiver.port, [build_context(CTImageStorage, proposed)])
    assert sender.accepts(CTImageStorage, proposed[0])


# Everything that pydicom and pynetdicom remark about odd values is part of what is tested here.
@pytest.mark.shared_data
@pytest.mark.filterwarnings("ignore")
def test_every_odd_file_is_stored_unchanged_or_refused_and_the_node_lives(
    intake: Any, connect: Any, shared_data: Path, split_file: Any
) -> None:
    objects = list(readable(shared_data / "dicom", split_file))
    assert len(objects) > 100
    kinds = sorted({(meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID) for meta, _ in objects})
    contexts: list[PresentationContext] = [build_context(*kind) for kind in kinds]
    assert len(contexts) < 128
    sender = connect(intake.receiver.port, contexts)
    statuses: Counter[str] = Counter()
    for meta, encoded in objects:
        kind = (str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID))
        if not sender.accepts(*kind):
            statuses["context"] += 1
            continue
        before = set(stored_files(intake.spool))
        status = sender.store_raw(meta.MediaStorageSOPInstanceUID, encoded, *kind)
        statuses[f"{status:04X}"] += 1
        new = set(stored_files(intake.spool)) - before
        if status == SUCCESS and new:
            (path,) = new
            kept_meta, kept = split_file(path)
            assert kept == encoded, meta.MediaStorageSOPInstanceUID
            assert kept_meta.TransferSyntaxUID == meta.TransferSyntaxUID
        assert status in {SUCCESS, COERCION, MISMATCH, CANNOT_UNDERSTAND}, f"0x{status:04X}"
        assert new == set() or status == SUCCESS
    assert statuses["0000"] > 100
    assert sender.echo() == SUCCESS
    assert connect(intake.receiver.port).echo() == SUCCESS
    assert incoming_files(intake.spool) == []
    assert sum(entry.instances for entry in intake.entries()) == len(stored_files(intake.spool))


def readable(folder: Path, split_file: Any) -> Iterator[tuple[Dataset, bytes]]:
    """Give File Meta and data set of what begins like DICOM and can be named by a sender."""
    for path in sorted(folder.rglob("*")):
        try:
            meta, encoded = split_file(path)
            if meta.MediaStorageSOPClassUID and meta.MediaStorageSOPInstanceUID and meta.TransferSyntaxUID:
                yield meta, encoded
        except Exception:
            continue


HOSTILE_UIDS = (
    *("../../../escaped", "/tmp/escaped", "..", ".", "1..2", "1.2\0/3", "1.2\n3", "x"),
    *("1." * 31 + "123", "1." * 40 + "1", "../" * 40 + "escaped"),
)


@pytest.mark.filterwarnings("ignore:.*for VR UI")
@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"])
def test_uids_that_are_none_are_refused_and_leave_nothing(
    intake: Any, connect: Any, make_instance: Any, encode_instance: Any, tmp_path: Path, keyword: str
) -> None:
    sender = connect(intake.receiver.port)
    for uid in HOSTILE_UIDS:
        valid, dataset = make_instance(), make_instance()
        dataset.add(DataElement(keyword, "UI", uid, validation_mode=config.IGNORE))
        named = uid if keyword == "SOPInstanceUID" else valid.SOPInstanceUID
        assert sender.store_raw(named, encode_instance(dataset)) == CANNOT_UNDERSTAND, uid
    assert {name.split("/")[0] for name in files_below(tmp_path)} <= {
        *("ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm", "spool")
    }
    assert files_below(intake.spool.root) == ["receiver.lock"]
    assert not Path("/tmp/escaped").exists()
    assert intake.entries() == ()
    assert sender.store(make_instance()) == SUCCESS  # on the same association


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        ({"StudyInstanceUID": None}, CANNOT_UNDERSTAND),
        ({"SeriesInstanceUID": None}, CANNOT_UNDERSTAND),
        ({"SeriesInstanceUID": ""}, CANNOT_UNDERSTAND),
        ({"SOPInstanceUID": None}, CANNOT_UNDERSTAND),
        ({"SOPInstanceUID": "1.2.3.4"}, MISMATCH),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4"}, MISMATCH),
    ],
)
def test_an_object_that_cannot_be_filed_is_refused(
    intake: Any, connect: Any, make_instance: Any, encode_instance: Any, damage: dict[str, Any], expected: int
) -> None:
    sender = connect(intake.receiver.port)
    named = make_instance().SOPInstanceUID
    assert sender.store_raw(named, encode_instance(make_instance(**damage))) == expected
    assert stored_files(intake.spool) == incoming_files(intake.spool) == []
    assert sender.store(make_instance()) == SUCCESS


# An explicit VR data set whose private sequences nest deeper than Python can follow.
NESTED = b"\x09\x00\x10\x10SQ\x00\x00\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 3000


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "encoded",
    [b"", b"\0", b"\xff" * 1000, b"no DICOM at all", os.urandom(5000), NESTED, b"\x08\x00\x18\x00UI\xff\xff1.2"],
    ids=["none", "short", "ones", "text", "noise", "nested", "truncated"],
)
def test_bytes_that_are_no_data_set_are_refused(intake: Any, connect: Any, make_instance: Any, encoded: bytes) -> None:
    sender = connect(intake.receiver.port)
    assert sender.store_raw("1.2.3", encoded) == CANNOT_UNDERSTAND
    assert stored_files(intake.spool) == incoming_files(intake.spool) == []
    assert sender.store(make_instance()) == SUCCESS


def test_the_same_instance_twice_is_stored_and_counted_once(intake: Any, connect: Any, make_instance: Any) -> None:
    sender = connect(intake.receiver.port)
    assert sender.store(make_instance()) == SUCCESS
    assert sender.store(make_instance()) == SUCCESS
    assert len(stored_files(intake.spool)) == 1
    entry = intake.entry(SERIES_UID)
    assert (entry.instances, entry.warnings) == (1, ())
    assert incoming_files(intake.spool) == []


def test_a_changed_instance_is_kept_aside_and_warned_of(intake: Any, connect: Any, make_instance: Any) -> None:
    sender = connect(intake.receiver.port)
    assert sender.store(make_instance()) == SUCCESS
    assert sender.store(make_instance(PixelData=b"\x07" * 32)) == COERCION
    (path,) = stored_files(intake.spool)
    assert dcmread(path).PixelData == make_instance().PixelData
    (aside,) = (intake.spool.root / "conflicts").rglob("*.dcm")
    assert dcmread(aside).PixelData == b"\x07" * 32
    entry = intake.entry(SERIES_UID)
    assert entry.instances == 1
    (warning,) = entry.warnings
    assert make_instance().SOPInstanceUID in warning.text


def test_a_late_instance_makes_the_next_revision(intake: Any, connect: Any, make_instance: Any) -> None:
    sender = connect(intake.receiver.port)
    sender.store(make_instance(1))
    intake.settle()
    key = intake.ledger.close(SERIES_UID)
    assert sender.store(make_instance(1)) == SUCCESS  # nothing new: no revision
    assert intake.entry(SERIES_UID).key == key
    assert sender.store(make_instance(2)) == SUCCESS
    entry = intake.entry(SERIES_UID)
    assert (entry.key.revision, entry.instances, entry.state) == (2, 2, SeriesState.RECEIVING)
    assert len(intake.ledger.received(entry.key, intake.spool).files) == 2


def test_an_open_association_keeps_its_series_busy(
    intake: Any, connect: Any, make_instance: Any, eventually: Any
) -> None:
    sender = connect(intake.receiver.port)
    assert intake.receiver.busy_series() == set()
    sender.store(make_instance())
    assert intake.receiver.busy_series() == {SERIES_UID}
    sender.store(make_instance(series_uid="1.2.3"))
    intake.settle()
    assert intake.receiver.busy_series() == {SERIES_UID, "1.2.3"}
    sender.release()
    eventually(lambda: intake.receiver.busy_series() == set())


def test_a_sender_that_hangs_up_leaves_nothing(
    intake: Any, connect: Any, make_instance: Any, encode_instance: Any, eventually: Any
) -> None:
    sender = connect(intake.receiver.port)
    sender.begin("1.2.3", encode_instance(make_instance(pixel_bytes=400_000)), fragments=5)
    eventually(lambda: incoming_files(intake.spool))
    sender.association.abort()
    eventually(lambda: not incoming_files(intake.spool))
    assert stored_files(intake.spool) == []
    assert connect(intake.receiver.port).store(make_instance()) == SUCCESS


def test_two_associations_at_once_lose_nothing(intake: Any, connect: Any, make_instance: Any) -> None:
    statuses: list[int] = []

    def send(series_uid: str) -> None:
        sender = connect(intake.receiver.port)
        statuses.extend(sender.store(make_instance(number, series_uid)) for number in range(1, 21))

    # Two of the three send the same objects.
    threads = [threading.Thread(target=send, args=(uid,)) for uid in ("1.2.3", "1.2.4", "1.2.4")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(statuses) == {SUCCESS: 60}
    assert len(stored_files(intake.spool)) == 40
    assert incoming_files(intake.spool) == []


def test_too_little_free_space_is_out_of_resources_and_passes(
    start_intake: Any, connect: Any, make_instance: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    intake = start_intake(min_free_mb=100, reject_below_free_mb=200)
    sender = connect(intake.receiver.port)
    with monkeypatch.context() as patch:
        patch.setattr(intake.spool, "free_bytes", lambda: 99 * 2**20)
        assert sender.store(make_instance()) == OUT_OF_RESOURCES
        assert sender.echo() == SUCCESS
    assert stored_files(intake.spool) == incoming_files(intake.spool) == []
    assert intake.entries() == ()
    assert sender.store(make_instance()) == SUCCESS


def test_a_nearly_full_disk_rejects_new_associations_as_transient_and_passes(
    start_intake: Any, connect: Any, make_instance: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    intake = start_intake(min_free_mb=100, reject_below_free_mb=200)
    before = connect(intake.receiver.port)
    with monkeypatch.context() as patch:
        patch.setattr(intake.spool, "free_bytes", lambda: 150 * 2**20)
        answer = connect(intake.receiver.port).rejection
        assert (answer.result, answer.source) == (0x02, 0x03)  # transient, PS3.8 Table 9-21
        assert before.store(make_instance()) == SUCCESS  # it was there first
    assert connect(intake.receiver.port).association.is_established


def test_a_full_disk_is_out_of_resources_and_passes(
    start_intake: Any, connect: Any, make_instance: Any, tiny_disk: Callable[[str], Path]
) -> None:
    intake = start_intake(spool=Spool(tiny_disk("1m") / "spool"))
    sender = connect(intake.receiver.port)
    assert sender.store(make_instance(1, pixel_bytes=3_000_000)) == OUT_OF_RESOURCES
    assert incoming_files(intake.spool) == []
    assert sender.store(make_instance(2)) == SUCCESS
    assert [path.stem for path in stored_files(intake.spool)] == [make_instance(2).SOPInstanceUID]
    intake.receiver.stop()


def test_a_ledger_out_of_reach_costs_no_image(
    intake: Any, connect: Any, make_instance: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_arguments: Any) -> None:
        raise RetryableError("ledger is busy")

    sender = connect(intake.receiver.port)
    with monkeypatch.context() as patch:
        patch.setattr(intake.ledger, "note_instances", unreachable)
        assert sender.store(make_instance()) == SUCCESS
        sender.release()
        assert intake.receiver.busy_series() == {SERIES_UID}  # nobody may take it for complete
        assert intake.ledger.series() == ()
    assert intake.entry(SERIES_UID).instances == 1
    assert len(stored_files(intake.spool)) == 1


def test_a_fault_of_the_program_is_a_status(
    intake: Any, connect: Any, make_instance: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_arguments: Any) -> None:
        raise ZeroDivisionError("SECRET^PERSON")

    sender = connect(intake.receiver.port)
    with monkeypatch.context() as patch:
        patch.setattr(intake.spool, "place", broken)
        assert sender.store(make_instance()) == PROCESSING_FAILURE
    assert sender.store(make_instance()) == SUCCESS


def test_ae_titles_are_checked(start_intake: Any, connect: Any) -> None:
    intake = start_intake(calling_ae_titles=("CT1", "MR1"))
    port = intake.receiver.port
    assert connect(port, calling="CT1").association.is_established
    assert connect(port, calling="NOBODY").rejection is not None
    assert connect(port, calling="CT1", called="OTHER").rejection is not None


def test_any_called_ae_title_will_do_when_it_is_not_required(start_intake: Any, connect: Any) -> None:
    intake = start_intake(require_called_ae_title=False)
    assert connect(intake.receiver.port, called="WHATEVER").association.is_established


def test_no_more_associations_than_allowed(start_intake: Any, connect: Any, eventually: Any) -> None:
    intake = start_intake(max_associations=1)
    first = connect(intake.receiver.port)
    assert first.association.is_established
    assert connect(intake.receiver.port).rejection is not None
    assert first.echo() == SUCCESS
    first.release()
    eventually(lambda: connect(intake.receiver.port).association.is_established)


def test_a_port_in_use_is_named_with_the_remedy(intake: Any, tmp_path: Path) -> None:
    settings = ReceiveSettings(host="127.0.0.1", port=intake.receiver.port)
    other = Receiver(settings, Spool(tmp_path / "other"), intake.ledger)
    with pytest.raises(PortInUseError, match=rf"127\.0\.0\.1:{intake.receiver.port} is in use.*receive\.port"):
        other.start()
    other.stop()


def test_an_address_of_another_machine_is_a_configuration_error(intake: Any, tmp_path: Path) -> None:
    settings = ReceiveSettings(host="192.0.2.1", port=0)  # RFC 5737: for documentation only
    with pytest.raises(ConfigurationError, match=r"cannot listen on 192\.0\.2\.1:0"):
        Receiver(settings, Spool(tmp_path / "other"), intake.ledger).start()


def test_two_receivers_do_not_share_a_spool(intake: Any) -> None:
    settings = ReceiveSettings(host="127.0.0.1", port=0)
    with pytest.raises(ConfigurationError, match="used by another receiver"):
        Receiver(settings, Spool(intake.spool.root), intake.ledger).start()


def test_a_stopped_receiver_leaves_no_port_behind(intake: Any, connect: Any, make_instance: Any) -> None:
    sender = connect(intake.receiver.port)
    sender.store(make_instance())
    intake.receiver.stop()
    intake.receiver.stop()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", intake.receiver.port)) != 0
    with Receiver(intake.settings, intake.spool, intake.ledger) as again:
        assert connect(again.port).store(make_instance()) == SUCCESS


@pytest.mark.filterwarnings("ignore:.*for VR UI")
def test_no_log_record_names_the_patient(
    intake: Any, connect: Any, make_instance: Any, encode_instance: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    sender = connect(intake.receiver.port)
    sender.store(make_instance(1))
    sender.store(make_instance(1, InstanceNumber=9))
    sender.store(make_instance(2, StudyInstanceUID=None))
    sender.store_raw("1.2.3", encode_instance(make_instance(3)))
    sender.store_raw("../x", encode_instance(make_instance(4)))
    encoded = encode_instance(make_instance(5))
    sender.store_raw(make_instance(5).SOPInstanceUID, encoded[: encoded.index(b"SECRET-ID") + 4])
    sender.release()
    intake.receiver.stop()
    lines = [f"{record.name} {record.getMessage()} {record.exc_text or ''}" for record in caplog.records]
    assert [line for line in lines if "fewshot_node" in line and "2 instances stored, 4 refused" in line]
    for secret in ("SECRET", "PERSON", "19010203"):
        assert [line for line in lines if secret in line] == []


RUN_RECEIVER = """
import sys, time
begin = time.monotonic()
from fewshot_node.config import ReceiveSettings
from fewshot_node.dicom.receive.completion import completion_loop
from fewshot_node.dicom.ledger import Ledger
from fewshot_node.dicom.receive.receiver import Receiver
from fewshot_node.dicom.spool import Spool
import json, pathlib
home = pathlib.Path(sys.argv[1])
settings = ReceiveSettings(host="127.0.0.1", port=0, min_free_mb=0, reject_below_free_mb=0)
ledger = Ledger(f"sqlite:///{home / 'ledger.sqlite'}")
receiver = Receiver(settings, Spool(home / "spool"), ledger)
with receiver, completion_loop(ledger, settings, receiver.busy_series):
    heavy = [name for name in ("torch", "prefect", "transformers") if name in sys.modules]
    print(json.dumps([receiver.port, time.monotonic() - begin, heavy]), flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def receiver_process(tmp_path: Path) -> Iterator[Callable[[], tuple[subprocess.Popen[str], list[Any]]]]:
    """Start a receiver in a process of its own; gives the process and what it says about itself."""
    processes = []

    def start() -> tuple[subprocess.Popen[str], list[Any]]:
        process = subprocess.Popen(
            [sys.executable, "-c", RUN_RECEIVER, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stdout is not None
        return process, json.loads(process.stdout.readline())

    yield start
    for process in processes:
        process.communicate(timeout=30)


def test_the_receiver_starts_fast_and_without_torch(receiver_process: Any) -> None:
    _, (_, seconds, heavy) = receiver_process()
    assert heavy == []
    assert seconds < 10  # about one on an idle machine


@pytest.mark.parametrize("ledger_is_lost", [False, True])
def test_kill_9_in_mid_transfer_loses_nothing_that_was_answered(
    receiver_process: Any,
    start_intake: Any,
    connect: Any,
    make_instance: Any,
    encode_instance: Any,
    split_file: Any,
    eventually: Any,
    tmp_path: Path,
    ledger_is_lost: bool,
) -> None:
    process, (port, *_) = receiver_process()
    sender = connect(port)
    answered = [make_instance(number, pixel_bytes=40_000) for number in range(1, 16)]
    assert [sender.store(dataset) for dataset in answered] == [SUCCESS] * 15
    unfinished = make_instance(99, pixel_bytes=4_000_000)
    sender.begin(unfinished.SOPInstanceUID, encode_instance(unfinished), fragments=20)
    incoming = tmp_path / "spool" / "incoming"
    eventually(lambda: any(path.stat().st_size > 0 for path in incoming.iterdir()))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert list(incoming.iterdir())
    if ledger_is_lost:
        for path in tmp_path.glob("ledger.sqlite*"):
            path.unlink()

    intake = start_intake()
    assert incoming_files(intake.spool) == []
    stored = {path.stem: split_file(path)[1] for path in stored_files(intake.spool)}
    assert stored == {dataset.SOPInstanceUID: encode_instance(dataset) for dataset in answered}
    assert [dcmread(path).PatientID for path in stored_files(intake.spool)] == ["SECRET-ID"] * 15
    entry = intake.entry(SERIES_UID)
    assert (entry.state, entry.instances, entry.key.revision) == (SeriesState.RECEIVING, 15, 1)
    assert (entry.study_instance_uid, entry.calling_ae_title) == (answered[0].StudyInstanceUID, "SCANNER")
    assert connect(intake.receiver.port).store(unfinished) == SUCCESS
    assert intake.entry(SERIES_UID).instances == 16


def test_kill_9_while_answers_come_loses_nothing(
    receiver_process: Any, start_intake: Any, connect: Any, make_instance: Any
) -> None:
    process, (port, *_) = receiver_process()
    sender = connect(port)
    answered = []
    killer = threading.Timer(0.3, process.kill)
    killer.start()
    for number in range(1, 10_000):
        if sender.store(make_instance(number)) != SUCCESS:
            break
        answered.append(number)
    killer.join()
    process.wait()
    assert answered
    intake = start_intake()
    stored = {dcmread(path).InstanceNumber for path in stored_files(intake.spool)}
    assert set(answered) <= stored
    assert intake.entry(SERIES_UID).instances == len(stored)


def test_a_lost_ledger_is_made_anew(start_intake: Any, connect: Any, make_instance: Any, tmp_path: Path) -> None:
    first = start_intake()
    sender = connect(first.receiver.port)
    for number in (1, 2):
        sender.store(make_instance(number))
    sender.store(make_instance(1, series_uid="1.2.3"))
    first.receiver.stop()
    first.ledger.dispose()
    second = start_intake(ledger=Ledger(f"sqlite:///{tmp_path / 'new.sqlite'}"))
    found = {entry.key.series_instance_uid: entry for entry in second.ledger.series()}
    assert {uid: entry.instances for uid, entry in found.items()} == {SERIES_UID: 2, "1.2.3": 1}
    assert {entry.state for entry in found.values()} == {SeriesState.RECEIVING}
