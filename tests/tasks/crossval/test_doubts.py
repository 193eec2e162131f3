from collections.abc import Mapping, Sequence

from fewshot_node.scoring.statistics import CaseScore
from fewshot_node.tasks.crossval.doubts import Evidence, find_doubts
from fewshot_node.tasks.crossval.records import Unit

NONE: Mapping[str, Sequence[float]] = {}


def evidence(
    values: Mapping[str, Mapping[str, float]],
    gains: Mapping[str, Sequence[float]] = NONE,
    metric: str = "iou",
    once: Mapping[str, str] | None = None,
    has_negatives: bool = True,
) -> Evidence:
    scores = [
        CaseScore(0, unit, label, metric, value) for unit, labels in values.items() for label, value in labels.items()
    ]
    return Evidence(tuple(Unit(name, (name,)) for name in values), scores, metric, gains, once or {}, has_negatives)


def liver(*values: float) -> dict[str, dict[str, float]]:
    return {f"t{place}": {"Liver": value} for place, value in enumerate(values)}


def test_templates_alike_raise_no_doubt() -> None:
    assert find_doubts(evidence(liver(0.8, 0.75, 0.7, 0.82))) == ()


def test_one_that_the_others_foretell_far_worse_is_named_with_the_remedy() -> None:
    (doubt,) = find_doubts(evidence(liver(0.8, 0.78, 0.2, 0.82)))
    assert doubt.templates == ("t2",)
    assert "t2 does not fit the other templates: the others foretell it with iou 0.20, each other with 0.80" in (
        doubt.message
    )
    assert "correct it or remove it (template remove)" in doubt.message


def test_a_wide_spread_makes_no_outlier() -> None:
    assert find_doubts(evidence(liver(0.3, 0.5, 0.65, 0.45))) == ()


def test_one_whose_removal_helps_more_than_any_other_is_named() -> None:
    gains = {"t0": [0.1, 0.12, 0.09], "t1": [-0.05, -0.02, 0.0], "t2": [-0.04, 0.01, -0.03], "t3": [0.0, 0.0, 0.0]}
    (doubt,) = find_doubts(evidence(liver(0.7, 0.7, 0.7, 0.7), gains))
    assert doubt.templates == ("t0",)
    assert "without it the others foretell each other better (iou +0.10, 3 of 3)" in doubt.message


def test_where_any_removal_helps_none_is_blamed() -> None:
    gains = {f"t{place}": [0.05, 0.06, 0.04] for place in range(4)}
    assert find_doubts(evidence(liver(0.7, 0.7, 0.7, 0.7), gains)) == ()


def test_templates_that_disagree_about_a_label_are_named() -> None:
    values = {
        "t0": {"Liver": 0.8, "Spleen": 0.9},
        "t1": {"Liver": 0.8, "Spleen": 0.3},
        "t2": {"Liver": 0.5, "Spleen": 0.7},
    }
    (doubt,) = find_doubts(evidence(values))
    assert doubt.templates == ("t1",)
    assert "templates disagree about Spleen: iou 0.90 on t0, 0.30 on t1" in doubt.message


def test_a_landmark_missed_once_is_no_disagreement() -> None:
    values = {"t0": {"A": 1.0, "B": 1.0}, "t1": {"A": 0.0, "B": 1.0}, "t2": {"A": 1.0, "B": 0.0}}
    assert find_doubts(evidence(values, metric="accuracy@10px")) == ()


def test_labels_shown_once_and_few_examples_are_told() -> None:
    doubts = find_doubts(evidence(liver(0.7, 0.7), once={"Spleen": "t1"}))
    assert [doubt.templates for doubt in doubts] == [("t1",), ()]
    assert "only t1 shows Spleen" in doubts[0].message
    assert "rests on 2 left-out examples" in doubts[1].message


def test_templates_without_an_empty_slice_foretell_nothing_about_such_slices() -> None:
    (doubt,) = find_doubts(evidence(liver(0.7, 0.7, 0.7), has_negatives=False))
    assert "every slice of the templates shows a label" in doubt.message
    assert "template add --negative" in doubt.message
    assert find_doubts(evidence({"t0": {"A": 1.0}, "t1": {"A": 1.0}, "t2": {"A": 1.0}}, metric="accuracy@10px")) == ()
