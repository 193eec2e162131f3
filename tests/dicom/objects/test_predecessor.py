"""Reports that replace earlier ones: which they name, and that history never changes what is made again."""

import io
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom as hd
import pytest
from pydicom.dataset import Dataset

from fewshot_node.dicom.objects.predecessor import continue_history
from fewshot_node.dicom.objects.sr import read_report, write_report
from fewshot_node.records import MadeReport, TaskKind

Write = Callable[..., list[Path]]
History = list[MadeReport]


def _bytes(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _produce(case: Any, history: History, delivered: bool = True) -> Dataset:
    """Write a report as the node does, and keep it as the ledger does: the newest first."""
    report = write_report(case.result, case.volume, case.sources, case.uids)
    made = continue_history(report, case.result, case.uids, tuple(history))
    known = next((one for one in history if one.content_uid == made.content_uid), None)
    if known is not None:
        history.remove(known)
    history.insert(0, replace(made, delivered=delivered or (known is not None and known.delivered)))
    return report


def _named(report: Dataset) -> list[tuple[str, str, str, str]]:
    """The predecessors of a report, from its attributes alone."""
    return [
        (
            str(study.StudyInstanceUID),
            str(series.SeriesInstanceUID),
            str(item.ReferencedSOPInstanceUID),
            str(item.PurposeOfReferenceCodeSequence[0].CodeMeaning),
        )
        for study in report.get("PredecessorDocumentsSequence", ())
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    ]


def _name_of(report: Dataset) -> list[tuple[str, str, str, str]]:
    uids = report.StudyInstanceUID, report.SeriesInstanceUID, report.SOPInstanceUID
    return [(*(str(uid) for uid in uids), "Replaced report")]


@pytest.fixture
def case(write_series: Write, spec: Any, make_case: Any) -> Any:
    return make_case(write_series(spec), TaskKind.LANDMARKS)


@pytest.fixture
def refitted(case: Any) -> Any:
    """The same series by the next revision of the task."""
    uids = replace(case.uids, task_digest="the next revision")
    return replace(case, result=replace(case.result, task_revision=4), uids=uids)


@pytest.fixture
def longer(write_series: Write, spec: Any, make_case: Any) -> Any:
    """The same series with a slice that came late."""
    return make_case(write_series(spec, name="longer", slices=spec.slices + 1), TaskKind.LANDMARKS)


def test_the_first_report_replaces_none(case: Any) -> None:
    assert _named(_produce(case, [])) == []


def test_a_later_report_names_the_one_before(case: Any, longer: Any, refitted: Any) -> None:
    history: History = []
    first, second, third = (_produce(one, history) for one in (case, longer, refitted))
    assert _named(second) == _name_of(first)
    assert _named(third) == _name_of(second)
    assert len({one.SOPInstanceUID for one in (first, second, third)}) == 3
    assert second.file_meta.MediaStorageSOPInstanceUID == second.SOPInstanceUID


def test_what_is_made_again_is_the_same_whatever_was_made_since(case: Any, longer: Any, refitted: Any) -> None:
    history: History = []
    cases = (case, longer, refitted)
    made = [_bytes(_produce(one, history)) for one in cases]
    for order in ((0, 1, 2), (2, 1, 0), (1, 1, 2)):
        assert [_bytes(_produce(cases[index], history)) for index in order] == [made[index] for index in order]


def test_after_a_task_went_back_its_report_is_the_one_to_replace(case: Any, longer: Any, refitted: Any) -> None:
    history: History = []
    first = _produce(case, history)
    _produce(refitted, history)
    _produce(case, history)
    assert _named(_produce(longer, history)) == _name_of(first)


def test_a_report_that_never_arrived_is_not_named(case: Any, longer: Any, refitted: Any) -> None:
    history: History = []
    first = _produce(case, history)
    _produce(longer, history, delivered=False)
    assert _named(_produce(refitted, history)) == _name_of(first)


def test_reports_of_other_tasks_are_not_named(case: Any, longer: Any) -> None:
    history: History = []
    other = replace(case, result=replace(case.result, task_name="spine"), uids=replace(case.uids, task_name="spine"))
    _produce(other, history)
    assert _named(_produce(longer, history)) == []


def test_without_a_history_the_report_is_whole(case: Any, longer: Any) -> None:
    history: History = []
    _produce(case, history)
    known, lost = _produce(longer, history), _produce(longer, [])
    assert _named(lost) == []
    assert known.SOPInstanceUID != lost.SOPInstanceUID
    assert [one.found for one in read_report(lost)] == [one.found for one in read_report(known)]


@pytest.mark.dicom3tools
@pytest.mark.dcmtk
def test_a_report_with_predecessor_is_valid(
    case: Any,
    longer: Any,
    tmp_path: Path,
    dciodvfy_errors: Callable[[Path], list[str]],
    require_tool: Callable[[str], str],
) -> None:
    history: History = []
    first = _produce(case, history)
    path = tmp_path / "second.dcm"
    _produce(longer, history).save_as(path, enforce_file_format=True)
    assert dciodvfy_errors(path) == []
    assert _named(hd.sr.srread(path)) == _name_of(first)
    done = subprocess.run([require_tool("dsrdump"), str(path)], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "Predecessor Docs    : 1" in done.stdout
