"""What the chain says of a task whose objects must not leave; the stages themselves are tested in their rooms."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pydicom
import pytest

from fewshot_node import pipeline
from fewshot_node.dicom.ledger import SeriesState
from fewshot_node.dicom.objects.sr import write_report
from fewshot_node.records import ReceivedSeries, SeriesKey, TaskKind
from tests.dicom.objects.conftest import PATIENT, SeriesSpec, case_of, write_files


def test_a_result_that_the_checks_refuse_is_a_failure_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = case_of(write_files(SeriesSpec(slices=2), tmp_path / "series"), TaskKind.LANDMARKS)

    def spoil(*arguments: Any, **options: Any) -> pydicom.Dataset:
        report = write_report(*arguments, **options)
        report.SeriesDescription = f"of {PATIENT['PatientID']}"
        return report

    monkeypatch.setattr("fewshot_node.dicom.objects.outbox.write_report", spoil)
    monkeypatch.setattr(pipeline, "analyse", lambda *_: case.result)
    monkeypatch.setattr(pipeline, "result_uids", lambda *_: case.uids)
    task: Any = SimpleNamespace(definition=SimpleNamespace(name="marks"), revision=3)
    received = ReceivedSeries(SeriesKey("1.2.3"), case.volume.study_instance_uid, "CT1", tuple(case.files))
    models: Any = None
    outcome = pipeline.process_task(received, case.volume, task, models, tmp_path / "outbox")

    assert outcome.state is SeriesState.FAILED
    assert outcome.report_instance_uid is None
    assert "SeriesDescription repeats a value that identifies the patient" in outcome.reason
    assert not any(value in outcome.reason for value in PATIENT.values())
    assert [path.name for path in (tmp_path / "outbox" / "1.2.3@1").iterdir()] == ["marks.rejected"]
    assert pydicom.dcmread(tmp_path / "outbox" / "1.2.3@1" / "marks.rejected" / "report.dcm").Modality == "SR"
