"""A fitted task asked about an example whose truth is known."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from fewshot_node.records import FeatureMap, Label, LabelArray, Landmark, Localization, TaskKind
from fewshot_node.scoring.answers import Prediction, Query
from fewshot_node.scoring.scores import Score, score_landmarks, score_masks
from fewshot_node.tasks.answer import locate, refine_located
from fewshot_node.tasks.points import LandmarkPoint
from fewshot_node.tasks.task import TaskDefinition
from fewshot_node.tasks.templates import Template
from fewshot_node.vision.adapters import Adapter
from fewshot_node.vision.backbone import DenseEncoder
from fewshot_node.vision.encode import encode
from fewshot_node.vision.feature_cache import FeatureCache
from fewshot_node.vision.intensity import intensity_ranges
from fewshot_node.vision.refine import RefineSettings
from fewshot_node.vision.sam import SamEngine

Index = tuple[float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class TemplateTruth:
    """A template as what an answer is compared with; see `scoring.answers.Truth`."""

    label_map: LabelArray
    points: Mapping[int, Index]
    spacing_mm: tuple[float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What an adapter saw on an example, before refinement.

    Attributes
    ----------
    stretches
        The example's slices as stretches that follow each other in the series, each with what was located on it;
        none where nothing could be learnt.
    """

    template: Template
    stretches: tuple[tuple[slice, Localization], ...]

    @property
    def unsure(self) -> NDArray[np.uint8]:
        """uint8 (slices, h, w) on the feature grid: 0 where one class has all of the score, 255 where none leads."""
        if not self.stretches:
            return np.full((len(self.template.array), 1, 1), 255, dtype=np.uint8)
        shares = [softmax(located.scores, axis=1).max(axis=1) for _, located in self.stretches]
        unsure: NDArray[np.uint8] = np.rint(255 * (1 - np.concatenate(shares))).astype(np.uint8)
        return unsure


def template_features(
    template: Template, task: TaskDefinition, encoder: DenseEncoder, cache: FeatureCache | None
) -> FeatureMap:
    """Encode an example's slices as the whole series would be."""
    settings = task.settings.encode
    ranges = intensity_ranges(template.intensity_sample, template.modality, settings.intensity, encoder.in_channels)
    return encode(template.array, template.modality, encoder, settings, cache, ranges)


def see(task: TaskDefinition, adapter: Adapter, template: Template, features: FeatureMap) -> Seen:
    """Locate a task's labels on an example.

    Masks are sought stretch by stretch: slices that are far apart in the series are no neighbours. Landmarks
    are sought over all slices at once, for each has one place in a series.
    """
    stretches = list(_stretches(template.slice_indices))
    if task.kind is TaskKind.LANDMARKS:
        if len(stretches) > 1:
            settings = replace(task.settings.landmarks, smoothing_mm=0.0)
            task = replace(task, settings=replace(task.settings, landmarks=settings))
        stretches = [slice(0, len(template.array))]
    located = []
    for part in stretches:
        own = FeatureMap(features.array[part], features.image_shape)
        located.append((part, locate(task, adapter, own, _query(template, part))))
    return Seen(template, tuple(located))


def answered(seen: Seen, settings: RefineSettings, sam: SamEngine | None) -> Prediction:
    """Return the answer with a refinement; landmarks, and masks with the engine ``none``, stay as they were seen."""
    label_map = np.zeros(seen.template.array.shape, dtype=np.uint8)
    landmarks: list[Landmark] = []
    for part, located in seen.stretches:
        label_map[part] = located.label_map
        landmarks += located.landmarks
        if settings.engine != "none" and not located.landmarks:
            label_map[part] = refine_located(_query(seen.template, part), located, settings, sam).label_map
    return Prediction(label_map, landmarks=tuple(landmarks))


def score(kind: TaskKind, template: Template, prediction: Prediction, labels: tuple[Label, ...]) -> Iterator[Score]:
    """Score an answer against the example's own annotation."""
    if kind is TaskKind.LANDMARKS:
        placed = replace(prediction, landmarks=tuple(_in_series(one, template) for one in prediction.landmarks))
        truth = TemplateTruth(template.label_map, _nearest(template, placed.landmarks), template.spacing_mm)
        return score_landmarks(placed, truth, labels)
    return score_masks(prediction, TemplateTruth(template.label_map, {}, template.spacing_mm), labels)


def _stretches(indices: Sequence[int]) -> Iterator[slice]:
    """Yield runs of slices that follow each other in the series."""
    start = 0
    for place in range(1, len(indices) + 1):
        if place == len(indices) or indices[place] != indices[place - 1] + 1:
            yield slice(start, place)
            start = place


def _query(template: Template, part: slice) -> Query:
    return Query(template.array[part], template.modality, template.spacing_mm)


def _in_series(landmark: Landmark, template: Template) -> Landmark:
    """Put a landmark onto the series' own slices: those of a template need not follow each other."""
    if landmark.index is None:
        return landmark
    place = min(max(round(landmark.index[0]), 0), len(template.slice_indices) - 1)
    at = template.slice_indices[place] + landmark.index[0] - place
    return replace(landmark, index=(at, *landmark.index[1:]))


def _nearest(template: Template, landmarks: Sequence[Landmark]) -> dict[int, Index]:
    """Return each label's point; of several, as of a structure cut by several slices, the one nearest to the answer."""
    found = {one.label_value: one.index for one in landmarks}
    nearest: dict[int, Index] = {}
    for value in sorted({point.label_value for point in template.points}):
        places = [_place(point, template) for point in template.points if point.label_value == value]
        answer = found.get(value)
        if answer is None:
            nearest[value] = places[0]
            continue
        distances = [np.linalg.norm(np.subtract(place, answer) * template.spacing_mm) for place in places]
        nearest[value] = places[int(np.argmin(distances))]
    return nearest


def _place(point: LandmarkPoint, template: Template) -> Index:
    return float(template.slice_indices[point.slice_index]), point.row, point.column
