"""The least crossvalidated score with which a site lets a task send results, and what a revision scored.

A revision notes the score of its draft when it is published, in its provenance, where it is no part of the digest.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from fewshot_node.errors import TaskError
from fewshot_node.tasks.crossval.store import CrossvalScore, crossval_score
from fewshot_node.tasks.storage import read_json
from fewshot_node.tasks.task import definition_from_data
from fewshot_node.tasks.template_store import load_template, template_names

NOTE = "score"
"""Key of a revision's provenance."""
_PROVENANCE = "provenance.json"
_SCORE = TypeAdapter(CrossvalScore)


def score_of_draft(draft: Path) -> CrossvalScore | None:
    """Return the crossvalidated score of the draft in a folder, and whether it still holds; None without one."""
    path = draft / "definition.json"
    definition = definition_from_data(read_json(path), str(path))
    names = template_names(draft / "templates")
    return crossval_score(draft, definition, [load_template(draft / "templates", name) for name in names])


def score_note(draft: Path) -> dict[str, Any]:
    """Return what a revision's provenance says of its draft's score: nothing where none holds."""
    score = score_of_draft(draft)
    return {NOTE: asdict(score)} if score is not None and score.is_current else {}


def revision_score(revision: Path) -> CrossvalScore | None:
    """Return the score that a revision was published with; None where it was not scored.

    Raises
    ------
    TaskError
        The note was altered.
    """
    found = read_json(revision / _PROVENANCE).get(NOTE)
    if found is None:
        return None
    try:
        return _SCORE.validate_python(found)
    except ValidationError as error:
        raise TaskError(f"{revision / _PROVENANCE}: its score cannot be read: publish the task again") from error


def require_score(
    name: str, score: CrossvalScore | None, minimum: float | None, or_else: str, *, imported: bool = False
) -> None:
    """Refuse a task that did not reach the least score; None asks for nothing.

    Parameters
    ----------
    or_else
        What can be done without the score, for the message.
    imported
        It came from another site: only there can it be crossvalidated again.

    Raises
    ------
    TaskError
        It was not scored, the score no longer holds, or it is below; the message says what to do.
    """
    if minimum is None:
        return
    rule = f"this site asks for a crossvalidated score of {minimum:g} (publish.minimum_score)"
    again = f"task crossval {name}, then publish"
    better = f"add or correct templates, {again}"
    if imported:
        again = better = "get a revision that reached it from where this one came"
    if score is None:
        raise TaskError(f"task {name} was not crossvalidated, and {rule}: {again}; or {or_else}")
    if not score.is_current:
        raise TaskError(f"task {name}: {score.stale}, so its score no longer holds, and {rule}: {again}; or {or_else}")
    if score.mean < minimum:
        reached = f"{score.metric} {score.mean:.2f} ({score.low:.2f} to {score.high:.2f})"
        raise TaskError(f"task {name} reached {reached}, and {rule}: {better}; or {or_else}")
