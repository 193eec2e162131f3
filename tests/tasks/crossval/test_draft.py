from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fewshot_node.errors import TaskError
from fewshot_node.tasks.crossval import Crossvalidation, CrossvalSettings, Engines, crossvalidate
from fewshot_node.tasks.crossval.answers import ANSWERS_FILE, load_answers, save_answers
from fewshot_node.tasks.crossval.draft import apply_recommendation, crossvalidate_draft, current_report, draft_score
from fewshot_node.tasks.crossval.page import write_report
from fewshot_node.tasks.registry import Registry
from fewshot_node.tasks.task import TaskDefinition
from fewshot_node.tasks.templates import Template

LDA = CrossvalSettings(("lda",), curve_draws=0)
Make = Callable[..., Template]
Convert = Callable[[Template], Template]


@pytest.fixture(scope="module")
def registry(
    discs: TaskDefinition,
    middles: TaskDefinition,
    make_template: Make,
    with_points: Convert,
    engines: Engines,
    tmp_path_factory: pytest.TempPathFactory,
) -> Registry:
    """Two crossvalidated tasks, and one that is not."""
    made = Registry(tmp_path_factory.mktemp("node") / "tasks")
    for task in (discs, middles, replace(discs, name="bare")):
        made.add(task)
    made.add_template("discs", make_template(7, slices=(2, 3, 9)))
    for seed in (1, 2):
        made.add_template("middles", with_points(make_template(seed)))
    for name in ("discs", "middles"):
        crossvalidate_draft(made, name, engines, LDA)
    return made


def test_the_drafts_score_and_report_hold_until_it_changes(registry: Registry) -> None:
    score = draft_score(registry, "discs")
    assert score is not None
    assert score.is_current
    assert (score.metric, score.units) == ("iou", 3)
    assert current_report(registry, "discs", ["lda"]) is not None
    assert current_report(registry, "discs", ["lda", "context"]) is None
    assert current_report(registry, "bare", ["lda"]) is None
    assert draft_score(registry, "bare") is None


def test_a_recommendation_is_not_applied_to_another_task_than_was_scored(
    registry: Registry, make_template: Make, tmp_path: Path
) -> None:
    with pytest.raises(TaskError, match="was not crossvalidated: run task crossval bare first"):
        apply_recommendation(registry, "bare")
    registry.add_template("middles", replace(make_template(3), label_map=np.zeros((1, 64, 64), dtype=np.uint8)))
    with pytest.raises(TaskError, match="changed since its crossvalidation: run task crossval middles again"):
        apply_recommendation(registry, "middles")
    registry.remove_template("middles", "t3")
    assert apply_recommendation(registry, "middles").adapter == "lda"


def test_answers_are_read_as_they_were_written(
    middles: TaskDefinition, make_template: Make, with_points: Convert, engines: Engines, tmp_path: Path
) -> None:
    shown = [with_points(make_template(seed)) for seed in (1, 2)]
    found: Crossvalidation = crossvalidate(middles, shown, engines, LDA)
    save_answers(tmp_path, found.answers)
    read = load_answers(tmp_path)
    assert set(read) == {("t1", "t1"), ("t2", "t2")}
    for key, one in found.answers.items():
        np.testing.assert_array_equal(read[key].label_map, one.label_map)
        np.testing.assert_array_equal(read[key].unsure, one.unsure)
        for first, second in zip(read[key].landmarks, one.landmarks, strict=True):
            assert first.label_value == second.label_value
            assert first.confidence == pytest.approx(second.confidence)
            assert (first.index is None) == (second.index is None)
            assert first.index is None or first.index == pytest.approx(second.index, abs=1e-4)
    (tmp_path / ANSWERS_FILE).write_bytes(b"damaged")
    with pytest.raises(TaskError, match="run task crossval again"):
        load_answers(tmp_path)


def test_the_page_of_a_landmark_task(registry: Registry, tmp_path: Path) -> None:
    write_report(registry, "middles", tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    assert "Expect accuracy@10px" in text
    assert "landmark counts at 10 px" in text
    assert "None: the task takes no series by itself" in text
    assert text.count("<img") == 4
    assert "rests on 2 left-out examples" in text


def test_the_page_of_a_single_series_says_what_that_means(registry: Registry, tmp_path: Path) -> None:
    write_report(registry, "discs", tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    assert "each of the 3 slices of the only" in text
    assert "other patients will score lower" in text
    assert "t7 slice 9" in text
    assert text.count("<img") == 6


def test_a_page_of_very_many_examples_shows_the_worst(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fewshot_node.tasks.crossval.page._MOST_PICTURED", 1)
    write_report(registry, "discs", tmp_path / "r.html")
    assert (tmp_path / "r.html").read_text().count("<img") == 2


def test_an_interrupted_crossvalidation_goes_on_where_it_was(
    discs: TaskDefinition, make_template: Make, engines: Engines, tmp_path: Path
) -> None:
    registry = Registry(tmp_path / "tasks")
    registry.add(discs)
    for seed in (1, 2, 3):
        registry.add_template("discs", make_template(seed))
    fitted: list[str] = []

    def interrupt(stage: str, done: int, total: int) -> None:
        fitted.append(stage)
        if stage.startswith("lda without t3"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        crossvalidate_draft(registry, "discs", engines, LDA, interrupt)
    draft = registry.draft_folder("discs")
    done = sorted((draft / ".crossval").iterdir())
    assert len(done) == 2
    assert draft_score(registry, "discs") is None
    (done[0] / "outcome.json").write_text("damaged")  # costs this fit only
    encoded: list[str] = []
    report = crossvalidate_draft(
        registry, "discs", engines, LDA, lambda stage, *_: encoded.append(stage.partition(": encoding")[0])
    )
    assert encoded.count("lda without t3") > 1
    # One of the first two is read (only its beginning is told), the damaged one is made again.
    assert sorted(encoded.count(f"lda without {name}") > 1 for name in ("t1", "t2")) == [False, True]
    assert not (draft / ".crossval").exists()
    undisturbed = crossvalidate(discs, registry.templates("discs"), engines, LDA).report
    assert [one.scores for one in report.results] == [one.scores for one in undisturbed.results]
