"""Teaching a lesson's task: the same steps that an administrator types."""

from fewshot_node.demo.cases import Lesson
from fewshot_node.models import Models
from fewshot_node.tasks.codes import parse_label
from fewshot_node.tasks.registry import Registry
from fewshot_node.tasks.rule_text import parse_rule
from fewshot_node.tasks.selection import TemplateSelection
from fewshot_node.tasks.task import TaskDefinition
from fewshot_node.tasks.templates import read_template


def teach(lesson: Lesson, registry: Registry, models: Models) -> float:
    """Register, fit and publish one task; return the seconds of the fit."""
    definition = TaskDefinition(
        name=lesson.task,
        kind=lesson.kind,
        labels=tuple(parse_label(text, lesson.kind) for text in lesson.labels),
        rules=tuple(parse_rule(text) for text in lesson.rules),
    )
    registry.add(definition)
    for case in lesson.templates:
        registry.add_template(lesson.task, read_template(case.files, case.truth, definition, TemplateSelection()))
    report = registry.fit(lesson.task, models.encoder)
    registry.publish(lesson.task)
    return report.seconds


def as_commands(lesson: Lesson) -> list[str]:
    """Return the command lines that do the same."""
    labels = " ".join(f'--label "{label}"' for label in lesson.labels)
    rules = " ".join(f'--rule "{rule}"' for rule in lesson.rules)
    return [
        f"fewshot-node task add {lesson.task} --kind {lesson.kind} {labels} {rules}",
        *(
            f"fewshot-node template add {lesson.task} --series {case.files[0].parent} --labels {case.truth}"
            for case in lesson.templates
        ),
        f"fewshot-node task fit {lesson.task}",
        f"fewshot-node task publish {lesson.task}",
    ]
