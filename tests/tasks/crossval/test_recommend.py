from collections.abc import Sequence

import pytest

from fewshot_node.scoring.statistics import CaseScore
from fewshot_node.tasks.crossval.recommend import difference, growth, recommend
from fewshot_node.tasks.crossval.records import Candidate, CandidateResult

LDA, CONTEXT, WALKER = Candidate("lda", "none"), Candidate("context", "none"), Candidate("lda", "walker")


def result(candidate: Candidate, values: Sequence[float]) -> CandidateResult:
    scores = tuple(CaseScore(0, f"t{place}", "Liver", "iou", value) for place, value in enumerate(values))
    return CandidateResult(candidate, "", scores, 1.0)


def test_a_clear_lead_is_recommended() -> None:
    found = recommend([result(LDA, (0.4, 0.5, 0.6)), result(CONTEXT, (0.6, 0.7, 0.8))], "iou", LDA)
    assert found.candidate == CONTEXT
    assert found.reasons[0] == "context: iou 0.700 on what was left out"
    assert any("leads the next adapter, lda, by +0.200" in reason for reason in found.reasons)
    assert any("against the task's present lda: +0.200" in reason for reason in found.reasons)


def test_on_a_tie_the_simpler_one_is_recommended() -> None:
    """The mean difference, 0.05, lies within one standard error, 0.087."""
    found = recommend([result(CONTEXT, (0.9, 0.5, 0.7)), result(LDA, (0.7, 0.55, 0.7))], "iou", CONTEXT)
    assert found.candidate == LDA
    assert "context leads by +0.050" in found.reasons[1]
    assert "a tie, and lda is simpler and faster" in found.reasons[1]


def test_refinement_must_earn_its_place() -> None:
    coarse = result(LDA, (0.5, 0.6, 0.7))
    assert recommend([coarse, result(WALKER, (0.504, 0.604, 0.704))], "iou", LDA).candidate == LDA
    better = recommend([coarse, result(WALKER, (0.55, 0.66, 0.74))], "iou", LDA)
    assert better.candidate == WALKER
    assert any(reason.startswith("refinement against none, with lda: walker +0.050") for reason in better.reasons)


def test_a_difference_pairs_the_units_that_both_have() -> None:
    found = difference(result(LDA, (0.5, 0.9)), result(CONTEXT, (0.4, 0.6)), "iou")
    assert found.mean == pytest.approx(0.2)
    # Sample standard deviation of 0.1 and 0.3, over the root of two.
    assert found.standard_error == pytest.approx(0.1)
    assert (found.better, found.units) == (2, 2)
    assert not found.is_tie
    assert difference(result(LDA, (0.5,)), result(CONTEXT, (0.4,)), "iou").standard_error == 0


def test_whether_more_templates_help_is_told_from_the_last_step_of_the_curve() -> None:
    assert growth({1: 0.3, 2: 0.5, 4: 0.6}) == [
        "from 2 to 4 templates the score went from 0.500 to 0.600: further ones are likely to help"
    ]
    assert "may not help much" in growth({4: 0.61, 2: 0.6})[0]
    assert growth({4: 0.6}) == []
