"""A site's least score, what a revision remembers of its own, and what two revisions say otherwise."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fewshot_node.errors import TaskError, UnknownTaskError
from fewshot_node.scoring.statistics import CaseScore
from fewshot_node.tasks.approval import require_score, revision_score
from fewshot_node.tasks.codes import parse_label
from fewshot_node.tasks.crossval import Candidate, CrossvalReport, CrossvalScore, save_report
from fewshot_node.tasks.crossval.records import CandidateResult, Recommendation, Unit
from fewshot_node.tasks.crossval.store import crossval_key, settings_digest
from fewshot_node.tasks.differences import Difference, task_differences
from fewshot_node.tasks.registry import Registry
from fewshot_node.tasks.rule_text import parse_rule
from fewshot_node.tasks.task import TaskDefinition
from fewshot_node.tasks.templates import Template
from fewshot_node.vision.backbone import DenseEncoder

NAME = "discs"


@pytest.fixture(scope="module")
def fitted(
    tmp_path_factory: pytest.TempPathFactory,
    discs: TaskDefinition,
    make_template: Callable[..., Template],
    encoder: DenseEncoder,
) -> Path:
    registry = Registry(tmp_path_factory.mktemp("approval") / "tasks")
    registry.add(replace(discs, name=NAME))
    registry.add_template(NAME, make_template(1, "first"))
    registry.fit(NAME, encoder)
    return registry.root


@pytest.fixture
def registry(fitted: Path, tmp_path: Path) -> Registry:
    shutil.copytree(fitted, tmp_path / "tasks")
    return Registry(tmp_path / "tasks")


def scored(registry: Registry, *values: float) -> None:
    """Leave a crossvalidation of the draft as it stands, with these scores."""
    definition, names = registry.definition(NAME), [f"t{number}" for number in range(len(values))]
    own = Candidate.of(definition)
    scores = tuple(CaseScore(0, name, "Liver", "iou", value) for name, value in zip(names, values, strict=True))
    report = CrossvalReport(
        key=crossval_key(definition, registry.templates(NAME), "e" * 64),
        created="2026-01-01T00:00:00+00:00",
        kind=definition.kind,
        by_slice=False,
        units=tuple(Unit(name, (name,)) for name in names),
        groups=tuple((name,) for name in names),
        encoder_digest="e" * 64,
        refiner_digest=None,
        results=(CandidateResult(own, settings_digest(definition), scores, 1.0),),
        curve=(),
        recommendation=Recommendation(own, ("it is the only one",)),
        doubts=(),
    )
    save_report(registry.draft_folder(NAME), report)


def test_without_a_least_score_nothing_is_asked(registry: Registry) -> None:
    assert registry.publish(NAME) == 1
    assert revision_score(registry.published(NAME).folder) is None


def test_a_task_that_was_not_scored_or_is_below_is_refused(registry: Registry) -> None:
    with pytest.raises(TaskError, match=r"not crossvalidated.*asks for a crossvalidated score of 0.7.*task crossval"):
        registry.publish(NAME, minimum_score=0.7)
    scored(registry, 0.5, 0.7)
    with pytest.raises(TaskError, match=r"reached iou 0.60 .*score of 0.7"):
        registry.publish(NAME, minimum_score=0.7)
    assert registry.revisions(NAME) == ()
    assert registry.publish(NAME, minimum_score=0.6) == 1


def test_a_score_of_another_draft_does_not_count(registry: Registry) -> None:
    scored(registry, 0.9, 0.9)
    definition = registry.definition(NAME)
    output = replace(definition.settings.cleaning, smoothing_mm=2.0)
    registry.update(replace(definition, settings=replace(definition.settings, cleaning=output)))
    with pytest.raises(TaskError, match="no longer holds"):
        registry.publish(NAME, minimum_score=0.7)


def test_a_shadow_needs_no_score_until_it_goes_live(registry: Registry) -> None:
    assert registry.publish(NAME, shadow=True, minimum_score=0.7) == 1
    lifecycle = registry.lifecycle(NAME)
    with pytest.raises(TaskError, match="not crossvalidated"):
        lifecycle.go_live(None, lambda folder: require_score(NAME, revision_score(folder), 0.7, "leave it"))
    assert lifecycle.standing().live is None


def test_a_revision_keeps_its_score_and_the_score_is_no_part_of_its_digest(registry: Registry) -> None:
    plain = registry.published(NAME, registry.publish(NAME)).folder
    scored(registry, 0.7, 0.9)
    number = registry.publish(NAME, minimum_score=0.7)
    found = revision_score(registry.published(NAME, number).folder)
    assert isinstance(found, CrossvalScore)
    assert (found.metric, found.mean, found.units) == ("iou", pytest.approx(0.8), 2)
    files = ("definition.json", "adapter.safetensors", "fit.json")
    assert all((plain / name).read_bytes() == (plain.parent / "0002" / name).read_bytes() for name in files)


def test_what_two_revisions_say_otherwise(registry: Registry) -> None:
    registry.publish(NAME)
    scored(registry, 0.7, 0.9)
    registry.publish(NAME)
    crossvalidated = Difference("crossvalidated", "", "iou 0.80 (0.70 to 0.90)")
    assert task_differences(registry, NAME, "1", "2") == (crossvalidated,)
    definition = registry.definition(NAME)
    changed = replace(
        definition, rules=(parse_rule("Modality=MR"),), labels=(*definition.labels, parse_label("3=Left kidney"))
    )
    registry.update(changed)
    found = {one.what: (one.first, one.second) for one in task_differences(registry, NAME, "2", "draft")}
    assert found["rule Modality=MR"] == ("", "yes")
    assert found["label 3"][0] == ""
    assert found["label 3"][1].startswith("Left kidney (SCT 64033007")
    assert found["crossvalidated"][1].endswith("changed since")
    assert set(found) == {"rule Modality=MR", "label 3", "crossvalidated"}


def test_a_revision_that_is_not_there(registry: Registry) -> None:
    registry.publish(NAME)
    with pytest.raises(UnknownTaskError, match="no revision 7: it has 1"):
        task_differences(registry, NAME, "1", "7")
    with pytest.raises(UnknownTaskError, match="'newest': give its number, or draft"):
        task_differences(registry, NAME, "1", "newest")
