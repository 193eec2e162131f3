"""Storage commitment: what is accepted, what is told, over which association, and what survives."""

import errno
import json
import logging
import os
import queue
import struct
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, MRImageStorage
from pynetdicom import AE, evt
from pynetdicom.dsutils import decode, encode

from fewshot_node.config import CommitmentSettings
from fewshot_node.dicom.commitment import teller
from fewshot_node.dicom.commitment.desk import CommitmentDesk
from fewshot_node.dicom.spool import Spool
from fewshot_node.errors import ConfigurationError, PeerUnavailableError

SUCCESS, PROCESSING_FAILURE, INVALID_ARGUMENT = 0x0000, 0x0110, 0x0115
NO_SUCH_ACTION, RESOURCE_LIMITATION = 0x0123, 0x0213
NO_SUCH_INSTANCE, CLASS_CONFLICT = 0x0112, 0x0119
COMMITMENT, COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1"
SERIES_UID = "1.2.826.0.1.3680043.8.498.2"
CT_1, CT_2, CT_3 = ((CTImageStorage, f"{SERIES_UID}.{number}") for number in (1, 2, 3))
NEVER_S = 3600.0
DEADLINE_S = 20.0


def request_of(*references: tuple[str, str], transaction_uid: str | None = "1.2.3.4") -> Dataset:
    """Decode Action Information from bytes made by hand, in explicit VR little endian (PS3.5 7.1.2, 7.5)."""
    encoded = b"" if transaction_uid is None else uid_element(0x1195, transaction_uid)
    items = b"".join(
        item_of(uid_element(0x1150, sop_class_uid) + uid_element(0x1155, sop_instance_uid))
        for sop_class_uid, sop_instance_uid in references
    )
    return decode(BytesIO(encoded + struct.pack("<HH2sHL", 8, 0x1199, b"SQ", 0, len(items)) + items), False, True)


def item_of(encoded: bytes) -> bytes:
    return struct.pack("<HHL", 0xFFFE, 0xE000, len(encoded)) + encoded


def uid_element(element: int, uid: str) -> bytes:
    encoded = uid.encode()
    encoded += b"\0" * (len(encoded) % 2)
    return struct.pack("<HH2sH", 8, element, b"UI", len(encoded)) + encoded


@dataclass
class Told:
    """One N-EVENT-REPORT, as its receiver reads it."""

    event_type_id: int
    information: Dataset
    called_from: str = ""

    @property
    def committed(self) -> list[tuple[str, str]]:
        return [_reference(item) for item in self.information.get("ReferencedSOPSequence", [])]

    @property
    def failed(self) -> dict[tuple[str, str], int]:
        return {_reference(item): item.FailureReason for item in self.information.get("FailedSOPSequence", [])}


def _reference(item: Dataset) -> tuple[str, str]:
    return item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID


@dataclass
class SameAssociation:
    """The association that asked; it takes reports as long as it is open."""

    is_open: bool = True
    told: "queue.Queue[Told]" = field(default_factory=queue.Queue)
    refused: threading.Event = field(default_factory=threading.Event)

    def __call__(self, event_type_id: int, information: Dataset) -> bool:
        if not self.is_open:
            self.refused.set()
            return False
        encoded = encode(information, True, True)
        assert encoded is not None
        self.told.put(Told(event_type_id, decode(BytesIO(encoded), True, True)))
        return True


class Modality:
    """A requesting modality that listens for results (PS3.4 J.3.3: SCU as association acceptor)."""

    def __init__(self, ae_title: str) -> None:
        self.told: queue.Queue[Told] = queue.Queue()
        self.status = SUCCESS
        self._entity = AE(ae_title)
        self._entity.require_called_aet = True
        self._entity.add_supported_context(COMMITMENT, scu_role=True, scp_role=True)
        self._server: Any = None

    def listen(self, port: int = 0) -> int:
        handlers: Any = [(evt.EVT_N_EVENT_REPORT, self._on_report)]
        self._server = self._entity.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
        return int(self._server.server_address[1])

    def close(self) -> None:
        if self._server is not None:
            self._server.shutdown()

    def _on_report(self, event: evt.Event) -> tuple[int, None]:
        request: Any = event.request
        assert (request.AffectedSOPClassUID, request.AffectedSOPInstanceUID) == (COMMITMENT, COMMITMENT_INSTANCE)
        (negotiated,) = event.assoc.accepted_contexts
        assert (negotiated.as_scu, negotiated.as_scp) == (True, False)  # the reporter is the SCP
        calling = event.assoc.requestor.ae_title
        self.told.put(Told(request.EventTypeID, event.event_information, calling))
        return self.status, None


@pytest.fixture
def modality() -> Iterator[Modality]:
    peer = Modality("CT1")
    yield peer
    peer.close()


@pytest.fixture
def store(spool: Spool, make_instance: Any) -> Callable[..., Path]:
    """Put an instance where the receiver puts it, and give its path."""

    def write(number: int, series_uid: str = SERIES_UID, **changes: Any) -> Path:
        folder = spool.root / "series" / series_uid
        folder.mkdir(exist_ok=True)
        path = folder / f"{SERIES_UID}.{number}.dcm"
        make_instance(number, **changes).save_as(path, enforce_file_format=True)
        return path

    return write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "commitments"


@pytest.fixture
def open_desk(folder: Path, spool: Spool) -> Iterator[Callable[..., CommitmentDesk]]:
    """Start desks, all on the same folder unless told otherwise."""
    desks: list[CommitmentDesk] = []

    def start(clock: Callable[[], datetime] | None = None, path: Path = folder, **settings: Any) -> CommitmentDesk:
        chosen = CommitmentSettings(**({"retry_s": 0.05} | settings))
        clocks = {} if clock is None else {"clock": clock}
        desks.append(CommitmentDesk(path, spool, chosen, "FEWSHOT", **clocks))
        desks[-1].start()
        return desks[-1]

    yield start
    for desk in desks:
        desk.stop()


def at(port: int) -> dict[str, Any]:
    return {"CT1": {"host": "127.0.0.1", "port": port}}


def test_what_is_stored_is_committed_over_the_same_association(
    open_desk: Any, store: Any, folder: Path, eventually: Any
) -> None:
    store(1)
    store(2, series_uid="1.2.3")
    report = SameAssociation()
    assert open_desk().take(1, request_of(CT_1, CT_2), "CT1", report) == (SUCCESS, "")
    told = report.told.get(timeout=DEADLINE_S)
    assert told.event_type_id == 1
    assert told.information.TransactionUID == "1.2.3.4"
    assert told.committed == [CT_1, CT_2]
    assert "FailedSOPSequence" not in told.information
    assert "RetrieveAETitle" not in told.information  # nothing can be retrieved here
    eventually(lambda: not list(folder.iterdir()))


def test_each_failure_has_its_reason(open_desk: Any, store: Any, spool: Spool) -> None:
    store(1)
    store(2)
    (spool.root / "series" / SERIES_UID / f"{SERIES_UID}.4.dcm").write_bytes(b"torn")
    (spool.root / "incoming" / "half.part").write_bytes(b"half")
    (spool.root / "conflicts" / f"{SERIES_UID}.5.dcm").write_bytes(b"")
    other_class, torn, unknown = (MRImageStorage, CT_2[1]), (CTImageStorage, f"{SERIES_UID}.4"), CT_3
    aside = (CTImageStorage, f"{SERIES_UID}.5")
    report = SameAssociation()
    open_desk().take(1, request_of(CT_1, other_class, unknown, torn, aside), "CT1", report)
    told = report.told.get(timeout=DEADLINE_S)
    assert told.event_type_id == 2
    assert told.committed == [CT_1]
    assert told.failed == {
        other_class: CLASS_CONFLICT,
        unknown: NO_SUCH_INSTANCE,
        torn: PROCESSING_FAILURE,
        aside: NO_SUCH_INSTANCE,
    }


def test_nothing_stored_is_a_result_without_references(open_desk: Any) -> None:
    report = SameAssociation()
    open_desk().take(1, request_of(CT_1), "CT1", report)
    told = report.told.get(timeout=DEADLINE_S)
    assert (told.event_type_id, told.failed) == (2, {CT_1: NO_SUCH_INSTANCE})
    assert "ReferencedSOPSequence" not in told.information


def test_an_instance_in_a_folder_that_cannot_be_synced_is_not_committed(
    open_desk: Any, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    series = store(1).parent
    sync = os.fsync

    def failing(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink() == series:
            raise OSError(errno.EIO, "input/output error")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", failing)
    report = SameAssociation()
    open_desk().take(1, request_of(CT_1), "CT1", report)
    assert report.told.get(timeout=DEADLINE_S).failed == {CT_1: PROCESSING_FAILURE}


def test_a_spool_that_cannot_be_listed_is_no_result(
    open_desk: Any, store: Any, modality: Modality, spool: Spool, caplog: pytest.LogCaptureFixture, eventually: Any
) -> None:
    store(1)
    series, away = spool.root / "series", spool.root / "away"
    series.rename(away)
    report = SameAssociation()
    open_desk(peers=at(modality.listen())).take(1, request_of(CT_1), "CT1", report)
    eventually(lambda: "result not told, error FileNotFoundError" in caplog.text)
    away.rename(series)
    assert modality.told.get(timeout=DEADLINE_S).committed == [CT_1]
    assert report.told.empty()


def test_the_request_is_on_the_disk_before_it_is_accepted(
    open_desk: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    sync = os.fsync

    def watched(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        sync(descriptor)

    desk = open_desk()
    monkeypatch.setattr(os, "fsync", watched)
    desk.take(1, request_of(CT_1), "CT1", SameAssociation(is_open=False))
    (path,) = folder.glob("1.2.3.4.*.json")
    assert [synced[0].parent, *synced[1:]] == [folder, folder]  # the file, then its name
    assert CT_1[1] in path.read_text()


def test_a_result_goes_over_a_new_association_when_the_first_has_ended(
    open_desk: Any, store: Any, modality: Modality, folder: Path, eventually: Any
) -> None:
    store(1)
    desk = open_desk(peers=at(modality.listen()), retry_s=NEVER_S)
    report = SameAssociation(is_open=False)
    assert desk.take(1, request_of(CT_1, CT_3), "CT1", report)[0] == SUCCESS
    told = modality.told.get(timeout=DEADLINE_S)
    assert report.refused.is_set()
    assert (told.event_type_id, told.called_from) == (2, "FEWSHOT")
    assert told.information.TransactionUID == "1.2.3.4"
    assert told.committed == [CT_1]
    assert told.failed == {CT_3: NO_SUCH_INSTANCE}
    eventually(lambda: not list(folder.iterdir()))


def test_a_peer_that_listens_later_is_told_later(
    open_desk: Any,
    store: Any,
    modality: Modality,
    free_port: Any,
    folder: Path,
    caplog: pytest.LogCaptureFixture,
    eventually: Any,
) -> None:
    port = free_port()
    desk = open_desk(peers=at(port))
    for number in (1, 2):
        request = request_of(CT_1, transaction_uid=f"1.2.{number}")
        desk.take(1, request, "CT1", SameAssociation(is_open=False))
    eventually(lambda: "results are told again in 0.05 s" in caplog.text)
    assert len(list(folder.iterdir())) == 2
    store(1)  # came after the request, and is there when the result is told
    modality.listen(port)
    told = [modality.told.get(timeout=DEADLINE_S) for _ in range(2)]
    assert {one.information.TransactionUID for one in told} == {"1.2.1", "1.2.2"}
    assert [one.committed for one in told] == [[CT_1], [CT_1]]
    eventually(lambda: not list(folder.iterdir()))


def test_a_refused_result_is_told_again(open_desk: Any, modality: Modality, folder: Path, eventually: Any) -> None:
    modality.status = PROCESSING_FAILURE
    desk = open_desk(peers=at(modality.listen()))
    desk.take(1, request_of(CT_1), "CT1", SameAssociation(is_open=False))
    for _ in range(2):
        modality.told.get(timeout=DEADLINE_S)
    assert list(folder.iterdir())
    modality.status = SUCCESS
    eventually(lambda: not list(folder.iterdir()))


def test_a_restart_loses_no_result(
    open_desk: Any, store: Any, modality: Modality, folder: Path, eventually: Any
) -> None:
    store(1)
    first = open_desk()
    gone = SameAssociation(is_open=False)
    first.take(1, request_of(CT_1), "CT1", gone)
    assert gone.refused.wait(DEADLINE_S)
    first.stop()
    (folder / ".tmp-half.json").write_text("{")
    (folder / "1.2.9.0123456789abcdef.json").write_text('{"transaction_uid": "1.2.9"')
    (kept,) = folder.glob("1.2.3.4.*.json")
    document = json.loads(kept.read_text())
    for number, change in enumerate([{"transaction_uid": "../../x"}, {"references": [["1", "/"]]}, {"taken": "2026"}]):
        (folder / f"damaged{number}.json").write_text(json.dumps(document | change))
    (folder / "elsewhere.json").write_text(kept.read_text())

    open_desk(peers=at(modality.listen()), retry_s=NEVER_S)
    assert modality.told.get(timeout=DEADLINE_S).committed == [CT_1]
    eventually(lambda: len(list(folder.iterdir())) == 5)
    assert {path.suffix for path in folder.iterdir()} == {".damaged"}
    assert modality.told.empty()


def test_what_is_damaged_while_the_desk_runs_is_set_aside(
    open_desk: Any, modality: Modality, folder: Path, free_port: Any, eventually: Any
) -> None:
    port = free_port()
    desk = open_desk(peers=at(port))
    gone = SameAssociation(is_open=False)
    desk.take(1, request_of(CT_1, transaction_uid="1.2.1"), "CT1", gone)
    assert gone.refused.wait(DEADLINE_S)
    (path,) = folder.glob("*.json")
    path.write_bytes(b"\0" * 100)
    desk.take(1, request_of(CT_1, transaction_uid="1.2.2"), "CT1", gone)
    modality.listen(port)
    assert modality.told.get(timeout=DEADLINE_S).information.TransactionUID == "1.2.2"
    eventually(lambda: [kept.name for kept in folder.iterdir()] == [f"{path.name}.damaged"])


def test_a_peer_without_an_address_is_named_with_the_setting(
    open_desk: Any, folder: Path, caplog: pytest.LogCaptureFixture, eventually: Any
) -> None:
    desk = open_desk()
    desk.take(1, request_of(CT_1), "CT1", SameAssociation(is_open=False))
    eventually(lambda: "add its address as commitment.peers.CT1" in caplog.text)
    assert list(folder.glob("*.json"))
    desk.stop()
    caplog.clear()
    open_desk()
    assert "1 storage commitment results wait for CT1" in caplog.text


def test_what_cannot_be_told_in_time_is_given_up(
    open_desk: Any, folder: Path, caplog: pytest.LogCaptureFixture, eventually: Any
) -> None:
    now = [datetime(2026, 1, 1, tzinfo=UTC)]
    desk = open_desk(clock=lambda: now[0], give_up_after_h=24.0)
    gone = SameAssociation(is_open=False)
    desk.take(1, request_of(CT_1, transaction_uid="1.2.1"), "CT1", gone)
    now[0] += timedelta(hours=23)
    desk.take(1, request_of(CT_1, transaction_uid="1.2.2"), "CT1", gone)
    assert gone.refused.wait(DEADLINE_S)
    now[0] += timedelta(hours=2)
    eventually(lambda: "commitment 1.2.1: CT1 could not be told its result for 24 h, given up" in caplog.text)
    eventually(lambda: len(list(folder.iterdir())) == 1)
    assert list(folder.glob("1.2.2.*.json"))


def test_a_repeated_transaction_is_told_again(open_desk: Any, store: Any, folder: Path, eventually: Any) -> None:
    store(1)
    desk = open_desk()
    gone, back = SameAssociation(is_open=False), SameAssociation()
    desk.take(1, request_of(CT_1), "CT1", gone)
    assert gone.refused.wait(DEADLINE_S)
    for _ in range(2):
        assert desk.take(1, request_of(CT_1), "CT1", back)[0] == SUCCESS
        assert back.told.get(timeout=DEADLINE_S).committed == [CT_1]
        eventually(lambda: not list(folder.iterdir()))


def test_a_repetition_while_the_result_is_being_told_is_told_too(open_desk: Any, folder: Path, eventually: Any) -> None:
    desk = open_desk(retry_s=NEVER_S)
    telling, go_on = threading.Event(), threading.Event()

    def slow(_event_type_id: int, _information: Dataset) -> bool:
        telling.set()
        return go_on.wait(DEADLINE_S)

    desk.take(1, request_of(CT_1), "CT1", slow)
    assert telling.wait(DEADLINE_S)
    again = SameAssociation()
    assert desk.take(1, request_of(CT_1), "CT1", again)[0] == SUCCESS
    go_on.set()
    again.told.get(timeout=DEADLINE_S)
    eventually(lambda: not list(folder.iterdir()))


def test_a_transaction_in_use_is_not_taken_for_something_else(open_desk: Any, folder: Path) -> None:
    desk = open_desk()
    desk.take(1, request_of(CT_1), "CT1", SameAssociation(is_open=False))
    status, comment = desk.take(1, request_of(CT_2), "CT1", SameAssociation())
    assert (status, comment) == (INVALID_ARGUMENT, "Transaction UID is in use with other references")
    (path,) = folder.iterdir()
    assert CT_1[1] in path.read_text()


def test_peers_do_not_meet_in_one_transaction(open_desk: Any, store: Any) -> None:
    store(1)
    desk = open_desk()
    gone, other, first = SameAssociation(is_open=False), SameAssociation(), SameAssociation()
    desk.take(1, request_of(CT_1), "CT1", gone)
    assert gone.refused.wait(DEADLINE_S)
    assert desk.take(1, request_of(CT_3), "../EVIL", other)[0] == SUCCESS
    assert other.told.get(timeout=DEADLINE_S).failed == {CT_3: NO_SUCH_INSTANCE}
    assert desk.take(1, request_of(CT_1), "CT1", first)[0] == SUCCESS
    assert first.told.get(timeout=DEADLINE_S).committed == [CT_1]
    assert other.told.empty()


def test_a_peer_that_hangs_keeps_no_other_waiting(open_desk: Any) -> None:
    desk = open_desk()
    go_on = threading.Event()
    for number in range(20):
        hangs = request_of(CT_1, transaction_uid=f"1.2.{number}")
        desk.take(1, hangs, f"HANGS{number % 5}", lambda *_: go_on.wait(DEADLINE_S))
    report = SameAssociation()
    desk.take(1, request_of(CT_1), "CT1", report)
    report.told.get(timeout=DEADLINE_S / 2)
    go_on.set()


def test_a_report_that_breaks_ends_nothing(open_desk: Any, caplog: pytest.LogCaptureFixture, eventually: Any) -> None:
    def broken(_event_type_id: int, _information: Dataset) -> bool:
        raise ZeroDivisionError("SECRET^PERSON")

    desk = open_desk()
    desk.take(1, request_of(CT_1, transaction_uid="1.2.1"), "CT1", broken)
    eventually(lambda: "result not told, error ZeroDivisionError" in caplog.text)
    report = SameAssociation()
    desk.take(1, request_of(CT_1, transaction_uid="1.2.2"), "CT1", report)
    report.told.get(timeout=DEADLINE_S)
    assert "SECRET" not in caplog.text


def test_a_peer_that_leaves_while_it_is_told_is_told_anew(
    open_desk: Any, modality: Modality, caplog: pytest.LogCaptureFixture
) -> None:
    def leaves(_event_type_id: int, _information: Dataset) -> bool:
        raise PeerUnavailableError("it has left")

    caplog.set_level(logging.INFO, logger="fewshot_node")
    desk = open_desk(peers=at(modality.listen()), retry_s=NEVER_S)
    desk.take(1, request_of(CT_1), "CT1", leaves)
    assert modality.told.get(timeout=DEADLINE_S).failed == {CT_1: NO_SUCH_INSTANCE}
    assert "CT1 has left before it was told" in caplog.text


def test_a_fault_while_results_are_told_ends_nothing(
    open_desk: Any, modality: Modality, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    works, faults = teller.reporting, iter([ZeroDivisionError("SECRET^PERSON")])

    def breaks_once(*arguments: Any) -> Any:
        for fault in faults:
            raise fault
        return works(*arguments)

    monkeypatch.setattr(teller, "reporting", breaks_once)
    open_desk(peers=at(modality.listen())).take(1, request_of(CT_1), "CT1", SameAssociation(is_open=False))
    assert modality.told.get(timeout=DEADLINE_S).failed == {CT_1: NO_SUCH_INSTANCE}
    assert "results of CT1 are told again in 0.05 s: error ZeroDivisionError" in caplog.text
    assert "SECRET" not in caplog.text


def test_without_a_free_thread_a_request_is_taken_and_told_later(
    open_desk: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    desk, report = open_desk(), SameAssociation()

    def no_more(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_more)
        assert desk.take(1, request_of(CT_1), "CT1", report)[0] == SUCCESS
    assert report.told.get(timeout=DEADLINE_S).failed == {CT_1: NO_SUCH_INSTANCE}
    assert "no thread to tell CT1" in caplog.text


def test_a_folder_that_cannot_be_read_is_a_configuration_error(open_desk: Any, folder: Path) -> None:
    folder.mkdir()
    (folder / "1.2.json").mkdir()  # reading it fails as a permission would, which root does not meet
    with pytest.raises(ConfigurationError, match=r"commitments cannot be read \(.*\): let the node read"):
        open_desk()


def test_another_action_does_not_exist(open_desk: Any, folder: Path) -> None:
    assert open_desk().take(2, request_of(CT_1), "CT1", SameAssociation())[0] == NO_SUCH_ACTION
    assert list(folder.iterdir()) == []


HOSTILE_UIDS = [
    "",
    "../x",
    "..",
    "/etc/passwd",
    "1.2\0.3",
    "1." * 150 + "1",
    "1.2.ü",
    "1.2\n",
    "1.2\\1.3",
    "a.b",
    "1..2",
]


@pytest.mark.parametrize("uid", HOSTILE_UIDS)
def test_hostile_uids_are_refused_and_touch_nothing(open_desk: Any, tmp_path: Path, folder: Path, uid: str) -> None:
    desk = open_desk()
    before = sorted(tmp_path.rglob("*"))
    for request in (
        request_of(CT_1, transaction_uid=uid),
        request_of(CT_1, (CTImageStorage, uid)),
        request_of((uid, CT_1[1])),
    ):
        status, comment = desk.take(1, request, "CT1", SameAssociation())
        assert status == INVALID_ARGUMENT
        assert "not a valid UID" in comment
        assert len(comment) <= 64
    assert sorted(tmp_path.rglob("*")) == before


def _broken_requests() -> dict[str, Dataset | None]:
    no_item = Dataset()
    no_item.TransactionUID = "1.2.3.4"
    no_sequence = Dataset(no_item)
    no_item.ReferencedSOPSequence = []
    no_uids = Dataset(no_sequence)
    no_uids.ReferencedSOPSequence = [Dataset()]
    transaction = b"\x08\x00\x95\x11UI\x08\x001.2.3.4\0"
    raw = {
        "text for a sequence": transaction + b"\x08\x00\x99\x11LO\x04\x00abcd",
        "torn item": transaction + b"\x08\x00\x99\x11SQ\0\0\x0c\0\0\0\xfe\xff\x00\xe0\xff\0\0\0abcd",
        "no item": transaction + b"\x08\x00\x99\x11SQ\0\0\x08\0\0\0\x08\x00\x99\x11\x08\x00\x99\x11",
        "one empty UID": transaction
        + b"\x08\x00\x99\x11SQ\0\0\x10\0\0\0\xfe\xff\x00\xe0\x08\0\0\0\x08\0\x50\x11UI\0\0",
    }
    requests: dict[str, Dataset | None] = {name: decode(BytesIO(data), False, True) for name, data in raw.items()}
    without_transaction = request_of(CT_1, transaction_uid=None)
    return requests | {
        "nothing": None,
        "empty": Dataset(),
        "empty sequence": no_item,
        "no sequence": no_sequence,
        "items without UIDs": no_uids,
        "no transaction": without_transaction,
    }


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize("name", list(_broken_requests()))
def test_broken_requests_are_refused(open_desk: Any, folder: Path, name: str) -> None:
    status, comment = open_desk().take(1, _broken_requests()[name], "CT1", SameAssociation())
    assert status == INVALID_ARGUMENT
    assert 0 < len(comment) <= 64
    assert list(folder.iterdir()) == []


def test_a_request_has_a_longest_size(open_desk: Any, folder: Path) -> None:
    desk = open_desk()
    for count in (20_001, 60_000):
        request = request_of(*[CT_1] * count)
        assert desk.take(1, request, "CT1", SameAssociation())[0] == INVALID_ARGUMENT
    assert list(folder.iterdir()) == []


def test_a_long_request_takes_little_memory(open_desk: Any, store: Any) -> None:
    store(1)
    references = [(CTImageStorage, f"{SERIES_UID}.{number}") for number in range(1, 4_001)]
    request, report, desk = request_of(*references), SameAssociation(), open_desk()
    tracemalloc.start()
    try:
        assert desk.take(1, request, "CT1", report)[0] == SUCCESS
        told = report.told.get(timeout=60)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (told.committed, len(told.failed)) == ([CT_1], 3_999)
    assert peak < 4_000 * 6_000  # bytes; 120 MB at the longest size


def test_what_is_owed_has_a_bound(
    open_desk: Any, folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fewshot_node.dicom.commitment.owed._MOST_TO_ONE", 3)
    monkeypatch.setattr("fewshot_node.dicom.commitment.owed._MOST_REFERENCES", 8)
    desk = open_desk()

    def ask(peer: str, number: int, references: int = 1) -> int:
        request = request_of(*[CT_1] * references, transaction_uid=f"1.2.{number}")
        status: int = desk.take(1, request, peer, SameAssociation(is_open=False))[0]
        return status

    assert [ask("CT1", number) for number in range(4)] == [SUCCESS] * 3 + [RESOURCE_LIMITATION]
    assert "check commitment.peers.CT1" in caplog.text
    assert ask("CT1", 0) == SUCCESS  # repeated: nothing new is owed
    assert [ask("MR1", 1, references=5), ask("MR1", 2)] == [SUCCESS, RESOURCE_LIMITATION]
    assert len(list(folder.iterdir())) == 4


def test_a_full_disk_is_a_resource_limitation_and_passes(open_desk: Any, tiny_disk: Callable[[str], Path]) -> None:
    disk = tiny_disk("64k")
    desk = open_desk(path=disk / "commitments")
    long_request = request_of(*[CT_1] * 2_000)
    report = SameAssociation()
    assert desk.take(1, long_request, "CT1", report)[0] == RESOURCE_LIMITATION
    assert list((disk / "commitments").iterdir()) == []
    assert desk.take(1, request_of(CT_1), "CT1", report)[0] == SUCCESS
    assert report.told.get(timeout=DEADLINE_S).failed == {CT_1: NO_SUCH_INSTANCE}
    assert report.told.empty()


def test_a_fault_of_the_program_is_a_status(open_desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_arguments: Any) -> None:
        raise ZeroDivisionError("SECRET^PERSON")

    desk = open_desk()
    monkeypatch.setattr("fewshot_node.dicom.commitment.desk.read_request", broken)
    status, comment = desk.take(1, request_of(CT_1), "CT1", SameAssociation())
    assert (status, comment) == (PROCESSING_FAILURE, "internal error ZeroDivisionError")


def test_a_folder_that_cannot_be_made_is_a_configuration_error(tmp_path: Path, spool: Spool) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="choose a writable `home`"):
        CommitmentDesk(tmp_path / "file" / "commitments", spool, CommitmentSettings(), "FEWSHOT")


def test_no_log_record_names_more_than_uids(
    open_desk: Any, store: Any, modality: Modality, caplog: pytest.LogCaptureFixture, eventually: Any
) -> None:
    caplog.set_level(logging.DEBUG, logger="fewshot_node")
    store(1)
    desk = open_desk(peers=at(modality.listen()))
    desk.take(1, request_of(CT_1, CT_2), "CT1", SameAssociation(is_open=False))
    modality.told.get(timeout=DEADLINE_S)
    eventually(lambda: "commitment 1.2.3.4: CT1 was told of 2 instances, 1 of them not here" in caplog.text)
    for secret in ("SECRET", "PERSON", "19010203"):
        assert secret not in caplog.text
