"""A task's crossvalidation as one self-contained page, for the people who decide whether it goes live.

It names templates, labels, settings and digests, and holds pictures of slices; no identifier of a patient, a study
or a series.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fewshot_node import __version__
from fewshot_node.errors import TaskError
from fewshot_node.pages.curve import CurvePoint, draw_curve
from fewshot_node.pages.overlays import SheetSettings, Structures, overlay_png
from fewshot_node.pages.page import data_url, write_page
from fewshot_node.records import TaskKind
from fewshot_node.tasks.crossval.answers import Answers, LeftOutAnswer, load_answers
from fewshot_node.tasks.crossval.records import Candidate, CrossvalReport, Unit, unit_means
from fewshot_node.tasks.crossval.store import CrossvalScore, crossval_score, load_report
from fewshot_node.tasks.crossval.tables import candidate_table, curve_points, label_table, unit_table
from fewshot_node.tasks.crossval.units import held_out
from fewshot_node.tasks.origin import TemplateOrigin, read_origins
from fewshot_node.tasks.registry import Registry
from fewshot_node.tasks.task import TaskDefinition, definition_to_data
from fewshot_node.tasks.templates import Template

_MOST_PICTURED = 24
_SHEET = SheetSettings(max_slices=3, columns=3, tile_px=260)
# Shares of an undecided pixel: black is sure, white is a tie of two classes.
_UNSURE_SHEET = SheetSettings(max_slices=3, columns=3, tile_px=260, ct_window=(0.25, 0.5))


@dataclass(frozen=True, slots=True)
class _Shown:
    """One left-out example: its pictures as addresses, and what stands below them."""

    name: str
    caption: str
    overlay: str
    unsure: str


@dataclass(frozen=True, slots=True, eq=False)
class _Unsure:
    """Uncertainty as something that can be pictured; windowed as CT is, by fixed values."""

    array: NDArray[np.float32]
    spacing_mm: tuple[float, float, float]
    modality: str = "CT"


def write_report(registry: Registry, name: str, path: Path) -> None:
    """Write the page of a registered task's draft.

    Raises
    ------
    UnknownTaskError
        There is no task of that name.
    TaskError
        The task was not crossvalidated, or what was kept of it cannot be read.
    """
    draft = registry.draft_folder(name)
    report = load_report(draft)
    if report is None:
        raise TaskError(f"task {name} was not crossvalidated: run task crossval {name}, then task report")
    definition, templates = registry.definition(name), registry.templates(name)
    origins = read_origins(draft)
    score = crossval_score(draft, definition, templates)
    pictured = list(_pictures(report, definition, templates, load_answers(draft)))
    write_page(
        path,
        "fewshot_node.tasks.crossval",
        "report.html.j2",
        **_facts(report, definition, score),
        pictures=pictured,
        templates=[_template_row(one, definition, origins.get(one.name, TemplateOrigin())) for one in templates],
    )


def _facts(report: CrossvalReport, definition: TaskDefinition, score: CrossvalScore | None) -> Mapping[str, Any]:
    lines = {
        name: {shots: CurvePoint(one.mean, one.low, one.high) for shots, one in points.items()}
        for name, points in curve_points(report).items()
    }
    recommended = report.result(report.recommendation.candidate)
    has_curve = any(len(points) > 1 for points in lines.values())
    return {
        "task": definition,
        "report": report,
        "score": score,
        "current": Candidate.of(definition),
        "recommended": recommended.estimate(report.metric) if recommended else None,
        "is_masks": report.kind is TaskKind.SEGMENTATION,
        "tables": (
            ("Adapters and refinements", candidate_table(report)),
            (f"Labels, {report.recommendation.candidate.adapter}", label_table(report)),
            (f"Each left-out example, {report.recommendation.candidate.adapter}", unit_table(report)),
        ),
        "curve": draw_curve(lines, report.metric) if has_curve else "",
        "version": __version__,
        "settings": json.dumps(definition_to_data(definition)["settings"], indent=2, sort_keys=True),
    }


def _template_row(template: Template, definition: TaskDefinition, origin: TemplateOrigin) -> tuple[str, ...]:
    names = {label.value: label.name for label in definition.labels}
    shown = ", ".join(names.get(value, str(value)) for value in template.label_values)
    slices = f"{len(template.array)} ({template.annotated_slices} with labels)"
    plane = template.orientation or "unknown"
    history = (origin.at, origin.by, origin.images, origin.format)
    return (template.name, template.modality, plane, slices, shown, *history, template.digest()[:12])


def _pictures(
    report: CrossvalReport, definition: TaskDefinition, templates: Sequence[Template], answers: Answers
) -> Iterator[_Shown]:
    """Show every left-out example; of very many, those of the lowest scores."""
    result = report.result(report.recommendation.candidate)
    means = unit_means(result.scores, report.metric) if result else {}
    known = {one.name for one in templates}
    units = [unit for unit in report.units if set(unit.templates) <= known]
    if len(units) > _MOST_PICTURED:
        units = sorted(units, key=lambda unit: means.get(unit.name, 0.0))[:_MOST_PICTURED]
    for unit in units:
        for template in _held(templates, unit):
            answer = answers.get((unit.name, template.name))
            if answer is not None and answer.shape == template.array.shape:
                yield _shown(unit, template, answer, definition, f"{report.metric} {means.get(unit.name, np.nan):.3f}")


def _held(templates: Sequence[Template], unit: Unit) -> list[Template]:
    """Return a unit's examples as they are now; none where the template lost slices since."""
    sizes = {one.name: len(one.array) for one in templates}
    fits = all(place < sizes[name] for name in unit.templates for place in unit.slices)
    return held_out(templates, unit) if fits else []


def _shown(unit: Unit, template: Template, answer: LeftOutAnswer, definition: TaskDefinition, scored: str) -> _Shown:
    names = {label.value: label.name for label in definition.labels}
    found: Structures = answer.label_map
    truth: Structures = template.label_map
    if definition.kind is TaskKind.LANDMARKS:
        found = {one.label_value: one.index for one in answer.landmarks if one.index is not None}
        truth = {point.label_value: (float(point.slice_index), point.row, point.column) for point in template.points}
    numbers = tuple(index + 1 for index in template.slice_indices)
    overlay = overlay_png(template, found, names, truth=truth, settings=replace(_SHEET, slice_numbers=numbers))
    sheet = replace(_UNSURE_SHEET, slice_numbers=numbers)
    unsure = overlay_png(_unsure(template, answer), found, names, truth=truth, settings=sheet)
    return _Shown(unit.name, f"{template.name}: {scored}", data_url(overlay), data_url(unsure))


def _unsure(template: Template, answer: LeftOutAnswer) -> _Unsure:
    rows, columns = template.array.shape[1:]
    planes = [
        np.asarray(Image.fromarray(plane).resize((columns, rows), Image.Resampling.BILINEAR)) / np.float32(255)
        for plane in answer.unsure
    ]
    return _Unsure(np.stack(planes).astype(np.float32), template.spacing_mm)
