"""Claimed work without Prefect: how a series ends, whatever goes wrong."""

import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pydicom
import pytest

from fewshot_node.config import NodeSettings, PacsSettings, ReceiveSettings
from fewshot_node.demo.cases import Lesson
from fewshot_node.dicom.ledger import SeriesState
from fewshot_node.dicom.receive import Receiver
from fewshot_node.dicom.send import store
from fewshot_node.errors import FewshotNodeError, SeriesError
from fewshot_node.models import Models
from fewshot_node.node import Node, open_node
from fewshot_node.records import SeriesKey
from fewshot_node.work import work_on


@pytest.fixture
def node(tmp_path: Path, taught: Path) -> Node:
    settings = NodeSettings(
        home=tmp_path,
        receive=ReceiveSettings(host="127.0.0.1", port=0, min_free_mb=1),
        pacs=PacsSettings(port=1, attempts=1, timeout_s=2),
    )
    (tmp_path / "tasks").symlink_to(taught)
    return open_node(settings)


def receive(node: Node, files: tuple[Path, ...], uid: str) -> SeriesKey:
    with Receiver(node.settings.receive, node.spool, node.ledger) as receiver:
        scanner = PacsSettings(ae_title="FEWSHOT", port=receiver.port, calling_ae_title="SCANNER")
        store(files, scanner)
    key = node.ledger.close(uid)
    assert key is not None
    return key


def pointed_at(node: Node, pacs: PacsSettings) -> Node:
    return replace(node, settings=node.settings.model_copy(update={"pacs": pacs}))


def test_the_pacs_is_away_then_back(node: Node, lessons: tuple[Lesson, Lesson], models: Models, orthanc: Any) -> None:
    case = lessons[1].pushed[1]
    key = receive(node, case.files, case.series_instance_uid)
    assert work_on(node, models, key, 1, "worker") is SeriesState.FAILED
    failed = node.ledger.get(case.series_instance_uid)
    assert failed is not None
    assert "knee-landmarks" in failed.reason
    assert "127.0.0.1:1" in failed.reason

    assert node.ledger.retry(case.series_instance_uid) == key
    healed = pointed_at(node, PacsSettings(ae_title=orthanc.aet, port=orthanc.dicom_port))
    assert work_on(healed, models, key, 2, "worker") is SeriesState.DELIVERED


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


def test_a_series_that_is_no_volume_fails_with_its_reason(
    node: Node, lessons: tuple[Lesson, Lesson], models: Models, tmp_path: Path
) -> None:
    case = lessons[0].pushed[0]
    with_gap = tuple(path for number, path in enumerate(sorted(case.files)) if number != len(case.files) // 2)
    key = receive(node, with_gap, case.series_instance_uid)
    with pytest.raises(SeriesError, match=case.series_instance_uid):
        work_on(node, models, key, 1, "worker")
    entry = node.ledger.get(case.series_instance_uid)
    assert entry is not None
    assert entry.state is SeriesState.FAILED
    assert "mm" in entry.reason


def test_undecodable_pixels_name_the_instance(
    node: Node, lessons: tuple[Lesson, Lesson], models: Models, tmp_path: Path
) -> None:
    case = lessons[0].pushed[0]
    broken = pydicom.dcmread(case.files[3])
    broken.PixelData = broken.PixelData[:100]
    broken.save_as(tmp_path / "broken.dcm")
    files = (*case.files[:3], tmp_path / "broken.dcm", *case.files[4:])
    key = receive(node, files, case.series_instance_uid)
    with pytest.raises(FewshotNodeError, match=str(broken.SOPInstanceUID)):
        work_on(node, models, key, 1, "worker")


def test_objects_without_images_end_as_no_task(node: Node, models: Models, tmp_path: Path) -> None:
    from highdicom.sr import ComprehensiveSR  # noqa: F401  the class exists; a bare SR is enough here

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


def test_a_fault_of_ours_is_an_end_too(
    node: Node, lessons: tuple[Lesson, Lesson], models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = lessons[0].pushed[0]
    key = receive(node, case.files[:2], case.series_instance_uid)

    def fault(*_: object) -> None:
        raise KeyError("a patient's name must not come out of here")

    monkeypatch.setattr("fewshot_node.work.process_series", fault)
    with pytest.raises(KeyError):
        work_on(node, models, key, 1, "worker")
    entry = node.ledger.get(case.series_instance_uid)
    assert entry is not None
    assert entry.state is SeriesState.FAILED
    assert "KeyError" in entry.reason
    assert "patient" not in entry.reason


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

    def slow(*_: object) -> tuple[()]:
        outlived.wait(1.2)
        assert node.ledger.release_expired(datetime.now(UTC), 3) == []
        return ()

    monkeypatch.setattr("fewshot_node.work.process_series", slow)
    assert work_on(quick, models, key, 1, "worker") is SeriesState.NO_TASK
