"""What a task's draft takes: templates and definitions that go with what it has already."""

from collections.abc import Sequence

from fewshot_node.errors import TaskError, TemplateError
from fewshot_node.tasks.task import TaskDefinition
from fewshot_node.tasks.templates import Template


def require_fitting_definition(new: TaskDefinition, old: TaskDefinition, templates: Sequence[Template]) -> None:
    """Refuse a definition that contradicts a task as it is.

    Raises
    ------
    TaskError
        The kind changes, or templates show labels that the new definition lacks.
    """
    if old.kind != new.kind:
        raise TaskError(f"task {old.name} is a {old.kind} task and stays one: add another task")
    for template in templates:
        stray = _stray_labels(template, new)
        if stray:
            raise TaskError(
                f"task {old.name}: template {template.name} shows label {stray}, "
                "which the new definition lacks: keep the label or remove the template (template remove)"
            )


def require_fitting_template(template: Template, definition: TaskDefinition, others: Sequence[Template]) -> None:
    """Refuse an annotated example that does not go with a task and the templates that it has.

    Raises
    ------
    TemplateError
        It shows labels that the task does not have, its name is taken, it repeats another template or its
        modality differs.
    """
    stray = _stray_labels(template, definition)
    if stray:
        raise TemplateError(
            f"template {template.name} shows label {stray}, which task {definition.name} does not have: "
            "add it (task change)"
        )
    for other in others:
        _require_compatible(template, other, definition.name)


def _stray_labels(template: Template, definition: TaskDefinition) -> list[int]:
    return sorted(set(template.label_values) - set(definition.label_values))


def _require_compatible(template: Template, other: Template, task: str) -> None:
    if template.name == other.name:
        raise TemplateError(
            f"task {task} has a template {template.name}: choose another name, or remove it first (template remove)"
        )
    if template.content_digest() == other.content_digest():
        raise TemplateError(
            f"template {template.name} repeats {other.name} of task {task} "
            f"(series {other.series_instance_uid}): give another series or other slices"
        )
    if template.modality != other.modality:
        raise TemplateError(
            f"template {template.name} is {template.modality}, but template {other.name} of task {task} is "
            f"{other.modality}: make one task for each modality"
        )
