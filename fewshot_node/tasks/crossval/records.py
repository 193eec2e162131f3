"""What a crossvalidation found, as it is kept beside the draft."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fewshot_node.records import TaskKind
from fewshot_node.scoring.statistics import ALL_LABELS, CaseScore, Estimate, estimate
from fewshot_node.tasks.task import TaskDefinition, usual_refinement

MAIN_METRICS = {TaskKind.SEGMENTATION: "iou", TaskKind.LANDMARKS: "accuracy@10px"}
"""What candidates are ranked by; more is better."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to learn and refine.

    Attributes
    ----------
    adapter
        Name of the adapter, ``-binary`` behind it where each label has a head of its own.
    refine
        Name of the refinement engine.
    """

    adapter: str
    refine: str

    def __str__(self) -> str:
        return self.adapter if self.refine == "none" else f"{self.adapter} + {self.refine}"

    @classmethod
    def of(cls, definition: TaskDefinition) -> "Candidate":
        """Return the candidate that a task's settings are; landmarks are not refined."""
        settings = definition.settings
        suffix = "-binary" if settings.adapter.mode == "binary" else ""
        refine = "none" if definition.kind is TaskKind.LANDMARKS else settings.refine.engine
        return cls(settings.adapter.name + suffix, refine)

    def applied_to(self, definition: TaskDefinition) -> TaskDefinition:
        """Return a task with this adapter and refinement in place of its own.

        What the task says of an adapter's training, and of a refinement that it has already, is kept.
        """
        settings = definition.settings
        mode = "binary" if self.adapter.endswith("-binary") else "multilabel"
        adapter = replace(settings.adapter, name=self.adapter.removesuffix("-binary"), mode=mode)
        refine = settings.refine
        if definition.kind is not TaskKind.LANDMARKS and refine.engine != self.refine:
            refine = usual_refinement(self.refine)
        return replace(definition, settings=replace(settings, adapter=adapter, refine=refine))


@dataclass(frozen=True, slots=True)
class CandidateResult:
    """What one candidate scored on what was left out.

    Attributes
    ----------
    settings_digest
        Of the settings of adapter and refinement that it ran with (`store.settings_digest`).
    scores
        One for each label and metric of each left-out unit; the unit stands in `CaseScore.patient`.
    fit_s
        Mean seconds of a fit, encoding included where the features were not kept yet.
    """

    candidate: Candidate
    settings_digest: str
    scores: tuple[CaseScore, ...]
    fit_s: float

    def estimate(self, metric: str, label: str = ALL_LABELS) -> Estimate | None:
        """Average one metric, with its 95 % interval over units, which are few; None where it has no score."""
        return estimate(self.scores, metric, label, expanded=True)


@dataclass(frozen=True, slots=True)
class CurveResult:
    """What a candidate scored when it learnt from `shots` units, in `CaseScore.draw` choices of them."""

    candidate: Candidate
    shots: int
    scores: tuple[CaseScore, ...]


@dataclass(frozen=True, slots=True)
class Doubt:
    """Something that a person should look at, with the remedy; `templates` are those it is about."""

    templates: tuple[str, ...]
    message: str


@dataclass(frozen=True, slots=True)
class Unit:
    """What is left out together.

    Attributes
    ----------
    name
        Of the template, or of the template and the slice.
    templates
        Names of the templates, more than one where several come from one series.
    slices
        Slices of the only template that are left out, counted within it; empty for whole templates.
    """

    name: str
    templates: tuple[str, ...]
    slices: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What to switch to, and why."""

    candidate: Candidate
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CrossvalReport:
    """All that one crossvalidation found.

    Attributes
    ----------
    key
        Digest of what it was computed from (`store.crossval_key`).
    by_slice
        Whether slices of the only template were left out, instead of templates.
    groups
        Units that were left out together, by name; as many as there were fits of each candidate.
    encoder_digest, refiner_digest
        Weights that it ran with.
    unscored
        Names of labels that only one unit shows: leaving it out leaves nothing to learn them from.
    """

    key: str
    created: str
    kind: TaskKind
    by_slice: bool
    units: tuple[Unit, ...]
    groups: tuple[tuple[str, ...], ...]
    encoder_digest: str
    refiner_digest: str | None
    results: tuple[CandidateResult, ...]
    curve: tuple[CurveResult, ...]
    recommendation: Recommendation
    doubts: tuple[Doubt, ...]
    unscored: tuple[str, ...] = ()

    @property
    def metric(self) -> str:
        """What candidates were ranked by."""
        return MAIN_METRICS[self.kind]

    def result(self, candidate: Candidate) -> CandidateResult | None:
        """Return what a candidate scored; None where it did not take part."""
        return next((one for one in self.results if one.candidate == candidate), None)


def unit_means(scores: Sequence[CaseScore], metric: str) -> dict[str, float]:
    """Return each unit's mean over its labels."""
    values: dict[str, list[float]] = {}
    for one in scores:
        if one.metric == metric:
            values.setdefault(one.patient, []).append(one.value)
    return {unit: sum(found) / len(found) for unit, found in values.items()}
