"""Pulling from an archive: a real Orthanc, and archives that misbehave, in front of a real receiver."""

import hashlib
import json
import threading
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE, evt

from fewshot_node.config import NodeSettings, PacsSettings, PullSettings, TlsSettings
from fewshot_node.dicom.ledger import SeriesState
from fewshot_node.dicom.pull import Gate, Pull, PullOutcome, Tally, held_instances, require_receiver
from fewshot_node.dicom.pull_plan import PlannedSeries, Wanted, plan_pull
from fewshot_node.dicom.query_keys import parse_keys
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

ROOT = "1.2.826.0.1.3680043.8.498.40"
Make = Callable[..., Dataset]
Fill = Callable[..., tuple[str, list[str]]]


@dataclass
class View:
    """Remembers what it is told."""

    told: list[str] = field(default_factory=list)
    outcomes: dict[str, PullOutcome] = field(default_factory=dict)
    on_wait: Callable[[str], None] = lambda _reason: None
    on_arrival: Callable[[int], None] = lambda _instances: None

    def starts(self, planned: int) -> None: ...

    def began(self, series: PlannedSeries) -> None: ...

    def waits(self, reason: str) -> None:
        self.told.append(reason)
        self.on_wait(reason)

    def arrived(self, instances: int) -> None:
        self.on_arrival(instances)

    def ended(self, series: PlannedSeries, outcome: PullOutcome, reason: str) -> None:
        self.outcomes[series.series_instance_uid] = outcome


def settings_for(intake: Intake, pacs: PacsSettings, **pull: Any) -> NodeSettings:
    receive = intake.settings.model_copy(update={"port": intake.receiver.port, "reject_below_free_mb": 0})
    return NodeSettings(pacs=pacs, receive=receive, pull=PullSettings(**({"series_per_minute": 1e6} | pull)))


def run_pull(settings: NodeSettings, intake: Intake, plan: Sequence[PlannedSeries], view: View | None = None) -> Tally:
    return Pull(settings, intake.ledger, intake.spool, view or View()).run(plan)


def spooled(intake: Intake, series_uid: str) -> dict[str, bytes]:
    """Give the pixel data of what the spool has of a series, by SOP Instance UID."""
    files = [pydicom.dcmread(path) for path in intake.spool.series_files(series_uid)]
    return {str(one.SOPInstanceUID): one.PixelData for one in files}


# --- a real Orthanc


@pytest.fixture
def pacs(orthanc: OrthancServer) -> PacsSettings:
    return PacsSettings(ae_title=orthanc.aet, port=orthanc.dicom_port, timeout_s=10, backoff_s=0.01)


@pytest.fixture
def introduce(orthanc: OrthancServer) -> Iterator[Callable[[str, int], None]]:
    """Make an AE title known to Orthanc as a move destination; it is forgotten at the end."""
    titles: list[str] = []

    def put(ae_title: str, port: int) -> None:
        body = json.dumps({"AET": ae_title, "Host": "127.0.0.1", "Port": port}).encode()
        request = urllib.request.Request(f"{orthanc.url}/modalities/{ae_title}", body, method="PUT")
        urllib.request.urlopen(request, timeout=10).close()
        titles.append(ae_title)

    yield put
    for title in titles:
        urllib.request.urlopen(
            urllib.request.Request(f"{orthanc.url}/modalities/{title}", method="DELETE"), timeout=10
        ).close()


@pytest.fixture
def fill(orthanc: OrthancServer, make_instance: Make, request: pytest.FixtureRequest) -> Fill:
    """Put a study into Orthanc: series of so many instances; give its UID and those of its series."""

    def put(*counts: int, **changes: Any) -> tuple[str, list[str]]:
        name = f"{request.node.name}{counts}{sorted(changes.items())}"
        study = f"{ROOT}.{int(hashlib.sha256(name.encode()).hexdigest()[:12], 16)}"
        series = [f"{study}.{number}" for number in range(len(counts))]
        for uid, count in zip(series, counts, strict=True):
            for number in range(1, count + 1):
                wanted = {"StudyInstanceUID": study, "StudyDate": "19990101", "PatientID": study[-16:]} | changes
                buffer = BytesIO()
                make_instance(number, uid, **wanted).save_as(buffer, enforce_file_format=True)
                posted = urllib.request.Request(f"{orthanc.url}/instances", buffer.getvalue(), method="POST")
                urllib.request.urlopen(posted, timeout=10).close()
        return study, series

    return put


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
def test_a_query_finds_studies_and_series(fill: Fill, pacs: PacsSettings) -> None:
    fill(1, StudyDate="20240110", StudyDescription="Head")
    study, series = fill(1, StudyDate="20240120", StudyDescription="Abdomen and pelvis")
    keys = parse_keys(["StudyDate=20240101-20240131", "StudyDescription=*bdomen*", "ModalitiesInStudy=ct"])
    assert [one.study_instance_uid for one in plan_pull(Wanted(keys=keys), pacs)] == [study]
    keys = parse_keys(["StudyDate=20240120", "Modality=MR"])
    assert plan_pull(Wanted(keys=keys), pacs) == ()
    assert plan_pull(Wanted((study,), modalities=("MR",)), pacs) == ()
    [found] = plan_pull(Wanted((), (series[0],)), pacs)
    assert found.study_instance_uid == study


@pytest.mark.orthanc
def test_orthanc_that_does_not_know_us_is_told_how(fill: Fill, pacs: PacsSettings, intake: Intake) -> None:
    study, _ = fill(1)
    [reason] = run_pull(settings_for(intake, pacs), intake, plan_pull(Wanted((study,)), pacs)).failures.values()
    assert f"add AE title FEWSHOT, host of this machine, port {intake.receiver.port}" in reason
    assert "or use --by get" in reason


@pytest.mark.orthanc
def test_a_series_that_is_not_there_is_named(pacs: PacsSettings) -> None:
    with pytest.raises(PermanentError, match=r"does not list series 1.2.3 .*--study"):
        plan_pull(Wanted((), ("1.2.3",)), pacs)


@pytest.mark.orthanc
def test_a_wrong_address_of_ours_in_the_pacs_is_found_out(
    fill: Fill,
    pacs: PacsSettings,
    intake: Intake,
    introduce: Callable[[str, int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Orthanc sends to another node that takes everything: nothing comes here."""
    monkeypatch.setattr("fewshot_node.dicom.pull._SETTLED_WITHIN_S", 0.5)
    with archive(Archive()) as other:
        introduce("FEWSHOT", other.port)
        study, series = fill(1)
        [reason] = run_pull(settings_for(intake, pacs), intake, plan_pull(Wanted((study,)), pacs)).failures.values()
    assert series[0] in reason
    assert "0 of 1 instances are here: check which host and port it has for AE title FEWSHOT" in reason


# --- archives that misbehave


@pytest.fixture
def peer() -> Iterator[Archive]:
    with archive(Archive()) as running:
        yield running


@pytest.fixture
def settings(peer: Archive, intake: Intake) -> NodeSettings:
    """A node that pulls from the archive by C-GET."""
    return settings_for(intake, pacs_of(peer), by="get")


def pacs_of(peer: Archive, **changes: Any) -> PacsSettings:
    return PacsSettings(**({"ae_title": "ARCHIVE", "port": peer.port, "timeout_s": 5, "backoff_s": 0.01} | changes))


def plan_of(*series: str, instances: int | None = 1) -> list[PlannedSeries]:
    return [PlannedSeries(STUDY_UID, uid, "CT", instances) for uid in series]


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
    monkeypatch.setattr("fewshot_node.dicom.retrieve._CANCELLED_WITHIN_S", 0.2)
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


def test_answers_without_end_are_broken_off(
    peer: Archive, settings: NodeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fewshot_node.dicom.pull_plan._MOST_MATCHES", 50)

    def endless(event: evt.Event) -> Iterator[Any]:
        number = 0
        while not event.is_cancelled and event.assoc.is_established:
            number += 1
            found = Dataset()
            found.StudyInstanceUID = f"1.2.{number}"
            found.StudyDate = "20260101"
            yield 0xFF00, found

    peer.on_find = endless
    with pytest.raises(DeliveryError, match=r"lists more than 50 matches"):
        plan_pull(Wanted(keys=parse_keys(["StudyDate=20260101"])), settings.pacs)


@pytest.mark.parametrize("how", ["attribute left out", "status"])
def test_an_archive_that_ignores_a_key_is_not_believed(
    how: str, peer: Archive, settings: NodeSettings, make_instance: Make
) -> None:
    """PS3.4 C.4.1.1.4 and C.2.2.1.3: an ignored optional key makes a query match the whole archive."""
    peer.datasets = [make_instance(1)]
    peer.hidden = ("StudyDate",) if how == "attribute left out" else ()
    peer.pending = 0xFF00 if how == "attribute left out" else 0xFF01
    keys = parse_keys(["StudyDate=20260101"])
    with pytest.raises(DeliveryError, match=r"does not match by.*StudyDate.*--all"):
        plan_pull(Wanted(keys=keys), settings.pacs)
    assert len(plan_pull(Wanted(keys=keys, ignored_keys=True), settings.pacs)) == 1


def test_uids_that_are_none_and_odd_values_are_left_out(
    peer: Archive, settings: NodeSettings, caplog: pytest.LogCaptureFixture
) -> None:
    def odd(event: evt.Event) -> Iterator[Any]:
        study = str(event.identifier.get("StudyInstanceUID") or f"{ROOT}.1")
        for series_uid, modality, study_uid in [
            ("../../etc", "CT", study),
            ("1.2.3", "SECRET^PERSON\x1b[2J", study),
            ("1.2.4", "CT", "1.9.9"),
        ]:
            found = Dataset()
            for keyword, value in (("SeriesInstanceUID", series_uid), ("StudyInstanceUID", study_uid)):
                found[keyword] = pydicom.DataElement(keyword, "UI", value, validation_mode=pydicom.config.IGNORE)
            found["Modality"] = pydicom.DataElement("Modality", "CS", modality, validation_mode=pydicom.config.IGNORE)
            found["NumberOfSeriesRelatedInstances"] = pydicom.DataElement(
                "NumberOfSeriesRelatedInstances", "LO", "many", validation_mode=pydicom.config.IGNORE
            )
            yield 0xFF00, found

    peer.on_find = odd
    plan = plan_pull(Wanted((f"{ROOT}.1",)), settings.pacs)
    assert plan == (PlannedSeries(f"{ROOT}.1", "1.2.3", "?", None),)
    assert "SECRET" not in caplog.text


def test_a_pull_in_which_nothing_works_is_not_carried_on_for_ever(peer: Archive, intake: Intake) -> None:
    def refused(_event: evt.Event, _times: int) -> Iterator[Any]:
        raise RuntimeError  # pynetdicom answers 0xC511

    peer.reply = refused
    fetching = Pull(settings_for(intake, pacs_of(peer)), intake.ledger, intake.spool, View())
    with pytest.raises(DeliveryError, match=r"10 series in a row failed.*0xC5"):
        fetching.run(plan_of(*(f"1.2.{number}" for number in range(100))))
    assert fetching.tally.left == 90


# --- pace


def test_work_that_has_piled_up_holds_the_pull_back(
    peer: Archive, intake: Intake, make_instance: Make, connect: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    sender = connect(intake.receiver.port)
    assert sender.store(make_instance(1, f"{ROOT}.21")) == 0
    eventually(lambda: held_instances(intake.ledger, f"{ROOT}.21"))
    peer.datasets = [make_instance(1, f"{ROOT}.22")]
    settings = settings_for(intake, pacs_of(peer), by="get", max_unfinished=1)

    def finish(reason: str) -> None:
        if "pull.max_unfinished" in reason:
            key = intake.ledger.close(f"{ROOT}.21")
            assert key is not None
            assert peer.retrievals == 0
            end(intake, key)

    view = View(on_wait=finish)
    assert run_pull(settings, intake, plan_of(f"{ROOT}.22"), view).left == 0
    assert view.told[0].startswith("1 series or more")
    assert view.told[-1] == ""


def end(intake: Intake, key: Any) -> None:
    """Bring a complete series to an end as the workers do."""
    entry = intake.ledger.entry(key)
    assert entry is not None
    intake.ledger.mark_dispatched(key, entry.attempt, "run")
    intake.ledger.claim(key, entry.attempt, "worker", 30.0)
    intake.ledger.finish(key, "worker", SeriesState.NO_TASK, "", ())


def test_series_start_no_faster_than_the_rate(peer: Archive, intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("fewshot_node.dicom.pull.monotonic", lambda: clock[0])
    monkeypatch.setattr("fewshot_node.dicom.pull.sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    view = View()
    gate = Gate(settings_for(intake, pacs_of(peer), series_per_minute=6), intake.ledger, intake.spool, view)
    starts = []
    for _ in range(4):
        gate.wait()
        starts.append(clock[0])
    assert starts == [100, 110, 120, 130]
    assert view.told == ["pace of 6 series a minute (pull.series_per_minute)", ""] * 3


def test_a_disk_with_little_room_holds_the_pull_back(
    peer: Archive, intake: Intake, make_instance: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(intake, pacs_of(peer), by="get")
    settings = settings.model_copy(
        update={"receive": settings.receive.model_copy(update={"reject_below_free_mb": 100})}
    )
    free = [50 * 2**20]
    monkeypatch.setattr(intake.spool, "free_bytes", lambda: free[0])
    peer.datasets = [make_instance(1, f"{ROOT}.22")]

    def free_some(reason: str) -> None:
        if reason:
            assert "receive.reject_below_free_mb" in reason
            free[0] = 200 * 2**20

    assert run_pull(settings, intake, plan_of(f"{ROOT}.22"), View(on_wait=free_some)).retrieved == 1


# --- keys and settings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("StudyDat=20260101", "did you mean StudyDate"),
        ("modality=CT", "did you mean .*Modality"),
        ("PatientID=4711", "identifies a person.*--from-file"),
        ("PatientName=A*", "identifies a person"),
        ("AccessionNumber=4711", "identifies a person"),
        ("ReferringPhysicianName=A", "identifies a person"),
        ("SliceThickness=1", "no key of studies or series"),
        ("StudyDate=2026-01-01", "write 20260131, 20260101-20260131"),
        ("StudyDate=20261301", "no date"),
        ("StudyTime=25", "no date or time"),
        ("StudyInstanceUID=4711-A", "no UID"),
        ("SeriesNumber=one", "whole number"),
        ("StudyDescription=a\x00b", "not printable"),
        ("StudyDate", "without '='"),
    ],
)
def test_keys_that_cannot_be_asked_by(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as refused:
        parse_keys([text])
    assert "4711" not in str(refused.value)


def test_keys_have_their_level() -> None:
    keys = parse_keys(["StudyDate=20260101-", "Modality=mr", "SeriesDescription=T2*", "StudyTime=-1200"])
    assert dict(keys.study) == {"StudyDate": "20260101-", "StudyTime": "-1200"}
    assert dict(keys.series) == {"Modality": "MR", "SeriesDescription": "T2*"}
    assert keys.narrows_studies
    assert not parse_keys(["StudyDate=", "StudyDescription=*", "Modality=CT"]).narrows_studies
    with pytest.raises(ConfigurationError, match=r"twice"):
        parse_keys(["Modality=CT", "Modality=MR"])


def test_a_get_into_a_tls_receiver_is_refused_before_it_begins(settings: NodeSettings) -> None:
    tls = TlsSettings(certificate=Path("a"), key=Path("b"), client_authority=Path("c"))
    with pytest.raises(ConfigurationError, match=r"use --by move"):
        require_receiver(settings.model_copy(update={"receive": settings.receive.model_copy(update={"tls": tls})}))
