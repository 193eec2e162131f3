"""Methods times suites times draws: every method sees the same templates and is asked about the same patients."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from fewshot_node.errors import TemplateError
from fewshot_node.evaluation.memory import PeakMemory
from fewshot_node.evaluation.method import FittedMethod, Method
from fewshot_node.evaluation.protocol import Draw, Unit, ceiling_draws, draws, templates_of
from fewshot_node.evaluation.suites import Case, CaseData, Suite
from fewshot_node.records import TaskKind
from fewshot_node.scoring.answers import Prediction, Query
from fewshot_node.scoring.scores import SUCCESS_MM, score_landmarks, score_masks
from fewshot_node.scoring.statistics import ALL_LABELS, CaseScore, Estimate, estimate, paired_p
from fewshot_node.tasks.task import TaskDefinition
from fewshot_node.tasks.templates import Template

_CEILING_DRAWS = 2

MAIN_METRICS = ("iou", "accuracy@10px")
"""What a table leads with: masks have the first, landmarks the second."""

METRICS = ("iou", "dice", "nsd", "hd95", "tnr", "tpr", "accuracy@10px", "mre", "seconds")
"""Of which there are rows of data."""
SHOWN_METRICS = (*METRICS, "fp_slices", "missed", *(f"success@{limit:g}mm" for limit in SUCCESS_MM))
"""Of which a table or a page tells, where a suite has them."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A method with what a table says of it."""

    method: Method
    encoder: str
    refine: str


@dataclass(frozen=True, slots=True)
class Protocol:
    """How often and from how much each method learns; `ceiling` adds a row of all slices of half the patients."""

    shots: tuple[int, ...] = (5,)
    draws: int = 10
    unit: Unit = "slice"
    ceiling: bool = False

    @property
    def fits(self) -> int:
        """How often each method is fitted to a suite."""
        return len(self.shots) * self.draws + (_CEILING_DRAWS if self.ceiling else 0)


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of the comparison: mean and 95 % interval over `n` patients."""

    suite: str
    method: str
    encoder: str
    refine: str
    shots: int
    unit: str
    label: str
    metric: str
    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """One case with what a method said of it, and the mean of its main score over the labels that it holds."""

    case: Case
    query: Query
    prediction: Prediction
    data: CaseData
    score: float


@dataclass(frozen=True, slots=True)
class Cost:
    """What a row needed beside the seconds of its answers.

    Attributes
    ----------
    register_s
        Mean seconds to learn a task from its templates, their encoding included.
    peak_mib
        Most memory of the process while it ran; what earlier rows left to be used again is part of it.
    """

    register_s: float
    peak_mib: float


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """All case scores of one method on one suite with one number of shots.

    `answers` are the worst, the median and the best case of its first draw.
    """

    suite: Suite
    entry: Entry
    shots: int
    unit: Unit
    scores: tuple[CaseScore, ...]
    cost: Cost
    is_ceiling: bool = False
    answers: tuple[Answer, ...] = ()

    @property
    def method(self) -> str:
        """The method's name in a table."""
        return f"{self.entry.method.name}-ceiling" if self.is_ceiling else self.entry.method.name

    def estimate(self, metric: str, label: str = ALL_LABELS) -> Estimate | None:
        """Average one metric."""
        return estimate(self.scores, metric, label)

    def rows(self) -> Iterator[Row]:
        """Yield a row for every metric, over all labels and for each."""
        for metric in METRICS:
            for label in (ALL_LABELS, *(label.name for label in self.suite.labels)):
                found = self.estimate(metric, label)
                if found is None or (metric == "seconds" and label != ALL_LABELS):
                    continue
                where = (self.suite.name, self.method, self.entry.encoder, self.entry.refine)
                yield Row(*where, self.shots, self.unit, label, metric, found.mean, found.low, found.high, found.n)


def rows_as_data(outcomes: Iterable[Outcome]) -> list[dict[str, object]]:
    """Return all rows as plain dictionaries, for JSON."""
    return [asdict(row) for outcome in outcomes for row in outcome.rows()]


def compare(
    suite: Suite, entries: Sequence[Entry], protocol: Protocol, advance: Callable[[], None] = lambda: None
) -> Iterator[Outcome]:
    """Score every method on a suite.

    Parameters
    ----------
    advance
        Called after each method's fit and its answers, `len(entries) * protocol.fits` times.
    """
    data = [(case, case.load()) for case in suite.cases]
    loaded = _Loaded(suite, data, {case: _query(suite, one) for case, one in data})
    for shots in protocol.shots:
        for entry in entries:
            yield loaded.outcome(entry, shots, list(draws(suite, shots, protocol.draws)), protocol.unit, advance)
    for entry in entries if protocol.ceiling else ():
        halves = list(ceiling_draws(suite))
        found = loaded.outcome(entry, len(halves[0].teaching), halves, "volume", advance)
        yield replace(found, is_ceiling=True)


@dataclass(frozen=True, slots=True, eq=False)
class _Loaded:
    """A suite in memory."""

    suite: Suite
    data: Sequence[tuple[Case, CaseData]]
    queries: dict[Case, Query]

    def outcome(
        self, entry: Entry, shots: int, chosen: Sequence[Draw], unit: Unit, advance: Callable[[], None]
    ) -> Outcome:
        """Fit a method anew for each draw and ask it about all other patients."""
        scores: list[CaseScore] = []
        answers: list[Answer] = []
        register_s: list[float] = []
        with PeakMemory() as memory:
            for draw in chosen:
                started = time.perf_counter()
                fitted = self._fit(entry.method, draw, unit)
                register_s.append(time.perf_counter() - started)
                for answer, found in self._answers(fitted, draw):
                    scores += found
                    if draw is chosen[0]:
                        answers.append(answer)
                advance()
        cost = Cost(float(np.mean(register_s)), memory.peak_mib)
        return Outcome(self.suite, entry, shots, unit, tuple(scores), cost, answers=_telling(answers))

    def _fit(self, method: Method, draw: Draw, unit: Unit) -> FittedMethod:
        templates = [one for name in draw.teaching for one in templates_of(self.suite, name, unit, self.data)]
        return method.fit(_definition(self.suite, templates), templates)

    def _answers(self, fitted: FittedMethod, draw: Draw) -> Iterator[tuple[Answer, list[CaseScore]]]:
        for case, data in self.data:
            if case.patient in draw.asked:
                query = self.queries[case]
                prediction, found = _ask(self.suite, fitted, draw, case, data, query)
                yield Answer(case, query, prediction, data, _main_score(found)), found


def _definition(suite: Suite, templates: Sequence[Template]) -> TaskDefinition:
    """Return a task of the labels that these templates show; the others cannot be learnt and score 0."""
    shown = {value for template in templates for value in template.label_values}
    labels = tuple(label for label in suite.labels if label.value in shown)
    if not labels:
        raise TemplateError(f"{suite.name}: the drawn templates show no label; give more shots")
    return TaskDefinition("evaluation", suite.kind, labels)


def _query(suite: Suite, data: CaseData) -> Query:
    return Query(data.array, suite.modality, data.spacing_mm or (1.0, 1.0, 1.0))


def _ask(
    suite: Suite, fitted: FittedMethod, draw: Draw, case: Case, data: CaseData, query: Query
) -> tuple[Prediction, list[CaseScore]]:
    score = score_landmarks if suite.kind is TaskKind.LANDMARKS else score_masks
    started = time.perf_counter()
    prediction = fitted.predict(query)
    spent_s = time.perf_counter() - started + prediction.reused_s
    seconds = CaseScore(draw.number, case.patient, ALL_LABELS, "seconds", spent_s)
    found = score(prediction, data, suite.labels)
    return prediction, [seconds, *(replace(seconds, label=o.label, metric=o.metric, value=o.value) for o in found)]


def _main_score(scores: Sequence[CaseScore]) -> float:
    """Mean of the first metric that a case has; not a number where it holds no label."""
    for metric in MAIN_METRICS:
        values = [one.value for one in scores if one.metric == metric]
        if values:
            return float(np.mean(values))
    return math.nan


def _telling(answers: Sequence[Answer]) -> tuple[Answer, ...]:
    """Return the worst, the median and the best, each once; others would only fill the memory."""
    ranked = sorted((one for one in answers if not math.isnan(one.score)), key=lambda one: one.score)
    places = {0, len(ranked) // 2, len(ranked) - 1} if ranked else set()
    return tuple(ranked[place] for place in sorted(places))


def paired_tests(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Say of each row how it differs from the first with the same templates, patient by patient."""
    for outcome in outcomes:
        first = next(one for one in outcomes if (one.shots, one.unit) == (outcome.shots, outcome.unit))
        if outcome is first:
            continue
        for metric in MAIN_METRICS:
            found = paired_p(first.scores, outcome.scores, metric)
            if found is not None:
                names = " - ".join(f"{one.method} ({one.entry.refine})" for one in (first, outcome))
                change = f"{found[0]:+.3f}, Wilcoxon over patients p = {found[1]:.3g}"
                yield f"{outcome.shots} {outcome.unit}, {metric}: {names} = {change}"
