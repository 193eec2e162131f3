"""Teaching a lesson's task: the same steps that an administrator types."""

import shlex
from pathlib import Path

from fewshot_node.demo.cases import Lesson
from fewshot_node.models import Models
from fewshot_node.tasks.codes import parse_label
from fewshot_node.tasks.registry import Registry
from fewshot_node.tasks.rule_text import parse_rule
from fewshot_node.tasks.selection import TemplateSelection
from fewshot_node.tasks.task import TaskDefinition
from fewshot_node.tasks.templates import read_template


def define(lesson: Lesson) -> TaskDefinition:
    """Return the task that a lesson teaches."""
    return TaskDefinition(
        name=lesson.task,
        kind=lesson.kind,
        labels=tuple(parse_label(text, lesson.kind) for text in lesson.labels),
        rules=tuple(parse_rule(text) for text in lesson.rules),
    )


def select(lesson: Lesson) -> TemplateSelection:
    """Return what is taken from a lesson's annotated series."""
    return TemplateSelection(ignore_others=lesson.ignore_others)


def teach(lesson: Lesson, registry: Registry, models: Models) -> float:
    """Register, fit and publish one task; return the seconds of the fit."""
    definition = define(lesson)
    registry.add(definition)
    for case in lesson.templates:
        registry.add_template(lesson.task, read_template(case.files, case.truth, definition, select(lesson)))
    report = registry.fit(lesson.task, models.encoder)
    registry.publish(lesson.task)
    return report.seconds


def as_commands(lesson: Lesson, config: Path) -> list[str]:
    """Return the command lines that do the same to the node with these settings."""
    node = ["fewshot-node", "--config", str(config)]
    labels = [part for label in lesson.labels for part in ("--label", label)]
    rules = [part for rule in lesson.rules for part in ("--rule", rule)]
    others = ["--ignore-others"] if lesson.ignore_others else []
    commands = [[*node, "task", "add", lesson.task, "--kind", str(lesson.kind), *labels, *rules]]
    for case in lesson.templates:
        files = ["--series", str(case.files[0].parent), "--labels", str(case.truth)]
        commands.append([*node, "template", "add", lesson.task, *files, *others])
    commands += [[*node, "task", "fit", lesson.task], [*node, "task", "publish", lesson.task]]
    return [shlex.join(command) for command in commands]
