"""Pulling from an archive: a real Orthanc, and archives that misbehave, in front of a real receiver."""

import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE

from fewshot_node.config import NodeSettings, PacsSettings, ReceiveSettings, TlsSettings
from fewshot_node.dicom.pull.forward import Forwarder, WaitingDataset
from fewshot_node.dicom.pull.plan import Wanted, plan_pull
from fewshot_node.dicom.pull.progress import PullOutcome
from fewshot_node.dicom.pull.pull import Pull, require_receiver
from fewshot_node.errors import (
    ConfigurationError,
    DeliveryError,
    PeerUnavailableError,
    PermanentError,
    RefusedError,
)
from tests.conftest import OrthancServer
from tests.dicom.archive import Archive, archive
from tests.dicom.conftest import STUDY_UID, Intake
from tests.dicom.pull.conftest import ROOT, Fill, Make, View, pacs_of, plan_of, run_pull, settings_for, spooled


@pytest.mark.orthanc
@pytest.mark.parametrize("by", ["move", "get"])
def test_a_study_of_orthanc_comes_into_the_spool(
    by: str, fill: Fill, pacs: PacsSettings, intake: Intake, introduce: Callable[[str, int], None], make_instance: Make
) -> None:
    introduce("FEWSHOT", intake.receiver.port)
    study, series = fill(3, 5, pixel_bytes=200_000)
    plan = plan_pull(Wanted((study,)), pacs)
    assert {(one.series_instance_uid, one.instances, one.modality) for one in plan} == {
        (series[0], 3, "CT"),
        (series[1], 5, "CT"),
    }
    tally = run_pull(settings_for(intake, pacs, by=by), intake, plan)
    assert (tally.retrieved, tally.skipped, tally.failures, tally.left) == (2, 0, {}, 0)
    for uid, count in zip(series, (3, 5), strict=True):
        sent = {f"{uid}.{number}": make_instance(number, uid, 200_000).PixelData for number in range(1, count + 1)}
        assert spooled(intake, uid) == sent
        entry = intake.ledger.get(uid)
        assert entry is not None
        assert (entry.calling_ae_title, entry.instances) == ("ORTHANC", count)


@pytest.mark.orthanc
@pytest.mark.parametrize("by", ["move", "get"])
def test_the_same_pull_again_fetches_only_what_is_new(
    by: str, fill: Fill, pacs: PacsSettings, intake: Intake, introduce: Callable[[str, int], None]
) -> None:
    introduce("FEWSHOT", intake.receiver.port)
    study, series = fill(2, 2)
    settings = settings_for(intake, pacs, by=by)
    assert run_pull(settings, intake, plan_pull(Wanted((study,), (series[0],)), pacs)).retrieved == 1
    view = View()
    tally = run_pull(settings, intake, plan_pull(Wanted((study,)), pacs), view)
    assert (tally.retrieved, tally.skipped) == (1, 1)
    assert view.outcomes == {series[0]: PullOutcome.SKIPPED, series[1]: PullOutcome.RETRIEVED}


@pytest.mark.orthanc
def test_compressed_instances_come_as_they_are_stored(
    fill: Fill, pacs: PacsSettings, intake: Intake, make_instance: Make, orthanc: OrthancServer
) -> None:
    whole = make_instance(1, f"{ROOT}.7.1", 20_000, StudyInstanceUID=f"{ROOT}.7", PatientID="7")
    whole.compress("1.2.840.10008.1.2.5", generate_instance_uid=False)
    buffer = BytesIO()
    whole.save_as(buffer, enforce_file_format=True)
    posted = urllib.request.Request(f"{orthanc.url}/instances", buffer.getvalue(), method="POST")
    urllib.request.urlopen(posted, timeout=10).close()
    assert run_pull(settings_for(intake, pacs, by="get"), intake, plan_pull(Wanted((f"{ROOT}.7",)), pacs)).retrieved
    [path] = intake.spool.series_files(f"{ROOT}.7.1")
    stored = pydicom.dcmread(path)
    assert stored.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.5"
    assert stored.PixelData == whole.PixelData


@pytest.mark.orthanc
def test_orthanc_that_does_not_know_us_is_told_how(fill: Fill, pacs: PacsSettings, intake: Intake) -> None:
    study, _ = fill(1)
    [reason] = run_pull(settings_for(intake, pacs), intake, plan_pull(Wanted((study,)), pacs)).failures.values()
    assert f"add AE title FEWSHOT, host of this machine, port {intake.receiver.port}" in reason
    assert "or use --by get" in reason


@pytest.mark.orthanc
def test_a_wrong_address_of_ours_in_the_pacs_is_found_out(
    fill: Fill,
    pacs: PacsSettings,
    intake: Intake,
    introduce: Callable[[str, int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Orthanc sends to another node that takes everything: nothing comes here."""
    monkeypatch.setattr("fewshot_node.dicom.pull.pull._SETTLED_WITHIN_S", 0.5)
    with archive(Archive()) as other:
        introduce("FEWSHOT", other.port)
        study, series = fill(1)
        [reason] = run_pull(settings_for(intake, pacs), intake, plan_pull(Wanted((study,)), pacs)).failures.values()
    assert series[0] in reason
    assert "0 of 1 instances are here: check which host and port it has for AE title FEWSHOT" in reason


def test_an_unknown_destination_stops_at_once_with_the_remedy(peer: Archive, intake: Intake) -> None:
    def unknown(_event: evt.Event, _times: int) -> Iterator[Any]:
        yield None, None

    peer.reply = unknown
    fetching = Pull(settings_for(intake, pacs_of(peer)), intake.ledger, intake.spool, View())
    with pytest.raises(PermanentError, match=r"does not know the move destination.*AE title FEWSHOT.*--by get"):
        fetching.run(plan_of("1.2.3", "1.2.4"))
    assert peer.retrievals == 1
    assert fetching.tally.left == 2


def test_a_cut_in_the_middle_is_tried_again_and_goes_on(
    peer: Archive, settings: NodeSettings, intake: Intake, make_instance: Make
) -> None:
    peer.datasets = [make_instance(number) for number in range(1, 5)]

    def cut_once(event: evt.Event, times: int) -> Iterator[Any]:
        yield 4
        for number, dataset in enumerate(peer.datasets):
            if times == 1 and number == 2:
                event.assoc.abort()
                return
            yield 0xFF00, dataset

    peer.reply = cut_once
    plan = plan_pull(Wanted((STUDY_UID,)), settings.pacs)
    assert run_pull(settings, intake, plan).retrieved == 1
    assert peer.retrievals == 2
    assert len(spooled(intake, plan[0].series_instance_uid)) == 4


def test_one_bad_series_does_not_stop_the_others(
    peer: Archive, settings: NodeSettings, intake: Intake, make_instance: Make
) -> None:
    bad, good = f"{ROOT}.11", f"{ROOT}.12"
    peer.datasets = [make_instance(1, uid) for uid in (bad, good)]

    def fail_bad(event: evt.Event, _times: int) -> Iterator[Any]:
        yield 1
        if event.identifier.SeriesInstanceUID == bad:
            yield 0xFF00, make_instance(1, bad, SOPClassUID=MRImageStorage)  # for which there is no context
            return
        yield 0xFF00, peer.datasets[1]

    peer.reply = fail_bad
    tally = run_pull(settings, intake, plan_pull(Wanted((STUDY_UID,)), settings.pacs))
    assert tally.retrieved == 1
    assert list(tally.failures) == [bad]
    assert "failed to send 1 instances" in tally.failures[bad]
    assert peer.retrievals == 3 + 1


def test_pending_then_failure_is_reported_with_its_status(peer: Archive, intake: Intake) -> None:
    def pending_then_failure(_event: evt.Event, _times: int) -> Iterator[Any]:
        yield "127.0.0.1", 1, {"contexts": []}
        yield 0xC123, None

    peer.reply = pending_then_failure
    tally = run_pull(settings_for(intake, pacs_of(peer)), intake, plan_of("1.2.3"))
    assert "status 0x" in tally.failures["1.2.3"]


def test_a_silent_archive_is_given_up(peer: Archive, intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fewshot_node.dicom.pull.retrieve._CANCELLED_WITHIN_S", 0.2)
    released = threading.Event()

    def silent(_event: evt.Event, _times: int) -> Iterator[Any]:
        released.wait(20)
        yield None, None

    peer.reply = silent
    settings = settings_for(intake, pacs_of(peer, timeout_s=0.2))
    try:
        tally = run_pull(settings, intake, plan_of("1.2.3"))
    finally:
        released.set()
    assert "sent nothing of 1.2.3 for 2 s" in tally.failures["1.2.3"]


def test_a_count_that_the_archive_does_not_give_is_found_by_instance(
    peer: Archive, settings: NodeSettings, intake: Intake, make_instance: Make
) -> None:
    peer.datasets = [make_instance(number) for number in (1, 2)]
    peer.hidden = ("NumberOfSeriesRelatedInstances", "SOPClassUID")
    wanted = Wanted((STUDY_UID,))
    plan = plan_pull(wanted, settings.pacs)
    assert [one.instances for one in plan] == [None]
    assert run_pull(settings, intake, plan).retrieved == 1
    assert run_pull(settings, intake, plan_pull(wanted, settings.pacs)).skipped == 1
    peer.datasets.append(make_instance(3))
    assert run_pull(settings, intake, plan_pull(wanted, settings.pacs)).retrieved == 1
    assert len(spooled(intake, plan[0].series_instance_uid)) == 3


def test_a_receiver_that_is_out_of_resources_stops_the_pull(
    peer: Archive, settings: NodeSettings, intake: Intake, make_instance: Make, statuses: list[int]
) -> None:
    peer.datasets = [make_instance(number, f"{ROOT}.5") for number in range(1, 4)]
    with refusing_store(statuses, 0xA700) as port:
        receive = settings.receive.model_copy(update={"port": port})
        full = settings.model_copy(update={"receive": receive})
        fetching = Pull(full, intake.ledger, intake.spool, View())
        with pytest.raises(RefusedError, match=r"out of resources"):
            fetching.run(plan_pull(Wanted((STUDY_UID,)), full.pacs))
    assert fetching.tally.left == 1
    assert len(statuses) == 3, "one instance for each attempt: the first refusal breaks it off"
    assert run_pull(settings, intake, plan_of(f"{ROOT}.5", instances=3)).left == 0


def test_instances_that_the_receiver_refuses_fail_their_series(
    peer: Archive, settings: NodeSettings, intake: Intake, make_instance: Make, statuses: list[int]
) -> None:
    peer.datasets = [make_instance(1, f"{ROOT}.5")]
    with refusing_store(statuses, 0xC000) as port:
        receive = settings.receive.model_copy(update={"port": port})
        picky = settings.model_copy(update={"receive": receive})
        tally = run_pull(picky, intake, plan_pull(Wanted((STUDY_UID,)), picky.pacs))
    assert "refuses 1 instances" in tally.failures[f"{ROOT}.5"]


@pytest.fixture
def statuses() -> list[int]:
    return []


@contextmanager
def refusing_store(seen: list[int], status: int) -> Iterator[int]:
    def refuse(_event: evt.Event) -> int:
        seen.append(status)
        return status

    entity = AE("FEWSHOT")
    entity.add_supported_context(CTImageStorage, ExplicitVRLittleEndian)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, refuse)])
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()


def test_a_receiver_that_went_away_stops_the_pull(
    peer: Archive, settings: NodeSettings, intake: Intake, make_instance: Make
) -> None:
    peer.datasets = [make_instance(1)]
    plan = plan_pull(Wanted((STUDY_UID,)), settings.pacs)
    intake.receiver.stop()
    with pytest.raises(RefusedError, match=r"fewshot-node serve"):
        require_receiver(settings)
    with pytest.raises(RefusedError, match=r"takes no association from ARCHIVE.*fewshot-node serve"):
        run_pull(settings, intake, plan)


def test_ctrl_c_cancels_at_the_archive(
    peer: Archive, settings: NodeSettings, intake: Intake, make_instance: Make
) -> None:
    peer.datasets = [make_instance(number) for number in range(1, 200)]

    def interrupt(instances: int) -> None:
        if instances:
            raise KeyboardInterrupt

    fetching = Pull(settings, intake.ledger, intake.spool, View(on_arrival=interrupt))
    plan = plan_pull(Wanted((STUDY_UID,)), settings.pacs)
    with pytest.raises(KeyboardInterrupt):
        fetching.run(plan)
    assert fetching.tally.left == 1
    assert peer.cancelled.wait(10), "no C-CANCEL came"
    came = len(spooled(intake, plan[0].series_instance_uid))
    assert 0 < came < 199
    assert run_pull(settings, intake, plan).retrieved == 1
    assert len(spooled(intake, plan[0].series_instance_uid)) == 199


def test_an_archive_that_went_away_stops_the_pull(
    peer: Archive, settings: NodeSettings, intake: Intake, free_port: Callable[[], int]
) -> None:
    gone = settings.model_copy(update={"pacs": pacs_of(peer, port=free_port())})
    fetching = Pull(gone, intake.ledger, intake.spool, View())
    with pytest.raises(PeerUnavailableError, match=r"check that it runs, and pacs.host and pacs.port"):
        fetching.run(plan_of("1.2.3", "1.2.4"))
    assert (len(fetching.tally.failures), fetching.tally.left) == (1, 1)
    with pytest.raises(PeerUnavailableError, match=r"pacs.host"):
        plan_pull(Wanted(("1.2.3",)), gone.pacs)


def test_answers_that_cannot_be_read_fail_their_series_at_once(
    peer: Archive, intake: Intake, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_arguments: Any) -> Iterator[Any]:
        pending = Dataset()
        pending.Status = 0xFF00
        yield pending, None
        raise KeyError("SECRET^PERSON")

    monkeypatch.setattr(Association, "send_c_move", broken)
    started = time.monotonic()
    tally = run_pull(settings_for(intake, pacs_of(peer, timeout_s=10)), intake, plan_of("1.2.3"))
    assert time.monotonic() - started < 50  # the patience is 100 s for each of three attempts
    assert "gave no final answer for 1.2.3" in tally.failures["1.2.3"]
    assert "KeyError" in caplog.text
    assert "SECRET" not in caplog.text


def test_a_cancel_that_comes_too_late_does_not_hide_why(
    peer: Archive, settings: NodeSettings, intake: Intake, make_instance: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(*_arguments: Any, **_options: Any) -> None:
        raise RuntimeError("association must be established")

    def interrupt(instances: int) -> None:
        if instances:
            raise KeyboardInterrupt

    peer.datasets = [make_instance(number) for number in range(1, 100)]
    plan = plan_pull(Wanted((STUDY_UID,)), settings.pacs)
    monkeypatch.setattr(Association, "send_c_cancel", ended)
    with pytest.raises(KeyboardInterrupt):
        run_pull(settings, intake, plan, View(on_arrival=interrupt))


def test_an_association_that_ends_before_it_pauses_is_not_waited_for(tmp_path: Path) -> None:
    ended: Any = SimpleNamespace(
        dimse=SimpleNamespace(maximum_pdu_size=16384),
        _reactor_checkpoint=threading.Event(),
        _is_paused=False,
        is_alive=lambda: False,
    )
    request = C_STORE()
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID, request.Priority = CTImageStorage, UID("1.2"), 2
    forwarder = Forwarder(ReceiveSettings(), PacsSettings(), tmp_path)
    with pytest.raises(RefusedError, match="ended it"):
        forwarder._store(ended, 1, request, WaitingDataset(tmp_path, set()))


def test_a_pull_in_which_nothing_works_is_not_carried_on_for_ever(peer: Archive, intake: Intake) -> None:
    def refused(_event: evt.Event, _times: int) -> Iterator[Any]:
        raise RuntimeError  # pynetdicom answers 0xC511

    peer.reply = refused
    fetching = Pull(settings_for(intake, pacs_of(peer)), intake.ledger, intake.spool, View())
    with pytest.raises(DeliveryError, match=r"10 series in a row failed.*0xC5"):
        fetching.run(plan_of(*(f"1.2.{number}" for number in range(100))))
    assert fetching.tally.left == 90


def test_a_get_into_a_tls_receiver_is_refused_before_it_begins(settings: NodeSettings) -> None:
    tls = TlsSettings(certificate=Path("a"), key=Path("b"), client_authority=Path("c"))
    with pytest.raises(ConfigurationError, match=r"use --by move"):
        require_receiver(settings.model_copy(update={"receive": settings.receive.model_copy(update={"tls": tls})}))
