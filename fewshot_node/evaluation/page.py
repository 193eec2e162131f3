"""The comparison as one self-contained page: tables, curves over shots, tests, and pictures of cases."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fewshot_node.evaluation.compare import MAIN_METRICS, SHOWN_METRICS, Answer, Outcome, paired_tests
from fewshot_node.evaluation.suites import Suite
from fewshot_node.pages.curve import CurvePoint, draw_curve
from fewshot_node.pages.overlays import SheetSettings, Structures, overlay_png
from fewshot_node.pages.page import data_url, write_page
from fewshot_node.records import TaskKind
from fewshot_node.scoring.statistics import Estimate

_SHEET = SheetSettings(max_slices=3, columns=3, tile_px=260)


@dataclass(frozen=True, slots=True)
class _Line:
    """A row of a table: what it is, and its figures as text, in the order of the head."""

    method: str
    refine: str
    shots: str
    figures: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Picture:
    title: str
    data: str


@dataclass(frozen=True, slots=True)
class _Section:
    """All that the page says of one suite."""

    name: str
    head: tuple[str, ...]
    lines: tuple[_Line, ...]
    labels: tuple[tuple[str, tuple[str, ...]], ...]
    label_head: tuple[str, ...]
    tests: tuple[str, ...]
    curve: str
    pictured: str
    pictures: tuple[_Picture, ...]


def write_comparison(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Write all outcomes; nothing of the page is fetched from elsewhere."""
    names = dict.fromkeys(outcome.suite.name for outcome in outcomes)
    sections = [_section([one for one in outcomes if one.suite.name == name]) for name in names]
    write_page(path, "fewshot_node.evaluation", "page.html.j2", sections=sections)


def _section(outcomes: Sequence[Outcome]) -> _Section:
    suite = outcomes[0].suite
    metrics = [metric for metric in SHOWN_METRICS if any(one.estimate(metric) for one in outcomes)]
    main = next(metric for metric in MAIN_METRICS if metric in metrics)
    others = tuple(metric for metric in metrics if metric != main)
    return _Section(
        name=suite.name,
        head=(main, "95 % over patients", "spread over draws", "worst draw", *others, "s to register", "peak MiB"),
        lines=tuple(_line(outcome, main, others) for outcome in outcomes),
        label_head=tuple(_told(one) for one in outcomes),
        labels=tuple(_label_row(label.name, main, outcomes) for label in suite.labels),
        tests=tuple(paired_tests(outcomes)),
        curve=_curve(outcomes, main),
        pictured=_told(outcomes[0]),
        pictures=tuple(_pictures(outcomes[0])),
    )


def _told(outcome: Outcome) -> str:
    return f"{outcome.method} ({outcome.entry.refine}), {outcome.shots} {outcome.unit}"


def _line(outcome: Outcome, main: str, others: Sequence[str]) -> _Line:
    found = outcome.estimate(main)
    spread = ("-",) * 3
    if found:
        spread = (f"{found.low:.3f} to {found.high:.3f}", f"{found.draw_spread:.3f}", f"{found.worst_draw:.3f}")
    cost = (f"{outcome.cost.register_s:.2f}", f"{outcome.cost.peak_mib:.0f}")
    figures = (_mean(found), *spread, *(_mean(outcome.estimate(metric)) for metric in others), *cost)
    return _Line(outcome.method, outcome.entry.refine, f"{outcome.shots} {outcome.unit}", figures)


def _label_row(name: str, main: str, outcomes: Sequence[Outcome]) -> tuple[str, tuple[str, ...]]:
    return name, tuple(_mean(outcome.estimate(main, name)) for outcome in outcomes)


def _mean(found: Estimate | None) -> str:
    return f"{found.mean:.3f}" if found else "-"


def _curve(outcomes: Sequence[Outcome], main: str) -> str:
    """Draw the main score over the number of templates; empty where there is one number only."""
    plain = [outcome for outcome in outcomes if not outcome.is_ceiling]
    if len({outcome.shots for outcome in plain}) < 2:
        return ""
    lines: dict[str, dict[int, CurvePoint]] = {}
    for outcome in plain:
        found = outcome.estimate(main)
        if found:
            points = lines.setdefault(f"{outcome.method} ({outcome.entry.refine})", {})
            points[outcome.shots] = CurvePoint(found.mean, found.low, found.high)
    return draw_curve(lines, main)


def _pictures(outcome: Outcome) -> Iterator[_Picture]:
    """Show the best, the median and the worst case of a row's first draw."""
    ranked = outcome.answers
    if not ranked:
        return
    for title, index in {"best": -1, "median": len(ranked) // 2, "worst": 0}.items():
        answer = ranked[index]
        caption = f"{title}: {answer.case.patient}/{answer.case.name}, {answer.score:.3f}"
        yield _Picture(caption, data_url(_overlay(outcome.suite, answer)))


def _overlay(suite: Suite, answer: Answer) -> bytes:
    query = answer.query
    if query.modality == "CT" and query.array.min() >= 0:
        # A picture of a CT slice has grey levels, no Hounsfield units: a window would hide it.
        query = replace(query, modality="OT")
    names = {label.value: label.name for label in suite.labels}
    found: Structures = answer.prediction.label_map
    truth: Structures = answer.data.label_map
    if suite.kind is TaskKind.LANDMARKS:
        found = {one.label_value: one.index for one in answer.prediction.landmarks if one.index is not None}
        truth = answer.data.points
    return overlay_png(query, found, names, truth=truth, settings=_SHEET)
