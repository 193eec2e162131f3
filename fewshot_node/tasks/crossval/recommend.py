"""Which candidate a crossvalidation speaks for, and in which words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fewshot_node.tasks.crossval.records import Candidate, CandidateResult, Recommendation, unit_means

SIMPLE_FIRST = ("basic", "prototype", "lda", "classification", "contrastive", "contrastive-concat", "context")
"""Adapters from those that only average to the one that trains longest."""
_REFINE_FIRST = ("none", "walker", "sam")
_NEGLIGIBLE = 0.005
_STILL_RISING = 0.02


@dataclass(frozen=True, slots=True)
class Difference:
    """One candidate less another, unit by unit.

    Attributes
    ----------
    standard_error
        Of the mean; 0 with a single unit.
    better
        On how many of the `units` the first is better.
    """

    mean: float
    standard_error: float
    better: int
    units: int

    @property
    def is_tie(self) -> bool:
        """Whether the first leads by no more than one standard error, or by next to nothing.

        The one-standard-error rule of Breiman et al., Classification and Regression Trees, 1984, 3.4.3.
        """
        return self.mean <= max(_NEGLIGIBLE, self.standard_error)

    def __str__(self) -> str:
        return f"{self.mean:+.3f} (standard error {self.standard_error:.3f}; better on {self.better} of {self.units})"


def difference(first: CandidateResult, second: CandidateResult, metric: str) -> Difference:
    """Compare two candidates on the units that both were asked about."""
    ours, theirs = unit_means(first.scores, metric), unit_means(second.scores, metric)
    values = np.array([ours[unit] - theirs[unit] for unit in ours if unit in theirs])
    error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
    return Difference(float(values.mean()), error, int((values > 0).sum()), len(values))


def simplicity(candidate: Candidate) -> tuple[int, bool, int]:
    """Return a key by which simpler and faster candidates come first."""
    name = candidate.adapter.removesuffix("-binary")
    return SIMPLE_FIRST.index(name), name != candidate.adapter, _REFINE_FIRST.index(candidate.refine)


def recommend(results: Sequence[CandidateResult], metric: str, current: Candidate) -> Recommendation:
    """Choose the candidate of the best mean, or the simplest one that ties with it."""
    means = {one.candidate: _mean(one, metric) for one in results}
    best = max(results, key=lambda one: means[one.candidate])
    tying = [one for one in results if one is best or difference(best, one, metric).is_tie]
    chosen = min(tying, key=lambda one: simplicity(one.candidate))
    reasons = [f"{chosen.candidate}: {metric} {means[chosen.candidate]:.3f} on what was left out"]
    if chosen is not best:
        lead = difference(best, chosen, metric)
        reasons.append(f"{best.candidate} leads by {lead}: a tie, and {chosen.candidate} is simpler and faster")
    else:
        reasons += _why_best(best, results, metric, means)
    own = next((one for one in results if one.candidate == current), None)
    if own is not None and own is not chosen:
        reasons.append(f"against the task's present {current}: {difference(chosen, own, metric)}")
    reasons += _refinement(chosen, results, metric)
    return Recommendation(chosen.candidate, tuple(reasons))


def growth(means: Mapping[int, float]) -> list[str]:
    """Say whether more templates are likely to help, from the mean score by number of templates."""
    if len(means) < 2:
        return []
    before, most = sorted(means)[-2:]
    told = f"from {before} to {most} templates the score went from {means[before]:.3f} to {means[most]:.3f}"
    if means[most] - means[before] >= _STILL_RISING:
        return [f"{told}: further ones are likely to help"]
    return [f"{told}: further ones like these may not help much"]


def _mean(result: CandidateResult, metric: str) -> float:
    """Return what tables show: the mean over labels."""
    found = result.estimate(metric)
    return found.mean if found else 0.0


def _why_best(
    best: CandidateResult, results: Sequence[CandidateResult], metric: str, means: dict[Candidate, float]
) -> list[str]:
    others = [one for one in results if one.candidate.adapter != best.candidate.adapter]
    if not others:
        return []
    second = max(others, key=lambda one: means[one.candidate])
    return [f"it leads the next adapter, {second.candidate}, by {difference(best, second, metric)}"]


def _refinement(chosen: CandidateResult, results: Sequence[CandidateResult], metric: str) -> list[str]:
    """Say what refinement does for the chosen adapter."""
    same = {one.candidate.refine: one for one in results if one.candidate.adapter == chosen.candidate.adapter}
    coarse = same.get("none")
    if coarse is None:
        return []
    changes = [f"{name} {difference(one, coarse, metric)}" for name, one in same.items() if one is not coarse]
    return [f"refinement against none, with {chosen.candidate.adapter}: {'; '.join(changes)}"] if changes else []
