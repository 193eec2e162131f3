"""The whole of a crossvalidation: every candidate without each unit, curve, doubts, recommendation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from fewshot_node.errors import TaskError, TemplateError
from fewshot_node.records import Label
from fewshot_node.scoring.statistics import estimate
from fewshot_node.tasks.crossval.answers import LeftOutAnswer
from fewshot_node.tasks.crossval.doubts import Evidence, find_doubts
from fewshot_node.tasks.crossval.plan import Meter, Plan, candidate_results
from fewshot_node.tasks.crossval.recommend import growth, recommend
from fewshot_node.tasks.crossval.records import Candidate, CandidateResult, CrossvalReport, CurveResult, Unit
from fewshot_node.tasks.crossval.store import crossval_key
from fewshot_node.tasks.crossval.trial import Engines, Trial
from fewshot_node.tasks.crossval.units import find_units, group_units, held_out
from fewshot_node.tasks.progress import Watch, unwatched
from fewshot_node.tasks.task import TaskDefinition
from fewshot_node.tasks.templates import Template
from fewshot_node.vision.adapters import ADAPTERS

USUAL_ADAPTERS = ("basic", "prototype", "lda", "classification", "contrastive", "context")
"""Compared unless told otherwise: all but ``contrastive-concat``, which takes as long as ``contrastive``."""
_ONE_HEAD = ("prototype", "lda", "context")
KNOWN_ADAPTERS = (*ADAPTERS, *(f"{name}-binary" for name in ADAPTERS if name not in _ONE_HEAD))


def adapters_named(text: str) -> tuple[str, ...]:
    """Read names separated by commas; ``all`` is every one with a head for all labels, nothing the usual ones."""
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    return tuple(ADAPTERS) if names == ("all",) else names or USUAL_ADAPTERS


@dataclass(frozen=True, slots=True)
class CrossvalSettings:
    """How much a crossvalidation tries.

    Attributes
    ----------
    adapters
        To compare; the task's own is always among them.
    most_fits
        Of each adapter; more units than these are left out in groups.
    curve_draws
        Random choices of units at each number of them, for the curve; 0 leaves the curve out.
    """

    adapters: tuple[str, ...] = USUAL_ADAPTERS
    most_fits: int = 10
    curve_draws: int = 2

    def __post_init__(self) -> None:
        for name in self.adapters:
            if name not in KNOWN_ADAPTERS:
                raise TaskError(f"adapter {name!r} is unknown; give one of {', '.join(KNOWN_ADAPTERS)}")
        if self.most_fits < 2 or self.curve_draws < 0:
            raise TaskError("a crossvalidation needs at least 2 fits of each adapter and not fewer than 0 draws")


@dataclass(frozen=True, slots=True, eq=False)
class Crossvalidation:
    """The report, and the recommended candidate's answers by the names of unit and template."""

    report: CrossvalReport
    answers: Mapping[tuple[str, str], LeftOutAnswer]


def crossvalidate(
    definition: TaskDefinition,
    templates: Sequence[Template],
    engines: Engines,
    settings: CrossvalSettings | None = None,
    watch: Watch = unwatched,
) -> Crossvalidation:
    """Tell how good a task will be from its own templates; the same input gives the same scores.

    Each template (each slice of a single one) is left out in turn, every candidate learns from the others and
    is asked about it. A label that only one of them shows is not scored.

    Parameters
    ----------
    watch
        Told before each fit.

    Raises
    ------
    TemplateError
        There is one slice only, or no label is shown twice.
    TaskError
        There is no template, or the task refines with SAM and there is none.
    """
    settings = settings or CrossvalSettings()
    _require_what_is_needed(definition, templates, engines)
    units, by_slice = find_units(templates)
    labels, shown_once = _scored_labels(definition, templates, units)
    trial = Trial(tuple(templates), labels, engines)
    plan = Plan(definition, trial, units, group_units(units, settings.most_fits), Meter(watch))
    current = Candidate.of(definition)
    adapters = tuple(dict.fromkeys((*settings.adapters, current.adapter)))
    plan.announce(adapters, settings.curve_draws)
    found = {adapter: list(plan.leave_out(adapter)) for adapter in adapters}
    results = [one for adapter in adapters for one in candidate_results(plan.variants(adapter), found[adapter])]
    recommendation = recommend(results, plan.metric, current)
    chosen = next(one for one in results if one.candidate == recommendation.candidate)
    curves = [list(plan.curve(one, settings.curve_draws)) for one in dict.fromkeys((chosen.candidate, current))]
    has_negatives = any(one.annotated_slices < len(one.array) for one in templates)
    evidence = Evidence(units, chosen.scores, plan.metric, plan.gains(), shown_once, has_negatives)
    plan.meter.end()
    rising = growth(_means_by_shots(chosen, curves[0], plan))
    report = CrossvalReport(
        key=crossval_key(definition, templates, engines.encoder.weights_digest),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        kind=definition.kind,
        by_slice=by_slice,
        units=units,
        groups=tuple(tuple(unit.name for unit in group) for group in plan.groups),
        encoder_digest=engines.encoder.weights_digest,
        refiner_digest=engines.sam.weights_digest if engines.sam else None,
        results=tuple(results),
        curve=tuple(point for points in curves for point in points),
        recommendation=replace(recommendation, reasons=(*recommendation.reasons, *rising)),
        doubts=find_doubts(evidence),
        unscored=tuple(shown_once),
    )
    answers = [outcome.answers[chosen.candidate] for outcome in found[chosen.candidate.adapter]]
    return Crossvalidation(report, {key: value for one in answers for key, value in one.items()})


def _require_what_is_needed(definition: TaskDefinition, templates: Sequence[Template], engines: Engines) -> None:
    if not templates:
        raise TaskError(f"task {definition.name} has no template: add one (template add)")
    if Candidate.of(definition).refine == "sam" and engines.sam is None:
        raise TaskError(f"task {definition.name} refines with SAM and none is loaded: set worker.sam")


def _means_by_shots(chosen: CandidateResult, curve: Sequence[CurveResult], plan: Plan) -> dict[int, float]:
    """Return the recommended candidate's mean score by the number of units learnt from."""
    points = {one.shots: estimate(one.scores, plan.metric) for one in curve}
    points[plan.most_shots] = chosen.estimate(plan.metric)
    return {shots: one.mean for shots, one in points.items() if one}


def _scored_labels(
    definition: TaskDefinition, templates: Sequence[Template], units: Sequence[Unit]
) -> tuple[tuple[Label, ...], dict[str, str]]:
    """Return the labels that two units show, and the only unit of each that one shows."""
    showing: dict[int, list[str]] = {label.value: [] for label in definition.labels}
    for unit in units:
        for value in {value for one in held_out(templates, unit) for value in one.label_values}:
            showing[value].append(unit.name)
    labels = tuple(label for label in definition.labels if len(showing[label.value]) > 1)
    if not labels:
        raise TemplateError(
            f"task {definition.name}: no label is shown by two templates, so none can be foretold from the others: "
            "add templates that show the same structures (template add)"
        )
    once = {label.name: showing[label.value][0] for label in definition.labels if len(showing[label.value]) == 1}
    return labels, once
