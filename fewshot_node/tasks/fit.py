"""Templates -> features -> support -> adapter."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

from fewshot_node.errors import TaskError, TemplateError
from fewshot_node.tasks.progress import Watch, steps_watched, unwatched
from fewshot_node.tasks.support import build_support
from fewshot_node.tasks.task import TaskDefinition, definition_to_data
from fewshot_node.tasks.templates import Template
from fewshot_node.uids import digest_parts
from fewshot_node.vision.adapters import Adapter, fit_adapter
from fewshot_node.vision.backbone import DenseEncoder
from fewshot_node.vision.feature_cache import FeatureCache


@dataclass(frozen=True, slots=True)
class FitReport:
    """What a task was learnt from, and how long it took.

    Attributes
    ----------
    slices, negative_slices
        Template slices, and those of them that show no label.
    labels
        How many labels were learnt.
    """

    seconds: float
    templates: int
    slices: int
    negative_slices: int
    labels: int


def fit_task(
    definition: TaskDefinition,
    templates: Sequence[Template],
    encoder: DenseEncoder,
    cache: FeatureCache | None = None,
    watch: Watch = unwatched,
) -> tuple[Adapter, FitReport]:
    """Fit a task's adapter to its templates; the same input gives the same adapter.

    Parameters
    ----------
    cache
        Where the templates' features are kept: a fit that was interrupted does not encode them again.
    watch
        Told how far it is.

    Raises
    ------
    TaskError
        There is no template.
    TemplateError
        A label is shown by no template; the message names it.
    """
    started = time.perf_counter()
    _require_examples(definition, templates)
    support = build_support(definition, templates, encoder, cache, watch)
    with steps_watched(watch, definition.settings.adapter.steps):
        adapter = fit_adapter(support, definition.settings.adapter)
    slices = sum(len(template.array) for template in templates)
    annotated = sum(template.annotated_slices for template in templates)
    seconds = time.perf_counter() - started
    return adapter, FitReport(seconds, len(templates), slices, slices - annotated, len(definition.labels))


def fit_key(definition: TaskDefinition, templates: Sequence[Template], encoder_digest: str) -> str:
    """Digest of all that an adapter depends on; rules and what comes after the adapter do not count."""
    data = definition_to_data(definition)
    learnt = {key: data["settings"][key] for key in ("adapter", "encode", "augment")}
    values = [label.value for label in definition.labels]
    facts = json.dumps([definition.kind, values, learnt, encoder_digest], sort_keys=True)
    return digest_parts((facts.encode(), *(f"{one.name}:{one.digest()}".encode() for one in templates)))


def _require_examples(definition: TaskDefinition, templates: Sequence[Template]) -> None:
    if not templates:
        raise TaskError(f"task {definition.name} has no template: add one (template add), then fit")
    shown = {value for template in templates for value in template.label_values}
    missing = [f"{label.value}={label.name}" for label in definition.labels if label.value not in shown]
    if missing:
        raise TemplateError(
            f"task {definition.name}: no template shows {', '.join(missing)}: add a template that does "
            "(template add), or give the task only the other labels (task change)"
        )
