"""A report's figures as text, for the command line and the page alike."""

from collections.abc import Sequence
from dataclasses import dataclass

from fewshot_node.records import TaskKind
from fewshot_node.scoring.statistics import ALL_LABELS, Estimate, estimate
from fewshot_node.tasks.crossval.records import Candidate, CandidateResult, CrossvalReport, unit_means

OTHER_METRICS = {
    TaskKind.SEGMENTATION: ("dice", "nsd", "tnr", "tpr"),
    TaskKind.LANDMARKS: ("mre", "missed"),
}
"""Beside the one that candidates are ranked by; `scores.Score` says what each is."""


@dataclass(frozen=True, slots=True)
class TextTable:
    """Cells as text; as many in each row as in the head."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def candidate_table(report: CrossvalReport) -> TextTable:
    """Return a row for each adapter; its refinements stand side by side, coarse first."""
    engines = tuple(dict.fromkeys(one.candidate.refine for one in report.results))
    adapters = tuple(dict.fromkeys(one.candidate.adapter for one in report.results))
    main = [f"{report.metric}{_told(engine, engines)} (95 %)" for engine in engines]
    others = [f"{metric}{_told(' / '.join(engines), engines)}" for metric in OTHER_METRICS[report.kind]]
    rows = []
    for adapter in adapters:
        own = [report.result(Candidate(adapter, engine)) for engine in engines]
        figures = [_interval(one, report.metric) for one in own]
        figures += [" / ".join(_mean(one, metric) for one in own) for metric in OTHER_METRICS[report.kind]]
        rows.append((adapter, *figures, f"{own[0].fit_s:.1f}" if own[0] else "-"))
    return TextTable(("adapter", *main, *others, "s to fit"), tuple(rows))


def label_table(report: CrossvalReport) -> TextTable:
    """Return a row for each label: what the recommended adapter scores, coarse and refined."""
    own = _recommended(report)
    labels = dict.fromkeys(score.label for one in own for score in one.scores)
    metrics = (report.metric, *OTHER_METRICS[report.kind])
    head = tuple(f"{metric}{_engines(own)}" for metric in metrics)
    rows = tuple(
        (label, *(" / ".join(_mean(one, metric, label) for one in own) for metric in metrics)) for label in labels
    )
    return TextTable(("label", *head), rows)


def unit_table(report: CrossvalReport) -> TextTable:
    """Return a row for each left-out unit: its mean over labels with the recommended adapter."""
    own = _recommended(report)
    means = [unit_means(one.scores, report.metric) for one in own]
    rows = tuple(
        (unit.name, *(f"{found[unit.name]:.3f}" if unit.name in found else "-" for found in means))
        for unit in report.units
    )
    engines = [one.candidate.refine for one in own]
    return TextTable(("left out", *(f"{report.metric}{_told(engine, engines)}" for engine in engines)), rows)


def curve_points(report: CrossvalReport) -> dict[str, dict[int, Estimate]]:
    """Return the main score over the number of units learnt from, one left out included, by candidate."""
    lines: dict[str, dict[int, Estimate]] = {}
    most = len(report.units) - max(len(group) for group in report.groups)
    for candidate in dict.fromkeys(one.candidate for one in report.curve):
        whole = report.result(candidate)
        scored = [(one.shots, one.scores) for one in report.curve if one.candidate == candidate]
        for shots, scores in [*scored, *([(most, whole.scores)] if whole else [])]:
            found = estimate(scores, report.metric, expanded=True)
            if found is not None:
                lines.setdefault(str(candidate), {})[shots] = found
    return lines


def _recommended(report: CrossvalReport) -> list[CandidateResult]:
    adapter = report.recommendation.candidate.adapter
    return [one for one in report.results if one.candidate.adapter == adapter]


def _engines(results: Sequence[CandidateResult]) -> str:
    engines = [one.candidate.refine for one in results]
    return _told(" / ".join(engines), engines)


def _told(text: str, engines: Sequence[str]) -> str:
    """Return what a heading says of refinement; nothing where there is but one."""
    return f", {text.replace('none', 'coarse')}" if len(engines) > 1 else ""


def _mean(result: CandidateResult | None, metric: str, label: str = ALL_LABELS) -> str:
    found = result.estimate(metric, label) if result else None
    return f"{found.mean:.3f}" if found else "-"


def _interval(result: CandidateResult | None, metric: str) -> str:
    found = result.estimate(metric) if result else None
    return f"{found.mean:.3f} ({found.low:.3f} to {found.high:.3f})" if found else "-"
