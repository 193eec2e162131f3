"""What differs between two revisions of a task, or between a revision and the draft."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewshot_node.errors import UnknownTaskError
from fewshot_node.tasks.approval import revision_score, score_of_draft
from fewshot_node.tasks.crossval.store import CrossvalScore
from fewshot_node.tasks.registry import Registry
from fewshot_node.tasks.storage import file_digest, read_json
from fewshot_node.tasks.task import TaskDefinition, definition_to_data
from fewshot_node.tasks.template_store import load_template, template_names

DRAFT = "draft"
_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that two revisions say otherwise; empty where one of them says nothing of it."""

    what: str
    first: str
    second: str


def task_differences(registry: Registry, name: str, first: str, second: str) -> tuple[Difference, ...]:
    """Compare two revisions of a task, each a number or ``draft``.

    Raises
    ------
    UnknownTaskError
        There is no such task or revision.
    TaskError
        A revision's files were altered.
    """
    sides = [dict(_facts(registry, name, which)) for which in (first, second)]
    if DRAFT in (first, second):  # which pins no refiner before it is published
        for side in sides:
            side.pop("refiner", None)
    return tuple(
        Difference(what, *(side.get(what, "") for side in sides))
        for what in dict.fromkeys([*sides[0], *sides[1]])
        if sides[0].get(what) != sides[1].get(what)
    )


def _facts(registry: Registry, name: str, which: str) -> Iterator[tuple[str, str]]:
    """Yield everything that can differ, by what it is called."""
    if which == DRAFT:
        draft = registry.draft_folder(name)
        yield from _of_definition(registry.definition(name))
        yield from _of_files(draft)
        yield from _of_score(score_of_draft(draft))
        return
    if not which.isdecimal():
        raise UnknownTaskError(f"task {name} has no revision {which!r}: give its number, or {DRAFT}")
    published = registry.published(name, int(which))
    yield from _of_definition(published.definition)
    yield from _of_files(published.folder)
    yield "refiner", (published.refiner_digest or "none")[:_DIGITS]
    yield from _of_score(revision_score(published.folder))


def _of_definition(definition: TaskDefinition) -> Iterator[tuple[str, str]]:
    data = definition_to_data(definition)
    yield "description", definition.description
    for label in definition.labels:
        codes = [label.type, *filter(None, (label.anatomic_region, label.laterality))]
        yield f"label {label.value}", f"{label.name} ({', '.join(f'{code.scheme} {code.value}' for code in codes)})"
    for rule in definition.rules:
        yield f"rule {rule}", "yes"
    yield from _flat(data["settings"], "")


def _flat(data: Mapping[str, Any], above: str) -> Iterator[tuple[str, str]]:
    """Yield each setting by its path."""
    for key, value in data.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", str(value)


def _of_files(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield templates, weights and the encoder that they were fitted to; a draft may not be fitted yet."""
    for template in template_names(folder / "templates"):
        yield f"template {template}", load_template(folder / "templates", template).digest()[:_DIGITS]
    if (folder / "fit.json").is_file():
        yield "encoder", str(read_json(folder / "fit.json")["encoder_digest"])[:_DIGITS]
        yield "adapter weights", file_digest(folder / "adapter.safetensors")[:_DIGITS]


def _of_score(score: CrossvalScore | None) -> Iterator[tuple[str, str]]:
    if score is not None:
        stale = f"; {score.stale}" if score.stale else ""
        yield "crossvalidated", f"{score.metric} {score.mean:.2f} ({score.low:.2f} to {score.high:.2f}){stale}"
