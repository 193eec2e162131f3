from dataclasses import replace
from pathlib import Path

import pytest

from fewshot_node.errors import TaskError
from fewshot_node.records import TaskKind
from fewshot_node.scoring.statistics import CaseScore
from fewshot_node.tasks.codes import parse_label
from fewshot_node.tasks.crossval import Candidate, CrossvalReport, crossval_score, load_report, save_report
from fewshot_node.tasks.crossval.records import CandidateResult, Recommendation, Unit
from fewshot_node.tasks.crossval.store import crossval_key, settings_digest
from fewshot_node.tasks.task import TaskDefinition

LDA, CONTEXT = Candidate("lda", "none"), Candidate("context", "walker")


@pytest.fixture
def definition() -> TaskDefinition:
    return TaskDefinition("liver", TaskKind.SEGMENTATION, (parse_label("1=Liver"),))


def result(definition: TaskDefinition, candidate: Candidate, *values: float) -> CandidateResult:
    own = candidate.applied_to(definition)
    scores = tuple(CaseScore(0, f"t{number}", "Liver", "iou", value) for number, value in enumerate(values))
    return CandidateResult(candidate, settings_digest(own), scores, 1.5)


@pytest.fixture
def report(definition: TaskDefinition) -> CrossvalReport:
    units = tuple(Unit(f"t{number}", (f"t{number}",)) for number in range(2))
    return CrossvalReport(
        key=crossval_key(definition, [], "e" * 64),
        created="2026-01-01T00:00:00+00:00",
        kind=TaskKind.SEGMENTATION,
        by_slice=False,
        units=units,
        groups=(("t0",), ("t1",)),
        encoder_digest="e" * 64,
        refiner_digest=None,
        results=(result(definition, LDA, 0.4, 0.6), result(definition, CONTEXT, 0.7, 0.9)),
        curve=(),
        recommendation=Recommendation(CONTEXT, ("it is better",)),
        doubts=(),
    )


def test_a_report_is_read_as_it_was_written(tmp_path: Path, report: CrossvalReport) -> None:
    assert load_report(tmp_path) is None
    save_report(tmp_path, report)
    assert load_report(tmp_path) == report


def test_the_score_is_that_of_the_tasks_own_settings(
    tmp_path: Path, report: CrossvalReport, definition: TaskDefinition
) -> None:
    assert crossval_score(tmp_path, definition, []) is None
    save_report(tmp_path, report)
    found = crossval_score(tmp_path, definition, [])
    assert found is not None
    assert (found.metric, found.units, found.stale) == ("iou", 2, "")
    assert found.is_current
    assert found.mean == pytest.approx(0.8)
    assert found.low == pytest.approx(0.7)
    assert found.high == pytest.approx(0.9)
    other = LDA.applied_to(definition)
    assert crossval_score(tmp_path, other, []).mean == pytest.approx(0.5)


def test_a_score_of_other_labels_or_settings_is_stale(
    tmp_path: Path, report: CrossvalReport, definition: TaskDefinition
) -> None:
    save_report(tmp_path, report)
    more = replace(definition, labels=(*definition.labels, parse_label("2=Spleen")))
    assert "changed since" in crossval_score(tmp_path, more, []).stale
    basic = Candidate("basic", "none").applied_to(definition)
    assert "now basic, which was not scored" in crossval_score(tmp_path, basic, []).stale
    adapter = replace(definition.settings.adapter, steps=7)
    quick = replace(definition, settings=replace(definition.settings, adapter=adapter))
    found = crossval_score(tmp_path, quick, [])
    assert not found.is_current
    assert found.mean == pytest.approx(0.8)
    described = replace(definition, description="rules and words do not count")
    assert crossval_score(tmp_path, described, []).is_current


def test_an_altered_report_says_what_to_do(tmp_path: Path, report: CrossvalReport) -> None:
    save_report(tmp_path, report)
    path = tmp_path / "crossval.json"
    path.write_text(path.read_text().replace('"schema_version": 1', '"schema_version": 9'))
    with pytest.raises(TaskError, match="run task crossval again"):
        load_report(tmp_path)
    path.write_text('{"schema_version": 1, "key": 3}')
    with pytest.raises(TaskError, match="run task crossval again"):
        load_report(tmp_path)
