"""What the rivals share: they learn from single slices, and answer slice by slice."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewshot_node.errors import TemplateError
from fewshot_node.records import LabelArray, Landmark, TaskKind
from fewshot_node.scoring.answers import Prediction, Query
from fewshot_node.tasks.task import TaskDefinition
from fewshot_node.tasks.templates import Template
from fewshot_node.vision.intensity import IntensitySettings, apply_ranges, intensity_ranges, normalise
from fewshot_node.vision.landmarks import disc_labels
from fewshot_node.vision.localize import ComponentRule, keep_components

_INTENSITY = IntensitySettings(ct_windows=((40.0, 400.0),))
_WHOLE = ComponentRule("largest", min_volume_mm3=0.0, min_share=0.0)


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One annotated slice: float32 (rows, columns) on 0..1 and uint8 label values of the same shape."""

    image: NDArray[np.float32]
    labels: LabelArray


class SliceModel(Protocol):
    """What a rival has learnt."""

    def label_logits(self, image: NDArray[np.float32]) -> Tensor:
        """Return (labels, rows, columns) logits, in the order learnt, of a slice (rows, columns) on 0..1.

        A pixel belongs to the label of the highest logit, and to none where all are 0 or less.
        """
        ...


class SliceLearner(Protocol):
    """A rival."""

    @property
    def name(self) -> str:
        """Name of the row."""
        ...

    def learn(self, examples: Sequence[Example], label_values: tuple[int, ...]) -> SliceModel:
        """Learn from slices, each label shown by one at least; the same slices give the same model."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class RivalMethod:
    """A rival as a row of the comparison.

    It sees CT in the soft-tissue window and other images between their volume's percentiles, as a SAM does that
    refines. Landmarks are learnt as discs; the centre of a label's largest component is then its landmark, and
    without one it is absent.
    """

    learner: SliceLearner

    @property
    def name(self) -> str:
        """Name of the row."""
        return self.learner.name

    def fit(self, definition: TaskDefinition, templates: Sequence[Template]) -> "FittedRival":
        """Learn from the templates' slices.

        Raises
        ------
        TemplateError
            No template shows a label.
        """
        examples = [example for template in templates for example in _examples(template)]
        for label in definition.labels:
            if not any((example.labels == label.value).any() for example in examples):
                raise TemplateError(f"no template shows {label.value}={label.name}; add one that does")
        return FittedRival(definition, self.learner.learn(examples, definition.label_values))


@dataclass(frozen=True, slots=True, eq=False)
class FittedRival:
    """A rival that has learnt a task."""

    definition: TaskDefinition
    model: SliceModel

    def predict(self, query: Query) -> Prediction:
        """Answer for one patient, a slice at a time."""
        images = normalise(query.array, query.modality, _INTENSITY)[:, 0]
        values = torch.tensor(self.definition.label_values, dtype=torch.uint8)
        label_map = np.stack([_decide(self.model.label_logits(image), values) for image in images])
        if self.definition.kind is not TaskKind.LANDMARKS:
            return Prediction(label_map)
        return Prediction(
            label_map, landmarks=tuple(_centre(label_map, value) for value in self.definition.label_values)
        )


def _examples(template: Template) -> Iterator[Example]:
    ranges = intensity_ranges(template.intensity_sample, template.modality, _INTENSITY, 1)
    images = apply_ranges(template.array, ranges)[:, 0]
    for index, (image, labels) in enumerate(zip(images, template.label_map, strict=True)):
        points = {p.label_value: (p.row, p.column) for p in template.points if p.slice_index == index}
        yield Example(image, disc_labels(points, (len(image), image.shape[1])) if points else labels)


def _decide(logits: Tensor, values: Tensor) -> LabelArray:
    highest, label = logits.cpu().max(dim=0)
    decided: LabelArray = torch.where(highest > 0, values[label], 0).numpy().astype(np.uint8)
    return decided


def _centre(label_map: LabelArray, value: int) -> Landmark:
    mask = label_map == value
    if not mask.any():
        return Landmark(value, None, 0.0)
    slice_, row, column = np.argwhere(keep_components(mask, 1.0, _WHOLE)).mean(axis=0).tolist()
    return Landmark(value, (slice_, row, column), 1.0)
