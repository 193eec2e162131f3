"""What the templates' own scores say against some of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fewshot_node.records import TaskKind
from fewshot_node.scoring.statistics import CaseScore
from fewshot_node.tasks.crossval.records import MAIN_METRICS, Doubt, Unit, unit_means

_FEW_UNITS = 3
_FAR_BELOW = 0.15
_DEVIATIONS = 3.0
_HELPFUL_REMOVAL = 0.03
_APART = 0.5
_NORMAL = 1.4826  # a normal distribution's standard deviation in median absolute deviations
_REMEDY = "look at its labels (task report), correct it or remove it (template remove), then run task crossval again"

# Measured: hippocampus volumes, of which such templates foretold an IoU of 0.5, reached 0.2.
_NO_NEGATIVES = (
    "every slice of the templates shows a label, so what will be marked on slices without any is not foretold, and a "
    "whole series may score much lower: add series or slices that show none (template add --negative)"
)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of the units.

    Attributes
    ----------
    scores
        Of the recommended candidate, each unit left out alone.
    gains
        For each unit the changes of the others' scores when it is removed from what they are told by.
    shown_once
        Label name -> the only unit that shows it.
    has_negatives
        Whether a slice of the units shows no label.
    """

    units: tuple[Unit, ...]
    scores: Sequence[CaseScore]
    metric: str
    gains: Mapping[str, Sequence[float]]
    shown_once: Mapping[str, str]
    has_negatives: bool = True


def find_doubts(evidence: Evidence) -> tuple[Doubt, ...]:
    """Name what a person should look at, worst first."""
    outliers = dict(_outliers(evidence))
    doubts = [Doubt(_templates(evidence, name), message) for name, message in outliers.items()]
    doubts += _disagreements(evidence, set(outliers))
    for label, name in evidence.shown_once.items():
        message = f"only {name} shows {label}: its score cannot be foretold; add another template that shows it"
        doubts.append(Doubt(_templates(evidence, name), message))
    if not evidence.has_negatives and evidence.metric == MAIN_METRICS[TaskKind.SEGMENTATION]:
        doubts.append(Doubt((), _NO_NEGATIVES))
    if len(evidence.units) < _FEW_UNITS:
        message = f"all this rests on {len(evidence.units)} left-out examples: add templates of other patients"
        doubts.append(Doubt((), message))
    return tuple(doubts)


def _outliers(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Yield units that the others foretell far worse than each other, or whose removal helps the others."""
    means = unit_means(evidence.scores, evidence.metric)
    for name in sorted(means, key=lambda unit: means[unit]):
        facts = [*_far_below(name, means, evidence.metric), *_removal(name, evidence)]
        if facts:
            yield name, f"{name} does not fit the other templates: {', and '.join(facts)}: {_REMEDY}"


def _far_below(name: str, means: Mapping[str, float], metric: str) -> Iterator[str]:
    others = np.array([mean for unit, mean in means.items() if unit != name])
    if len(others) < _FEW_UNITS - 1:
        return
    middle = float(np.median(others))
    spread = _NORMAL * float(np.median(np.abs(others - middle)))
    if means[name] < middle - max(_FAR_BELOW, _DEVIATIONS * spread):
        yield f"the others foretell it with {metric} {means[name]:.2f}, each other with {middle:.2f}"


def _removal(name: str, evidence: Evidence) -> Iterator[str]:
    """Say that the others do better without a unit, and more so than without any other."""
    own = evidence.gains.get(name, ())
    if len(own) < _FEW_UNITS:
        return
    mean, helped = float(np.mean(own)), sum(gain > 0 for gain in own)
    usual = float(np.median([np.mean(gains) for unit, gains in evidence.gains.items() if unit != name and len(gains)]))
    if mean > max(0.0, usual) + _HELPFUL_REMOVAL and helped > len(own) / 2:
        told = f"{evidence.metric} {mean:+.2f}, {helped} of {len(own)}"
        yield f"without it the others foretell each other better ({told})"


def _disagreements(evidence: Evidence, outliers: set[str]) -> Iterator[Doubt]:
    """Yield labels that some templates foretell well and others hardly."""
    if evidence.metric != MAIN_METRICS[TaskKind.SEGMENTATION]:
        return  # a landmark is hit or not: one that is missed once is no disagreement
    by_label: dict[str, dict[str, float]] = {}
    for one in evidence.scores:
        if one.metric == evidence.metric and one.patient not in outliers:
            by_label.setdefault(one.label, {})[one.patient] = one.value
    for label, values in by_label.items():
        worst, best = min(values, key=lambda unit: values[unit]), max(values, key=lambda unit: values[unit])
        if len(values) >= _FEW_UNITS and values[best] - values[worst] > _APART:
            yield Doubt(
                _templates(evidence, worst),
                f"templates disagree about {label}: {evidence.metric} {values[best]:.2f} on {best}, "
                f"{values[worst]:.2f} on {worst}: look whether both draw it alike (task report), or add templates "
                "that look like the worse one",
            )


def _templates(evidence: Evidence, unit: str) -> tuple[str, ...]:
    return next((one.templates for one in evidence.units if one.name == unit), ())
