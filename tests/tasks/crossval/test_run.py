from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from fewshot_node.errors import TaskError, TemplateError
from fewshot_node.tasks.crossval import (
    Candidate,
    Crossvalidation,
    CrossvalSettings,
    Engines,
    crossvalidate,
)
from fewshot_node.tasks.fit import fit_task
from fewshot_node.tasks.task import TaskDefinition
from fewshot_node.tasks.templates import Template
from fewshot_node.vision.encode import encode
from fewshot_node.vision.localize import localize

QUICK = CrossvalSettings(adapters=("lda", "basic"), curve_draws=1)
Make = Callable[..., Template]


@pytest.fixture(scope="module")
def templates(make_template: Make) -> list[Template]:
    return [make_template(seed) for seed in range(1, 5)]


@pytest.fixture(scope="module")
def found(discs: TaskDefinition, templates: list[Template], engines: Engines) -> Crossvalidation:
    return crossvalidate(discs, templates, engines, QUICK)


def test_each_template_is_left_out_once_by_every_adapter_coarse_and_refined(found: Crossvalidation) -> None:
    report = found.report
    names = {"t1", "t2", "t3", "t4"}
    assert {unit.name for unit in report.units} == names
    assert report.groups == (("t1",), ("t2",), ("t3",), ("t4",))
    assert not report.by_slice
    expected = {Candidate(adapter, engine) for adapter in ("lda", "basic") for engine in ("none", "walker")}
    assert {one.candidate for one in report.results} == expected
    for one in report.results:
        metrics = {score.metric for score in one.scores}
        assert {"iou", "dice", "nsd"} <= metrics
        assert {score.patient for score in one.scores} == names
        assert {score.label for score in one.scores if score.metric == "iou"} == {"Liver", "Spleen"}


def test_a_score_is_what_fitting_to_the_others_by_hand_gives(
    found: Crossvalidation, discs: TaskDefinition, templates: list[Template], engines: Engines
) -> None:
    adapter, _ = fit_task(discs, templates[1:], engines.encoder)
    asked = templates[0]
    features = encode(asked.array, "MR", engines.encoder, discs.settings.encode)
    label_map = localize(features, adapter, asked.spacing_mm, discs.settings.cleaning).label_map
    shared = ((label_map == 1) & (asked.label_map == 1)).sum()
    either = ((label_map == 1) | (asked.label_map == 1)).sum()
    scores = found.report.result(Candidate("lda", "none")).scores
    (stated,) = [one.value for one in scores if (one.patient, one.label, one.metric) == ("t1", "Liver", "iou")]
    assert stated == pytest.approx(shared / either, abs=0.02)
    assert stated > 0.6


def test_the_better_adapter_is_recommended_with_its_reasons(found: Crossvalidation) -> None:
    recommendation = found.report.recommendation
    assert recommendation.candidate.adapter == "lda"
    assert any("leads the next adapter, basic" in reason for reason in recommendation.reasons)
    assert any("refinement against none" in reason for reason in recommendation.reasons)


def test_the_curve_learns_from_fewer_templates(found: Crossvalidation) -> None:
    points = {(one.candidate.adapter, one.shots): one for one in found.report.curve}
    assert {shots for _, shots in points} == {1, 2}
    assert {score.patient for score in points["lda", 2].scores} < {"t1", "t2", "t3", "t4"}


def test_answers_are_kept_for_the_recommended_candidate(found: Crossvalidation, templates: list[Template]) -> None:
    assert set(found.answers) == {(name, name) for name in ("t1", "t2", "t3", "t4")}
    answer = found.answers["t2", "t2"]
    agreement = (answer.label_map == templates[1].label_map).mean()
    assert agreement > 0.9
    assert answer.unsure.min() < 64


def test_the_same_input_gives_the_same_scores(
    found: Crossvalidation, discs: TaskDefinition, templates: list[Template], engines: Engines
) -> None:
    again = crossvalidate(discs, templates, engines, replace(QUICK, adapters=("lda",), curve_draws=0)).report
    assert again.result(Candidate("lda", "walker")).scores == found.report.result(Candidate("lda", "walker")).scores
    assert again.key == found.report.key
    assert again.curve == ()


def test_a_shifted_annotation_is_named_as_an_outlier(
    discs: TaskDefinition, templates: list[Template], engines: Engines
) -> None:
    moved = replace(templates[2], label_map=np.roll(templates[2].label_map, (14, 6), axis=(1, 2)))
    shown = [templates[0], templates[1], moved, templates[3]]
    doubts = crossvalidate(discs, shown, engines, CrossvalSettings(("lda",), curve_draws=0)).report.doubts
    assert doubts
    assert doubts[0].templates == ("t3",)
    assert "t3 does not fit the other templates" in doubts[0].message
    assert "template remove" in doubts[0].message


def test_sound_templates_raise_no_doubt_but_that_no_slice_is_empty(found: Crossvalidation) -> None:
    (doubt,) = found.report.doubts
    assert "every slice of the templates shows a label" in doubt.message


def test_slices_of_a_single_template_are_left_out_instead(
    discs: TaskDefinition, make_template: Make, engines: Engines
) -> None:
    only = make_template(7, slices=(2, 3, 9))
    report = crossvalidate(discs, [only], engines, CrossvalSettings(("lda",), curve_draws=0)).report
    assert report.by_slice
    assert [unit.name for unit in report.units] == ["t7 slice 2", "t7 slice 3", "t7 slice 9"]


def test_templates_of_one_series_are_left_out_together(
    discs: TaskDefinition, make_template: Make, engines: Engines
) -> None:
    same = replace(make_template(1, name="again", slices=(8,)))
    shown = [make_template(1), same, make_template(2)]
    report = crossvalidate(discs, shown, engines, CrossvalSettings(("lda",), curve_draws=0)).report
    assert [unit.templates for unit in report.units] == [("t1", "again"), ("t2",)]
    assert any("rests on 2" in doubt.message for doubt in report.doubts)


def test_a_label_that_one_template_shows_is_not_foretold(
    discs: TaskDefinition, templates: list[Template], engines: Engines
) -> None:
    bare = [replace(one, label_map=np.where(one.label_map == 1, 1, 0).astype(np.uint8)) for one in templates[:2]]
    report = crossvalidate(discs, [*bare, templates[2]], engines, CrossvalSettings(("lda",), curve_draws=0)).report
    assert report.unscored == ("Spleen",)
    assert {score.label for one in report.results for score in one.scores} == {"Liver"}
    assert any("only t3 shows Spleen" in doubt.message for doubt in report.doubts)


def test_slices_without_a_label_count_as_true_negatives(
    discs: TaskDefinition, make_template: Make, engines: Engines
) -> None:
    shown = []
    for seed in (1, 2, 3):
        one = make_template(seed, slices=(2, 9))
        array, labels = one.array.copy(), one.label_map.copy()
        array[1], labels[1] = np.where(labels[1] > 0, 400, array[1]), 0
        shown.append(replace(one, array=array, label_map=labels))
    report = crossvalidate(discs, shown, engines, CrossvalSettings(("lda",), curve_draws=0)).report
    found = report.result(Candidate("lda", "none")).estimate("tnr")
    assert found is not None
    assert 0 <= found.mean <= 1


def test_a_negative_template_is_asked_about_too(
    discs: TaskDefinition, templates: list[Template], make_template: Make, engines: Engines
) -> None:
    one = make_template(9)
    empty = replace(one, array=np.full_like(one.array, 400.0), label_map=np.zeros_like(one.label_map))
    report = crossvalidate(discs, [*templates[:2], empty], engines, CrossvalSettings(("lda",), curve_draws=0)).report
    scores = report.result(Candidate("lda", "none")).scores
    assert {score.metric for score in scores if score.patient == "t9"} == {"tnr", "fp_slices"}
    assert {score.patient for score in scores if score.metric == "iou"} == {"t1", "t2"}


def test_landmarks_are_scored_in_mm_and_at_ten_pixels(
    middles: TaskDefinition,
    make_template: Make,
    with_points: Callable[[Template], Template],
    engines: Engines,
) -> None:
    shown = [with_points(make_template(seed)) for seed in (1, 2, 3)]
    report = crossvalidate(middles, shown, engines, CrossvalSettings(("lda", "basic"), curve_draws=0)).report
    assert report.metric == "accuracy@10px"
    assert {one.candidate.refine for one in report.results} == {"none"}
    lda = report.result(Candidate("lda", "none"))
    assert lda.estimate("mre").mean < 6
    assert lda.estimate("accuracy@10px").n == 3


def test_more_templates_than_fits_are_left_out_in_groups(
    discs: TaskDefinition, templates: list[Template], engines: Engines
) -> None:
    settings = CrossvalSettings(("lda",), most_fits=2, curve_draws=0)
    report = crossvalidate(discs, templates, engines, settings).report
    assert report.groups == (("t1", "t3"), ("t2", "t4"))


def test_progress_counts_every_fit(discs: TaskDefinition, templates: list[Template], engines: Engines) -> None:
    told: list[tuple[str, int, int]] = []
    crossvalidate(discs, templates[:2], engines, QUICK, lambda *one: told.append(one))
    counts = [done for _, done, _ in told]
    assert counts == sorted(counts)
    assert told[0][0] == "lda without t1"
    assert told[-1][1] == told[-1][2]


def test_what_cannot_be_crossvalidated_says_why(discs: TaskDefinition, make_template: Make, engines: Engines) -> None:
    with pytest.raises(TemplateError, match="nothing can be left out of a single slice: add a second template"):
        crossvalidate(discs, [make_template(1)], engines, QUICK)
    with pytest.raises(TaskError, match="adapter 'magic' is unknown"):
        CrossvalSettings(("magic",))
    liver = make_template(1)
    liver = replace(liver, label_map=np.where(liver.label_map == 1, 1, 0).astype(np.uint8))
    spleen = make_template(2)
    spleen = replace(spleen, label_map=np.where(spleen.label_map == 2, 2, 0).astype(np.uint8))
    with pytest.raises(TemplateError, match="no label is shown by two templates"):
        crossvalidate(discs, [liver, spleen], engines, QUICK)
    sam = replace(discs, settings=replace(discs.settings, refine=replace(discs.settings.refine, engine="sam")))
    with pytest.raises(TaskError, match=r"set worker\.sam"):
        crossvalidate(sam, [make_template(1), make_template(2)], engines, QUICK)
