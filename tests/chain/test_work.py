"""Claimed work without Prefect: how a series ends, whatever goes wrong."""

import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pydicom
import pytest

from fewshot_node import pipeline
from fewshot_node.config import DeliverySettings, FolderDestination, NodeSettings, PacsSettings, ReceiveSettings
from fewshot_node.demo.cases import Case, Lesson
from fewshot_node.dicom.deliver.courier import Courier
from fewshot_node.dicom.ledger import Confirmation, DeliveryState, SeriesState, ShadowState
from fewshot_node.dicom.objects.volume import read_volume
from fewshot_node.dicom.receive.receiver import Receiver
from fewshot_node.dicom.send import store
from fewshot_node.errors import RetryableError
from fewshot_node.models import Models
from fewshot_node.node import Node, open_node
from fewshot_node.records import SeriesKey, Volume
from fewshot_node.tasks.candidates import Candidate
from fewshot_node.tasks.registry import Registry
from fewshot_node.tasks.standing import Standing, write_standing
from fewshot_node.tasks.task import PublishedTask
from fewshot_node.work import work_on
from tests.chain.running_node import wait_for


@pytest.fixture
def node(tmp_path: Path, taught: Path) -> Node:
    settings = NodeSettings(
        home=tmp_path,
        receive=ReceiveSettings(host="127.0.0.1", port=0, min_free_mb=1),
        pacs=PacsSettings(port=1, timeout_s=2),
    )
    (tmp_path / "tasks").symlink_to(taught)
    return open_node(settings)


@pytest.fixture
def own_tasks(node: Node, taught: Path) -> Registry:
    """The taught tasks as a copy, to be changed; the knee's goes to a folder when it is live."""
    node.settings.tasks.unlink()
    shutil.copytree(taught, node.settings.tasks)
    return Registry(node.settings.tasks)


def to_a_share(node: Node) -> tuple[Node, Path]:
    share = node.settings.home / "share"
    share.mkdir()
    folder = FolderDestination(kind="folder", path=share)
    delivery = DeliverySettings(to=("share",), destinations={"share": folder})
    return replace(node, settings=node.settings.model_copy(update={"delivery": delivery})), share


def receive(node: Node, files: tuple[Path, ...], uid: str) -> SeriesKey:
    with Receiver(node.settings.receive, node.spool, node.ledger) as receiver:
        scanner = PacsSettings(ae_title="FEWSHOT", port=receiver.port, calling_ae_title="SCANNER")
        store(files, scanner)
    key = node.ledger.close(uid)
    assert key is not None
    return key


def pointed_at(node: Node, pacs: PacsSettings) -> Node:
    return replace(node, settings=node.settings.model_copy(update={"pacs": pacs}))


def reason_of(node: Node, case: Case) -> str:
    entry = node.ledger.get(case.series_instance_uid)
    assert entry is not None
    return entry.reason


def test_the_pacs_is_away_then_back(node: Node, lessons: tuple[Lesson, Lesson], models: Models, orthanc: Any) -> None:
    case = lessons[1].pushed[1]
    key = receive(node, case.files, case.series_instance_uid)
    assert work_on(node, models, key, 1, "worker") is SeriesState.DELIVERING
    (waiting,) = node.ledger.deliveries(key=key)
    assert (waiting.task_name, waiting.state, waiting.tries) == ("knee-landmarks", DeliveryState.WAITING, 1)
    assert "127.0.0.1:1" in waiting.reason
    folder = node.settings.outbox / str(key) / "knee-landmarks"
    made = {path: path.stat().st_mtime_ns for path in folder.iterdir()}

    healed = pointed_at(node, PacsSettings(ae_title=orthanc.aet, port=orthanc.dicom_port))
    node.ledger.hasten("pacs")
    with Courier(healed.ledger, healed.settings):
        wait_for(lambda: node.ledger.counts()[SeriesState.DELIVERED], "the courier")
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == made, "nothing was made anew"
    (confirmed,) = node.ledger.deliveries(key=key)
    assert (confirmed.state, confirmed.confirmed_by) == (DeliveryState.CONFIRMED, Confirmation.FIND)


def test_results_go_to_every_destination_of_their_task(
    node: Node, lessons: tuple[Lesson, Lesson], models: Models, orthanc: Any, tmp_path: Path
) -> None:
    case = lessons[1].pushed[1]
    key = receive(node, case.files, case.series_instance_uid)
    share = tmp_path / "share"
    share.mkdir()
    folder = FolderDestination(kind="folder", path=share)
    delivery = DeliverySettings(tasks={"knee-landmarks": ("pacs", "share")}, destinations={"share": folder})
    pacs = PacsSettings(ae_title=orthanc.aet, port=orthanc.dicom_port)
    settings = node.settings.model_copy(update={"pacs": pacs, "delivery": delivery})
    assert work_on(replace(node, settings=settings), models, key, 1, "worker") is SeriesState.DELIVERED
    (report,) = (node.settings.outbox / str(key) / "knee-landmarks").iterdir()
    assert [path.read_bytes() for path in share.iterdir()] == [report.read_bytes()]
    by = {one.destination: one.confirmed_by for one in node.ledger.deliveries(key=key)}
    assert by == {"pacs": Confirmation.FIND, "share": Confirmation.READ_BACK}


def test_the_same_series_makes_the_same_bytes(
    node: Node, lessons: tuple[Lesson, Lesson], models: Models, orthanc: Any
) -> None:
    case = lessons[0].pushed[0]
    key = receive(node, case.files, case.series_instance_uid)
    healed = pointed_at(node, PacsSettings(ae_title=orthanc.aet, port=orthanc.dicom_port))
    written = []
    for attempt in (1, 2):
        assert work_on(healed, models, key, attempt, "worker") is SeriesState.DELIVERED
        folder = node.settings.outbox / str(key) / "torso-organs"
        written.append({path.name: path.read_bytes() for path in folder.iterdir()})
        node.ledger.retry(case.series_instance_uid)
    assert written[0] == written[1]
    assert set(written[0]) == {"segmentation.dcm", "report.dcm"}


def test_a_later_report_names_the_one_that_it_replaces(
    node: Node, lessons: tuple[Lesson, Lesson], models: Models, taught: Path, tmp_path: Path
) -> None:
    """First run, the same again, a late slice, the next task revision, then all of it with a lost ledger."""
    case = lessons[1].pushed[1]
    (tmp_path / "tasks").unlink()
    shutil.copytree(taught, tmp_path / "tasks")
    delivery = DeliverySettings(
        to=("share",), destinations={"share": FolderDestination(kind="folder", path=tmp_path / "share")}
    )
    (tmp_path / "share").mkdir()
    node = replace(node, settings=node.settings.model_copy(update={"delivery": delivery}))
    *early, late = sorted(case.files, key=lambda path: float(pydicom.dcmread(path).ImagePositionPatient[0]))

    def report(key: SeriesKey) -> tuple[pydicom.Dataset, list[str]]:
        entry = node.ledger.entry(key)
        assert entry is not None
        assert work_on(node, models, key, entry.attempt, "worker") is SeriesState.DELIVERED
        made = pydicom.dcmread(node.settings.outbox / str(key) / "knee-landmarks" / "report.dcm")
        assert (tmp_path / "share" / f"{made.SOPInstanceUID}.dcm").exists()
        named = [
            str(item.ReferencedSOPInstanceUID)
            for study in made.get("PredecessorDocumentsSequence", ())
            for series in study.ReferencedSeriesSequence
            for item in series.ReferencedSOPSequence
        ]
        return made, named

    def again() -> SeriesKey:
        key = node.ledger.retry(case.series_instance_uid)
        assert key is not None
        return key

    first, named = report(receive(node, tuple(early), case.series_instance_uid))
    assert named == []
    assert report(again()) == (first, [])
    second, named = report(receive(node, (late,), case.series_instance_uid))
    assert named == [first.SOPInstanceUID]
    assert report(again()) == (second, [first.SOPInstanceUID])
    Registry(node.settings.tasks).publish("knee-landmarks")
    third, named = report(again())
    assert named == [second.SOPInstanceUID]
    assert report(again()) == (third, [second.SOPInstanceUID])

    node.ledger.dispose()
    for path in tmp_path.glob("ledger*"):
        path.unlink()
    node = replace(node, ledger=open_node(node.settings).ledger)
    assert node.ledger.rebuild(node.spool) == 1
    key = node.ledger.close(case.series_instance_uid)
    assert key is not None
    lost, named = report(key)
    assert named == []
    assert lost.SeriesInstanceUID == third.SeriesInstanceUID


def test_a_series_that_is_no_volume_fails_with_its_reason(
    node: Node, lessons: tuple[Lesson, Lesson], models: Models, tmp_path: Path
) -> None:
    case = lessons[0].pushed[0]
    with_gap = tuple(path for number, path in enumerate(sorted(case.files)) if number != len(case.files) // 2)
    key = receive(node, with_gap, case.series_instance_uid)
    assert work_on(node, models, key, 1, "worker") is SeriesState.FAILED
    reason = reason_of(node, case)
    assert case.series_instance_uid in reason
    assert "mm" in reason


def test_undecodable_pixels_name_the_instance(
    node: Node, lessons: tuple[Lesson, Lesson], models: Models, tmp_path: Path
) -> None:
    case = lessons[0].pushed[0]
    broken = pydicom.dcmread(case.files[3])
    broken.PixelData = broken.PixelData[:100]
    broken.save_as(tmp_path / "broken.dcm")
    files = (*case.files[:3], tmp_path / "broken.dcm", *case.files[4:])
    key = receive(node, files, case.series_instance_uid)
    assert work_on(node, models, key, 1, "worker") is SeriesState.FAILED
    assert str(broken.SOPInstanceUID) in reason_of(node, case)


def test_objects_without_images_end_as_no_task(node: Node, models: Models, tmp_path: Path) -> None:
    report = pydicom.Dataset()
    report.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.33"
    report.SOPInstanceUID = "1.2.3.4.1"
    report.StudyInstanceUID, report.SeriesInstanceUID = "1.2.3", "1.2.3.4"
    report.Modality = "SR"
    report.file_meta = pydicom.dataset.FileMetaDataset()
    report.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    report.save_as(tmp_path / "sr.dcm", enforce_file_format=True)
    key = receive(node, (tmp_path / "sr.dcm",), "1.2.3.4")
    assert work_on(node, models, key, 1, "worker") is SeriesState.NO_TASK


def test_a_fault_of_ours_is_an_end_too_and_quotes_nothing(
    node: Node,
    lessons: tuple[Lesson, Lesson],
    models: Models,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    case = lessons[0].pushed[0]
    key = receive(node, case.files, case.series_instance_uid)
    seen: list[BaseException] = []
    secret = "^".join(("SECRET", "PERSON"))  # not in a source line, which the log may show

    def fault(*_: object) -> None:
        raise KeyError(secret)

    def watching(name, stage):
        try:
            return stage()
        except BaseException as error:
            seen.append(error)
            raise

    monkeypatch.setattr("fewshot_node.pipeline.read_volume", fault)
    assert work_on(node, models, key, 1, "worker", watching) is SeriesState.FAILED
    assert "internal error (KeyError)" in reason_of(node, case)
    assert [type(error).__name__ for error in seen] == ["InternalError"]
    written = reason_of(node, case) + caplog.text + "".join(map(repr, (seen[0], seen[0].__cause__)))
    assert secret not in written
    assert "in fault" in caplog.text, "the log says where"


def test_one_task_failing_on_its_own_leaves_the_others_result(
    node: Node, lessons: tuple[Lesson, Lesson], models: Models, orthanc: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = lessons[1].pushed[0]
    key = receive(node, case.files, case.series_instance_uid)
    healed = pointed_at(node, PacsSettings(ae_title=orthanc.aet, port=orthanc.dicom_port))
    (knee,) = (one for one in Registry(node.settings.tasks).candidates() if one.name == "knee-landmarks")
    loaded = knee.load()
    assert isinstance(loaded, PublishedTask)
    twin = replace(loaded, definition=replace(loaded.definition, name="twin"))
    monkeypatch.setattr("fewshot_node.tasks.candidates.load_revision", lambda folder: folders[folder])
    folders = {Path(knee.folder): loaded, Path("twin"): twin}
    others = (
        replace(knee, name="twin", folder="twin"),
        Candidate("altered", 3, False, None, "", "its revision was altered"),
    )
    monkeypatch.setattr("fewshot_node.work.Registry.candidates", lambda self: (knee, *others))
    real = pipeline.locate_landmarks

    def fails_once(*arguments):
        monkeypatch.setattr("fewshot_node.pipeline.locate_landmarks", real)
        raise ValueError("a fault")

    monkeypatch.setattr("fewshot_node.pipeline.locate_landmarks", fails_once)
    assert work_on(healed, models, key, 1, "worker") is SeriesState.FAILED
    entry = node.ledger.get(case.series_instance_uid)
    assert entry is not None
    ends = {outcome.task_name: (outcome.state, outcome.reason) for outcome in entry.outcomes}
    assert ends["twin"] == (SeriesState.DELIVERED, "")
    assert ends["altered"] == (SeriesState.FAILED, "its revision was altered")
    assert "internal error (ValueError)" in ends["knee-landmarks"][1]


def test_a_worker_that_lost_its_claim_stops_and_records_nothing(
    node: Node, lessons: tuple[Lesson, Lesson], models: Models
) -> None:
    case = lessons[1].pushed[0]
    key = receive(node, case.files, case.series_instance_uid)
    short = node.settings.worker.model_copy(update={"lease_s": 0.3})
    quick = replace(node, settings=node.settings.model_copy(update={"worker": short}))
    begun: list[str] = []

    def stolen_after_route(name, stage):
        begun.append(name)
        value = stage()
        if name == "route":
            in_an_hour = datetime.now(UTC) + timedelta(hours=1)
            assert [claim.key for claim in node.ledger.release_expired(in_an_hour, 3)] == [key]
            assert node.ledger.claim(key, 2, "other", 60)
            threading.Event().wait(0.5)  # longer than the lease thread takes to notice
        return value

    assert work_on(quick, models, key, 1, "worker", stolen_after_route) is None
    assert begun[-1] == "route"
    entry = node.ledger.get(case.series_instance_uid)
    assert entry is not None
    assert (entry.state, entry.claimed_by) == (SeriesState.DISPATCHED, "other")


def test_a_busy_ledger_gives_the_series_back(
    node: Node, lessons: tuple[Lesson, Lesson], models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = lessons[1].pushed[0]
    key = receive(node, case.files[:2], case.series_instance_uid)

    def busy(*_: object) -> None:
        raise RetryableError("the ledger is busy")

    monkeypatch.setattr("fewshot_node.dicom.ledger.Ledger.received", busy)
    assert work_on(node, models, key, 1, "worker") is SeriesState.COMPLETE
    (waiting,) = node.ledger.waiting()
    assert (waiting.key, waiting.attempt) == (key, 2)


def test_an_attempt_that_is_not_the_newest_is_left_alone(
    node: Node, lessons: tuple[Lesson, Lesson], models: Models
) -> None:
    case = lessons[0].pushed[0]
    key = receive(node, case.files[:2], case.series_instance_uid)
    assert work_on(node, models, key, 7, "worker") is None
    entry = node.ledger.get(case.series_instance_uid)
    assert entry is not None
    assert entry.state is SeriesState.COMPLETE


def test_a_long_run_keeps_its_claim(
    node: Node, lessons: tuple[Lesson, Lesson], models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = lessons[0].pushed[0]
    key = receive(node, case.files[:2], case.series_instance_uid)
    short = node.settings.worker.model_copy(update={"lease_s": 0.3})
    quick = replace(node, settings=node.settings.model_copy(update={"worker": short}))
    outlived = threading.Event()

    def slow(*_: object) -> pipeline.Processed:
        outlived.wait(1.2)
        assert node.ledger.release_expired(datetime.now(UTC), 3) == []
        return pipeline.Processed(())

    monkeypatch.setattr("fewshot_node.work.process_series", slow)
    assert work_on(quick, models, key, 1, "worker") is SeriesState.NO_TASK


KNEE = "knee-landmarks"


def test_a_shadow_runs_beside_the_live_revision_and_sends_nothing(
    node: Node, own_tasks: Registry, lessons: tuple[Lesson, Lesson], models: Models
) -> None:
    assert own_tasks.publish(KNEE, shadow=True) == 2
    case = lessons[1].pushed[0]
    key = receive(node, case.files, case.series_instance_uid)
    sending, share = to_a_share(node)
    assert work_on(sending, models, key, 1, "worker") is SeriesState.DELIVERED
    entry = node.ledger.entry(key)
    assert entry is not None
    (live,), (shadow,) = entry.outcomes, entry.shadows
    assert (live.task_revision, shadow.task_revision, shadow.state) == (1, 2, ShadowState.KEPT)
    assert {path.stem for path in share.iterdir()} == {live.report_instance_uid}
    kept = node.settings.shadow / str(key) / KNEE / "report.dcm"
    assert pydicom.dcmread(kept).SOPInstanceUID == shadow.report_instance_uid != live.report_instance_uid
    assert {"volume", "encode", "localize", "write"} <= set(shadow.seconds)


def test_a_series_that_only_a_shadow_takes_ends_as_no_task(
    node: Node, own_tasks: Registry, lessons: tuple[Lesson, Lesson], models: Models
) -> None:
    own_tasks.publish(KNEE, shadow=True)
    write_standing(own_tasks.root / KNEE, Standing(shadow=2))
    case = lessons[1].pushed[0]
    key = receive(node, case.files, case.series_instance_uid)
    assert work_on(node, models, key, 1, "worker") is SeriesState.NO_TASK
    entry = node.ledger.entry(key)
    assert entry is not None
    assert (entry.outcomes, [one.state for one in entry.shadows]) == ((), [ShadowState.KEPT])
    assert node.ledger.deliveries() == ()
    assert not node.settings.outbox.exists()


def test_a_shadow_that_fails_costs_its_series_nothing(
    node: Node,
    own_tasks: Registry,
    lessons: tuple[Lesson, Lesson],
    models: Models,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own_tasks.publish(KNEE, shadow=True)
    write_standing(own_tasks.root / KNEE, Standing(shadow=2))
    case = lessons[1].pushed[0]
    key = receive(node, case.files, case.series_instance_uid)

    def fault(*_: object) -> None:
        raise KeyError("Secret^Person")

    monkeypatch.setattr("fewshot_node.pipeline.locate_landmarks", fault)
    assert work_on(node, models, key, 1, "worker") is SeriesState.NO_TASK
    entry = node.ledger.entry(key)
    assert entry is not None
    assert entry.shadows[0].state is ShadowState.FAILED
    assert "internal error (KeyError)" in entry.shadows[0].reason
    assert "Secret" not in entry.shadows[0].reason

    weights = own_tasks.root / KNEE / "revisions" / "0002" / "adapter.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(b"")
    node.ledger.retry(case.series_instance_uid)
    assert work_on(node, models, key, 2, "worker") is SeriesState.NO_TASK
    entry = node.ledger.entry(key)
    assert entry is not None
    assert "was altered" in entry.shadows[0].reason


def test_a_worker_that_dies_in_a_shadow_has_ended_the_series_before(
    node: Node,
    own_tasks: Registry,
    lessons: tuple[Lesson, Lesson],
    models: Models,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own_tasks.publish(KNEE, shadow=True)
    case = lessons[1].pushed[0]
    key = receive(node, case.files, case.series_instance_uid)
    sending, _ = to_a_share(node)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fewshot_node.shadow.read_volume", die)
    with pytest.raises(KeyboardInterrupt):
        work_on(sending, models, key, 1, "worker")
    entry = node.ledger.entry(key)
    assert entry is not None
    assert (entry.state, entry.shadows[0].state) == (SeriesState.DELIVERED, ShadowState.RUNNING)


KILLED_IN_A_SHADOW = """
import os, signal, sys
from fewshot_node import shadow
from fewshot_node.config import NodeSettings
from fewshot_node.node import open_node
from fewshot_node.records import SeriesKey
from fewshot_node.work import work_on

shadow.read_volume = lambda files: os.kill(os.getpid(), signal.SIGKILL)
node = open_node(NodeSettings.model_validate_json(sys.argv[1]))
work_on(node, None, SeriesKey(sys.argv[2], 1), 1, "worker")  # without a live task no model is used before
"""


def test_a_kill_in_a_shadow_is_an_end_too(
    node: Node, own_tasks: Registry, lessons: tuple[Lesson, Lesson], models: Models
) -> None:
    own_tasks.publish(KNEE, shadow=True)
    write_standing(own_tasks.root / KNEE, Standing(shadow=2))
    case = lessons[1].pushed[0]
    key = receive(node, case.files, case.series_instance_uid)
    command = [sys.executable, "-c", KILLED_IN_A_SHADOW, node.settings.model_dump_json(), key.series_instance_uid]
    assert subprocess.run(command, timeout=200).returncode == -signal.SIGKILL
    entry = node.ledger.entry(key)
    assert entry is not None
    assert (entry.state, entry.shadows[0].state) == (SeriesState.NO_TASK, ShadowState.RUNNING)
    lapsed = datetime.now(UTC) + timedelta(seconds=node.settings.worker.lease_s + 1)
    (lost,) = node.ledger.fail_lost_shadows(lapsed)
    assert (lost.key, lost.task_name) == (key, KNEE)
    assert str(lost.worker).startswith("worker:")
    entry = node.ledger.entry(key)
    assert entry is not None
    assert (entry.shadows[0].state, "its worker died" in entry.shadows[0].reason) == (ShadowState.FAILED, True)
    assert node.ledger.retry(case.series_instance_uid) == key
    assert work_on(node, models, key, 2, "worker") is SeriesState.NO_TASK
    entry = node.ledger.entry(key)
    assert entry is not None
    assert entry.shadows[0].state is ShadowState.KEPT


def test_a_shadow_that_runs_for_long_keeps_its_claim(
    node: Node,
    own_tasks: Registry,
    lessons: tuple[Lesson, Lesson],
    models: Models,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own_tasks.publish(KNEE, shadow=True)
    write_standing(own_tasks.root / KNEE, Standing(shadow=2))
    case = lessons[1].pushed[0]
    key = receive(node, case.files, case.series_instance_uid)
    short = node.settings.worker.model_copy(update={"lease_s": 0.5})
    quick = replace(node, settings=node.settings.model_copy(update={"worker": short}))
    outlived = threading.Event()

    def slow(files: tuple[Path, ...]) -> Volume:
        outlived.wait(1.5)
        assert node.ledger.fail_lost_shadows(datetime.now(UTC)) == []
        return read_volume(files)

    monkeypatch.setattr("fewshot_node.shadow.read_volume", slow)
    assert work_on(quick, models, key, 1, "worker") is SeriesState.NO_TASK
    entry = node.ledger.entry(key)
    assert entry is not None
    assert entry.shadows[0].state is ShadowState.KEPT


def test_a_retired_task_leaves_its_series_as_no_task(
    node: Node, own_tasks: Registry, lessons: tuple[Lesson, Lesson], models: Models
) -> None:
    own_tasks.lifecycle(KNEE).retire()
    case = lessons[1].pushed[0]
    key = receive(node, case.files, case.series_instance_uid)
    assert work_on(node, models, key, 1, "worker") is SeriesState.NO_TASK
    entry = node.ledger.entry(key)
    assert entry is not None
    assert entry.shadows == ()


def test_a_damaged_standing_fails_the_series_that_its_task_would_take_and_no_other(
    node: Node, own_tasks: Registry, lessons: tuple[Lesson, Lesson], models: Models
) -> None:
    (own_tasks.root / "torso-organs" / "standing.json").write_text("{")
    torso, knee = (lesson.pushed[0] for lesson in lessons)
    torso_key = receive(node, torso.files, torso.series_instance_uid)
    knee_key = receive(node, knee.files, knee.series_instance_uid)
    sending, _ = to_a_share(node)
    assert work_on(sending, models, torso_key, 1, "worker") is SeriesState.FAILED
    assert "task go-live torso-organs" in reason_of(node, torso)
    assert work_on(sending, models, knee_key, 1, "worker") is SeriesState.DELIVERED
