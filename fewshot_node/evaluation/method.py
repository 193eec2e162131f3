"""What can be compared: anything that learns from templates and answers for a new patient."""

from collections.abc import Sequence
from typing import Protocol

from fewshot_node.scoring.answers import Prediction, Query
from fewshot_node.tasks.task import TaskDefinition
from fewshot_node.tasks.templates import Template


class FittedMethod(Protocol):
    """A method that has seen its templates."""

    def predict(self, query: Query) -> Prediction:
        """Answer for one patient; the same query gives the same answer."""


class Method(Protocol):
    """A row of the comparison: our pipeline with some settings, or a rival."""

    @property
    def name(self) -> str:
        """Name of the row."""

    def fit(self, definition: TaskDefinition, templates: Sequence[Template]) -> FittedMethod:
        """Learn from templates.

        Raises
        ------
        TemplateError
            The templates do not show every label.
        """
