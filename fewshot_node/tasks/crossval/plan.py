"""Which fits a crossvalidation makes: without each group, from fewer units, without pairs of groups."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from fewshot_node.records import TaskKind
from fewshot_node.scoring.statistics import CaseScore
from fewshot_node.tasks.crossval.outcomes import Outcome
from fewshot_node.tasks.crossval.records import (
    MAIN_METRICS,
    Candidate,
    CandidateResult,
    CurveResult,
    Unit,
    unit_means,
)
from fewshot_node.tasks.crossval.store import settings_digest
from fewshot_node.tasks.crossval.trial import Trial
from fewshot_node.tasks.progress import Watch
from fewshot_node.tasks.task import TaskDefinition

_PROBE = Candidate("lda", "none")
"""By which templates are compared with each other: fitted in well under a second."""
_CURVES = 2
"""Candidates that have a curve, at most: the recommended one and the task's own."""


@dataclass(slots=True, eq=False)
class Meter:
    """Counts fits."""

    watch: Watch
    total: int = 0
    done: int = -1

    def begin(self, what: str) -> Watch:
        """Tell that a fit begins; what is returned tells how far it is."""
        self.done += 1
        self.watch(what, self.done, self.total)
        return lambda stage, done, total: self.watch(f"{what}: {stage}, {done} of {total}", self.done, self.total)

    def end(self) -> None:
        """Tell that all is done."""
        self.watch("done", self.total, self.total)


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What is tried on which units."""

    definition: TaskDefinition
    trial: Trial
    units: tuple[Unit, ...]
    groups: tuple[tuple[Unit, ...], ...]
    meter: Meter

    @property
    def metric(self) -> str:
        """What candidates are ranked by."""
        return MAIN_METRICS[self.definition.kind]

    @property
    def most_shots(self) -> int:
        """Units that remain when a group is left out."""
        return len(self.units) - max(len(group) for group in self.groups)

    @property
    def shots(self) -> tuple[int, ...]:
        """Numbers of units to learn from, fewer than when one group is left out: 1, 2, 4, ..."""
        powers = (1 << power for power in range(self.most_shots.bit_length()))
        return tuple(count for count in powers if count < self.most_shots)

    @property
    def _pairs(self) -> list[tuple[tuple[Unit, ...], tuple[Unit, ...]]]:
        """Pairs of groups; none where too little would remain."""
        return list(combinations(self.groups, 2)) if len(self.groups) > 2 else []

    def announce(self, adapters: Sequence[str], curve_draws: int) -> None:
        """Count the fits that are to come."""
        probes = len(self._pairs) + len(self.groups) if self._pairs else 0
        curves = _CURVES * len(self.shots) * curve_draws
        self.meter.total = len(adapters) * len(self.groups) + probes + curves

    def variants(self, adapter: str) -> list[TaskDefinition]:
        """Return the task with an adapter and each refinement that can be tried."""
        engines = ["none"]
        if self.definition.kind is not TaskKind.LANDMARKS:
            engines += ["walker", "sam"] if self.trial.engines.sam else ["walker"]
        return [Candidate(adapter, engine).applied_to(self.definition) for engine in engines]

    def leave_out(self, adapter: str) -> Iterator[Outcome]:
        """Fit an adapter without each group and ask about it."""
        variants = self.variants(adapter)
        for group in self.groups:
            yield self.trial.run(variants, group, watch=self.meter.begin(f"{adapter} without {_named(group)}"))

    def curve(self, candidate: Candidate, draws: int) -> Iterator[CurveResult]:
        """Fit a candidate to fewer units, drawn at random and the same for all, and ask about all others."""
        task = candidate.applied_to(self.definition)
        for shots in self.shots if draws else ():
            scores: list[CaseScore] = []
            for draw in range(draws):
                order = np.random.default_rng([draw, shots]).permutation(len(self.units))
                held = [self.units[index] for index in order[shots:]]
                watch = self.meter.begin(f"{candidate} from {shots} of {len(self.units)}")
                scores += self.trial.run([task], held, draw, watch).scores[candidate]
            yield CurveResult(candidate, shots, tuple(scores))

    def gains(self) -> dict[str, list[float]]:
        """Return how the scores of each other unit change when a unit is removed from what it is told by."""
        gains: dict[str, list[float]] = {unit.name: [] for unit in self.units}
        if not self._pairs:
            return gains
        whole = self._probe((group,) for group in self.groups)
        for pair in self._pairs:
            without = self._probe([pair])
            for removed, asked in (pair, pair[::-1]):
                changes = [without[one.name] - whole[one.name] for one in asked if one.name in without]
                for unit in removed:
                    gains[unit.name] += changes
        return gains

    def _probe(self, held_out: Iterable[Sequence[Sequence[Unit]]]) -> dict[str, float]:
        """Return each unit's mean when these groups are left out at once, one entry of `held_out` after the other."""
        task = _PROBE.applied_to(self.definition)
        scores: list[CaseScore] = []
        for groups in held_out:
            units = [unit for group in groups for unit in group]
            scores += self.trial.run([task], units, watch=self.meter.begin("comparing the templates")).scores[_PROBE]
        return unit_means(scores, self.metric)


def candidate_results(variants: Sequence[TaskDefinition], outcomes: Sequence[Outcome]) -> Iterator[CandidateResult]:
    """Put together what each refinement of one adapter scored over all groups."""
    fit_s = float(np.mean([one.fit_s for one in outcomes]))
    for variant in variants:
        candidate = Candidate.of(variant)
        scores = tuple(score for one in outcomes for score in one.scores[candidate])
        yield CandidateResult(candidate, settings_digest(variant), scores, fit_s)


def _named(group: Sequence[Unit]) -> str:
    return group[0].name if len(group) == 1 else f"{group[0].name} and {len(group) - 1} more"
