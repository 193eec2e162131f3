"""Storage commitment over real associations: pynetdicom and Orthanc ask the receiver."""

import json
import queue
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, build_context, build_role, evt

from fewshot_node.config import CommitmentSettings, ReceiveSettings
from fewshot_node.dicom.commitment.desk import CommitmentDesk
from fewshot_node.dicom.ledger import Ledger
from fewshot_node.dicom.receive.receiver import Receiver
from fewshot_node.dicom.spool import Spool
from tests.dicom.wire import COMMAND, LAST, P_DATA, WireSender, command_set, p_data, status_of

SUCCESS, INVALID_ARGUMENT, NO_SUCH_ACTION = 0x0000, 0x0115, 0x0123
COMMITMENT, COMMITMENT_INSTANCE = UID("1.2.840.10008.1.20.1"), UID("1.2.840.10008.1.20.1.1")
DEADLINE_S = 20.0


@dataclass
class Committing:
    """A receiver with a desk."""

    port: int
    folder: Path


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Committing]]:
    """Start a receiver that knows these peers' addresses."""
    ledgers: list[Ledger] = []
    running: list[Any] = []

    def begin(**peers: int) -> Committing:
        addresses = {peer: {"host": "127.0.0.1", "port": port} for peer, port in peers.items()}
        settings = ReceiveSettings(host="127.0.0.1", port=0, min_free_mb=0, reject_below_free_mb=0)
        spool, folder = Spool(tmp_path / "spool"), tmp_path / "commitments"
        ledgers.append(Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}"))
        commitment = CommitmentSettings.model_validate({"retry_s": 0.1, "peers": addresses})
        desk = CommitmentDesk(folder, spool, commitment, settings.ae_title)
        receiver = Receiver(settings, spool, ledgers[-1], desk)
        for part in (desk, receiver):
            part.start()
            running.append(part)
        return Committing(receiver.port, folder)

    yield begin
    for part in reversed(running):
        part.stop()
    for ledger in ledgers:
        ledger.dispose()


class Modality:
    """Sends images, asks for their commitment and takes the result wherever it comes."""

    def __init__(self) -> None:
        self.told: queue.Queue[tuple[str, int, Dataset]] = queue.Queue()
        self.entity = AE("CT1")
        self.entity.acse_timeout = self.entity.dimse_timeout = self.entity.network_timeout = DEADLINE_S
        self.entity.add_supported_context(COMMITMENT, scu_role=True, scp_role=True)
        self._server: Any = None

    def listen(self) -> int:
        handlers: Any = [(evt.EVT_N_EVENT_REPORT, self._on_report, ["new"])]
        self._server = self.entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        return int(self._server.server_address[1])

    def associate(self, port: int) -> Any:
        contexts = [build_context(COMMITMENT), build_context(CTImageStorage, ExplicitVRLittleEndian)]
        handlers: Any = [(evt.EVT_N_EVENT_REPORT, self._on_report, ["same"])]
        return self.entity.associate("127.0.0.1", port, contexts, "FEWSHOT", evt_handlers=handlers)

    def close(self) -> None:
        if self._server is not None:
            self._server.shutdown()

    def _on_report(self, event: evt.Event, association: str) -> tuple[int, None]:
        request: Any = event.request
        self.told.put((association, request.EventTypeID, event.event_information))
        return SUCCESS, None


@pytest.fixture
def modality() -> Iterator[Modality]:
    peer = Modality()
    yield peer
    peer.close()


def request_of(*instances: Dataset) -> Dataset:
    information = Dataset()
    information.TransactionUID = "1.2.3.4"
    information.ReferencedSOPSequence = []
    for instance in instances:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = instance.SOPClassUID, instance.SOPInstanceUID
        information.ReferencedSOPSequence.append(item)
    return information


def ask(association: Any, information: Dataset, action_type_id: int = 1) -> int:
    status, _ = association.send_n_action(information, action_type_id, COMMITMENT, COMMITMENT_INSTANCE)
    return int(status.Status)


def uids(information: Dataset, keyword: str) -> list[str]:
    return [item.ReferencedSOPInstanceUID for item in information.get(keyword, [])]


def test_the_result_comes_over_the_same_association(
    start: Any, modality: Modality, make_instance: Any, eventually: Any
) -> None:
    committing = start()
    stored = make_instance(1)
    association = modality.associate(committing.port)
    assert association.send_c_store(stored).Status == SUCCESS
    assert ask(association, request_of(stored)) == SUCCESS
    where, event_type_id, information = modality.told.get(timeout=DEADLINE_S)
    assert (where, event_type_id, information.TransactionUID) == ("same", 1, "1.2.3.4")
    assert uids(information, "ReferencedSOPSequence") == [stored.SOPInstanceUID]
    eventually(lambda: not list(committing.folder.iterdir()))
    association.release()


def test_the_result_comes_over_a_new_association(
    start: Any, modality: Modality, make_instance: Any, eventually: Any
) -> None:
    committing = start(CT1=modality.listen())
    stored, absent = make_instance(1), make_instance(2)
    association = modality.associate(committing.port)
    assert association.send_c_store(stored).Status == SUCCESS
    association.bind(evt.EVT_N_EVENT_REPORT, lambda _event: (0x0110, None))  # not here
    assert ask(association, request_of(stored, absent)) == SUCCESS
    association.release()
    where, event_type_id, information = modality.told.get(timeout=DEADLINE_S)
    assert (where, event_type_id) == ("new", 2)
    assert uids(information, "ReferencedSOPSequence") == [stored.SOPInstanceUID]
    (failed,) = information.FailedSOPSequence
    assert (failed.ReferencedSOPInstanceUID, failed.FailureReason) == (absent.SOPInstanceUID, 0x0112)
    eventually(lambda: not list(committing.folder.iterdir()))


def test_a_modality_that_proposes_roles_is_served(start: Any, modality: Modality, make_instance: Any) -> None:
    committing = start()
    handlers: Any = [(evt.EVT_N_EVENT_REPORT, modality._on_report, ["same"])]
    role = build_role(COMMITMENT, scu_role=True, scp_role=False)
    association = modality.entity.associate(
        "127.0.0.1", committing.port, [build_context(COMMITMENT)], "FEWSHOT", ext_neg=[role], evt_handlers=handlers
    )
    assert ask(association, request_of(make_instance(1))) == SUCCESS
    assert modality.told.get(timeout=DEADLINE_S)[:2] == ("same", 2)
    association.release()


def test_requests_that_are_not_taken(start: Any, modality: Modality, make_instance: Any) -> None:
    committing = start()
    association = modality.associate(committing.port)
    assert ask(association, request_of(make_instance(1)), action_type_id=7) == NO_SUCH_ACTION
    assert ask(association, request_of()) == INVALID_ARGUMENT
    assert association.send_c_store(make_instance(1)).Status == SUCCESS
    association.release()
    assert list(committing.folder.iterdir()) == []


@pytest.mark.orthanc
def test_orthanc_asks_and_is_told(start: Any, orthanc: Any, make_instance: Any, eventually: Any) -> None:
    def call(method: str, path: str, body: Any = None) -> Any:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(f"{orthanc.url}/{path}", data, method=method)
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
            text = answer.read()
        return json.loads(text) if text.strip() else None

    committing = start(ORTHANC=orthanc.dicom_port)
    node = {"AET": "FEWSHOT", "Host": "127.0.0.1", "Port": committing.port, "AllowEventReport": True}
    call("PUT", "modalities/committing", node)
    stored = make_instance(1)
    buffer = Path(orthanc.folder) / "committed.dcm"
    stored.save_as(buffer, enforce_file_format=True)
    identifier = call("POST", "instances", buffer.read_bytes())["ID"]
    absent = [CTImageStorage, "1.2.3.404"]
    call("POST", "modalities/committing/store", [identifier])
    asked = call(
        "POST",
        "modalities/committing/storage-commitment",
        {"DicomInstances": [[stored.SOPClassUID, stored.SOPInstanceUID], absent]},
    )

    def report() -> Any:
        answer = call("GET", asked["Path"].lstrip("/"))
        return answer if answer["Status"] != "Pending" else None

    told = eventually(report)
    assert told["Status"] == "Failure"
    assert [entry["SOPInstanceUID"] for entry in told["Success"]] == [stored.SOPInstanceUID]
    assert [(entry["SOPInstanceUID"], entry["FailureReason"]) for entry in told["Failures"]] == [(absent[1], 0x0112)]
    assert told["RemoteAET"] == "FEWSHOT"


def test_a_request_of_a_great_many_empty_items_is_refused_undecoded(
    start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few megabytes of them would take a gigabyte once they are data sets."""
    monkeypatch.setattr("fewshot_node.dicom.receive.receiver.decode", lambda *_arguments: pytest.fail("it was decoded"))
    commitment, implicit = "1.2.840.10008.1.20.1", "1.2.840.10008.1.2"
    elements = {0x0003: commitment, 0x0100: 0x0130, 0x0110: 1, 0x0800: 1, 0x1001: f"{commitment}.1", 0x1008: 1}
    items = b"\x08\x00\x99\x11\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\0\0\0\0" * 100_000
    with WireSender(start().port, contexts=[(1, commitment, (implicit,))]) as sender:
        sender.send(p_data(1, COMMAND | LAST, command_set(elements)))
        for start in range(0, len(items), 16000):
            sender.send(p_data(1, LAST if start + 16000 >= len(items) else 0, items[start : start + 16000]))
        kind, body = sender.receive()
        assert (kind, status_of(body[6:])) == (P_DATA, 0x0115)
