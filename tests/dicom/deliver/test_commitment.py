"""Storage commitment as SCU: over the same association, over the peer's own, refused, false and hostile."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, build_context, build_role, evt

from fewshot_node.config import PacsSettings, ReceiveSettings
from fewshot_node.dicom.deliver.attempts import Attempts
from fewshot_node.dicom.deliver.commitment import request_commitment
from fewshot_node.dicom.deliver.report import CommitmentReport, read_report
from fewshot_node.dicom.ledger import Confirmation, DeliveryState
from fewshot_node.dicom.query import read_reference
from fewshot_node.dicom.receive.receiver import Receiver
from fewshot_node.dicom.spool import Spool
from fewshot_node.errors import DeliveryError, PermanentError, UnsupportedError

COMMITMENT = "1.2.840.10008.1.20.1"
INSTANCE = "1.2.840.10008.1.20.1.1"


def item(uid: str, reason: int | None = None) -> Dataset:
    found = Dataset()
    found.ReferencedSOPClassUID, found.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", uid
    if reason is not None:
        found.FailureReason = reason
    return found


def information(transaction: str = "1.2.3", committed: tuple[str, ...] = (), failed: tuple[str, ...] = ()) -> Dataset:
    told = Dataset()
    told.TransactionUID = transaction
    if committed:
        told.ReferencedSOPSequence = [item(uid) for uid in committed]
    if failed:
        told.FailedSOPSequence = [item(uid, 0x0112) for uid in failed]
    return told


@contextmanager
def peer(on_action: Callable[[evt.Event], int], tell: bool = True) -> Iterator[PacsSettings]:
    """A PACS that reports, over the association that asked, that it keeps everything."""
    entity = AE(ae_title="KEEPER")
    entity.add_supported_context(COMMITMENT)

    reports: dict[Any, Dataset] = {}

    def act(event: evt.Event) -> tuple[int, None]:
        status = on_action(event)
        if status == 0 and tell:
            asked = event.action_information
            kept = tuple(one.ReferencedSOPInstanceUID for one in asked.ReferencedSOPSequence)
            reports[event.assoc] = information(asked.TransactionUID, kept)
        return status, None

    def after(event: evt.Event) -> None:
        """Report once the N-ACTION has been answered."""
        told = reports.pop(event.assoc, None)
        if told is not None:
            arguments = (told, 1, COMMITMENT, INSTANCE)
            threading.Thread(target=event.assoc.send_n_event_report, args=arguments, daemon=True).start()

    handlers = [(evt.EVT_N_ACTION, act), (evt.EVT_DIMSE_SENT, after)]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)  # type: ignore[arg-type]
    yield PacsSettings(ae_title="KEEPER", port=server.server_address[1], timeout_s=5)
    server.shutdown()


def references(office: Any) -> list[Any]:
    return [read_reference(path) for path in office.files(office.post())]


def test_a_report_over_the_same_association_is_heard(office: Any) -> None:
    asked = references(office)
    with peer(lambda _event: 0x0000) as pacs:
        report = request_commitment(asked, pacs, "1.2.3.4")
    assert report is not None
    assert report.transaction_uid == "1.2.3.4"
    report.check([one.sop_instance_uid for one in asked])


def test_a_peer_that_reports_later_is_not_waited_for(office: Any) -> None:
    with peer(lambda _event: 0x0000, tell=False) as pacs:
        assert request_commitment(references(office), pacs, "1.2.3.4") is None


def test_a_peer_that_refuses_does_not_offer_it(office: Any) -> None:
    with (
        peer(lambda _event: 0x0124) as pacs,
        pytest.raises(UnsupportedError, match=r"storage commitment with status 0x0124: let it know this node"),
    ):
        request_commitment(references(office), pacs, "1.2.3.4")


def test_a_peer_that_breaks_off_does_not_offer_it(office: Any) -> None:
    def abort(event: evt.Event) -> int:
        event.assoc.abort()
        return 0x0000

    with peer(abort, tell=False) as pacs, pytest.raises(UnsupportedError, match="breaks off"):
        request_commitment(references(office), pacs, "1.2.3.4")


@pytest.mark.parametrize(
    ("event", "told", "says"),
    [
        (3, information(), "no event of storage commitment"),
        (None, information(), "no event of storage commitment"),
        (1, None, "no event of storage commitment"),
        (1, Dataset(), "cannot be decoded"),
        (1, information("no uid"), "Transaction UID is none"),
        (1, information(committed=("",)), "instance has no UID"),
        (2, information(failed=("SECRET^PERSON",)), "instance has no UID"),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_a_report_that_is_none_is_refused_and_not_quoted(event: int | None, told: Dataset | None, says: str) -> None:
    with pytest.raises(PermanentError, match=says) as refused:
        read_report(event, told)
    assert "SECRET" not in str(refused.value)


def test_a_report_commits_to_what_it_names_and_to_no_more() -> None:
    report = read_report(2, information(committed=("1.1", "1.2"), failed=("1.2", "1.3")))
    report.check(["1.1"])
    for uid, says in (("1.2", "0x0112"), ("1.3", "0x0112"), ("1.4", "is silent")):
        with pytest.raises(DeliveryError, match=says):
            report.check(["1.1", uid])


@pytest.fixture
def heard() -> list[CommitmentReport]:
    return []


@pytest.fixture
def receiver(office: Any, heard: list[CommitmentReport]) -> Iterator[Receiver]:
    def hear(report: CommitmentReport) -> bool:
        heard.append(report)
        return report.transaction_uid == "1.2.3"

    settings = ReceiveSettings(host="127.0.0.1", port=0, min_free_mb=0, reject_below_free_mb=0)
    with Receiver(settings, Spool(office.home / "spool"), office.ledger, take_report=hear) as receiver:
        yield receiver


def report_to(receiver: Receiver, told: Dataset, event: int = 1) -> int:
    """Report as an SCP that opens an association of its own (PS3.4 J.3.3.1)."""
    entity = AE(ae_title="KEEPER")
    role = build_role(COMMITMENT, scp_role=True)
    contexts = [build_context(COMMITMENT)]
    association = entity.associate("127.0.0.1", receiver.port, contexts, "FEWSHOT", ext_neg=[role])
    assert association.is_established
    assert association.accepted_contexts[0].as_scp
    status, _ = association.send_n_event_report(told, event, COMMITMENT, INSTANCE)  # type: ignore[arg-type]
    association.release()
    return int(status.Status)


def test_a_report_over_an_association_of_the_peers_own_is_heard(
    receiver: Receiver, heard: list[CommitmentReport]
) -> None:
    assert report_to(receiver, information(committed=("1.1",))) == 0x0000
    assert heard == [CommitmentReport("1.2.3", frozenset({"1.1"}), {})]
    assert report_to(receiver, information("9.9", ("1.1",))) == 0x0000, "or it would be told for ever"


def test_a_hostile_report_is_refused(receiver: Receiver, heard: list[CommitmentReport]) -> None:
    assert report_to(receiver, information(), event=7) == 0x0110
    lacking = information()
    del lacking.TransactionUID
    lacking.PatientID = "x"
    assert report_to(receiver, lacking) == 0x0110
    assert heard == []


@pytest.mark.orthanc
def test_orthanc_commits_itself_over_an_association_of_its_own(
    running_office: Any, orthanc: Any, eventually: Callable[..., Any]
) -> None:
    office = running_office
    pacs = PacsSettings(ae_title=orthanc.aet, port=orthanc.dicom_port, timeout_s=10)
    settings = office.configure(pacs=pacs.model_dump())
    attempts = Attempts(office.ledger, settings)
    receive = ReceiveSettings(host="127.0.0.1", port=0, min_free_mb=0, reject_below_free_mb=0)
    spool = Spool(office.home / "spool")
    with Receiver(receive, spool, office.ledger, take_report=attempts.take_report) as receiver:
        modality = f"{orthanc.url}/modalities/committing"
        node = {"AET": "FEWSHOT", "Host": "127.0.0.1", "Port": receiver.port}
        httpx.put(modality, json=node).raise_for_status()
        try:
            key = office.post("1.2.78")
            (due,) = office.ledger.deliveries()
            attempts.make(due)
            eventually(lambda: office.ledger.deliveries(DeliveryState.CONFIRMED))
        finally:
            httpx.delete(modality).raise_for_status()
    (confirmed,) = office.ledger.deliveries(key=key)
    assert (confirmed.confirmed_by, confirmed.tries) == (Confirmation.COMMITMENT, 1)


@pytest.mark.orthanc
def test_orthanc_that_does_not_know_us_is_asked_what_it_has(running_office: Any, orthanc: Any) -> None:
    office = running_office
    pacs = PacsSettings(ae_title=orthanc.aet, port=orthanc.dicom_port, timeout_s=10, calling_ae_title="STRANGER")
    office.post("1.2.79")
    end = Attempts(office.ledger, office.configure(pacs=pacs.model_dump())).make(office.ledger.deliveries()[0])
    assert end is not None
    assert end.confirmed_by is Confirmation.FIND
