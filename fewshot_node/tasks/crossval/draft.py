"""Crossvalidation of a registered task's draft, and what follows from it."""

import shutil
from collections.abc import Collection
from dataclasses import replace

from fewshot_node.errors import TaskError
from fewshot_node.tasks.approval import score_of_draft
from fewshot_node.tasks.crossval.answers import save_answers
from fewshot_node.tasks.crossval.records import Candidate, CrossvalReport
from fewshot_node.tasks.crossval.run import CrossvalSettings, crossvalidate
from fewshot_node.tasks.crossval.store import CrossvalScore, crossval_key, crossval_score, load_report, save_report
from fewshot_node.tasks.crossval.trial import Engines
from fewshot_node.tasks.progress import Watch, unwatched
from fewshot_node.tasks.registry import Registry

_SHELF = ".crossval"


def crossvalidate_draft(
    registry: Registry,
    name: str,
    engines: Engines,
    settings: CrossvalSettings | None = None,
    watch: Watch = unwatched,
) -> CrossvalReport:
    """Crossvalidate a task's draft and keep the result beside it; an interrupted one goes on where it was.

    Raises
    ------
    UnknownTaskError
        There is no task of that name.
    TaskError, TemplateError
        As `crossvalidate`.
    """
    definition, templates = registry.definition(name), registry.templates(name)
    draft = registry.draft_folder(name)
    shelf = draft / _SHELF
    found = crossvalidate(definition, templates, replace(engines, shelf=shelf), settings, watch)
    save_answers(draft, found.answers)
    save_report(draft, found.report)
    shutil.rmtree(shelf, ignore_errors=True)
    return found.report


def draft_score(registry: Registry, name: str) -> CrossvalScore | None:
    """Return the crossvalidated score of a task's draft and whether it still holds; see `crossval_score`."""
    return score_of_draft(registry.draft_folder(name))


def current_report(registry: Registry, name: str, adapters: Collection[str]) -> CrossvalReport | None:
    """Return what is kept of a task's draft where it still holds and compared these adapters; else None."""
    report = load_report(registry.draft_folder(name))
    if report is None:
        return None
    definition, templates = registry.definition(name), registry.templates(name)
    holds = crossval_key(definition, templates, report.encoder_digest) == report.key
    compared = {one.candidate.adapter for one in report.results}
    return report if holds and compared >= {*adapters, Candidate.of(definition).adapter} else None


def apply_recommendation(registry: Registry, name: str) -> Candidate:
    """Switch a task's settings to what its crossvalidation recommends, and return that.

    Raises
    ------
    TaskError
        The task was not crossvalidated, or changed since.
    """
    report = load_report(registry.draft_folder(name))
    if report is None:
        raise TaskError(f"task {name} was not crossvalidated: run task crossval {name} first")
    changed = report.recommendation.candidate.applied_to(registry.definition(name))
    score = crossval_score(registry.draft_folder(name), changed, registry.templates(name))
    if score is None or not score.is_current:
        raise TaskError(f"task {name} changed since its crossvalidation: run task crossval {name} again")
    registry.update(changed)
    return report.recommendation.candidate
