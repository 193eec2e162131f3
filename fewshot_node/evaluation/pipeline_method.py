"""The node's own chain as a row of the comparison, with any settings."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fewshot_node.records import FeatureMap, TaskKind
from fewshot_node.scoring.answers import Prediction, Query
from fewshot_node.tasks.fit import fit_task
from fewshot_node.tasks.task import TaskDefinition, TaskSettings
from fewshot_node.tasks.templates import Template
from fewshot_node.vision.adapters import Adapter
from fewshot_node.vision.backbone import DenseEncoder
from fewshot_node.vision.encode import encode
from fewshot_node.vision.landmarks import locate_landmarks
from fewshot_node.vision.localize import localize
from fewshot_node.vision.prompts import place_prompts
from fewshot_node.vision.refine import refine
from fewshot_node.vision.sam import SamEngine


@dataclass(frozen=True, slots=True, eq=False)
class Remembered:
    """A query's features, and what they cost when they were made."""

    query: Query
    features: FeatureMap
    seconds: float


class FeatureMemory:
    """Features of the queries met so far: many methods and draws ask about the same images."""

    def __init__(self, encoder: DenseEncoder) -> None:
        self.encoder = encoder
        self._known: dict[tuple[int, str], Remembered] = {}

    def features(self, query: Query, settings: TaskSettings) -> tuple[FeatureMap, float]:
        """Encode a query, or return what the same object gave before and the seconds saved."""
        key = (id(query), repr(settings.encode))
        if key in self._known:
            return self._known[key].features, self._known[key].seconds
        started = time.perf_counter()
        features = encode(query.array, query.modality, self.encoder, settings.encode)
        # The query is kept too: its identity must not be given to another one.
        self._known[key] = Remembered(query, features, time.perf_counter() - started)
        return features, 0.0


@dataclass(frozen=True, slots=True, eq=False)
class FittedPipeline:
    """A fitted task, applied to arrays as `pipeline.analyse` applies it to volumes."""

    definition: TaskDefinition
    adapter: Adapter
    memory: FeatureMemory
    sam: SamEngine | None

    def predict(self, query: Query) -> Prediction:
        """Localize and refine."""
        settings = self.definition.settings
        features, reused_s = self.memory.features(query, settings)
        if self.definition.kind is TaskKind.LANDMARKS:
            found = locate_landmarks(features, self.adapter, query.spacing_mm, settings.landmarks)
            return Prediction(found.label_map, landmarks=found.landmarks, reused_s=reused_s)
        localization = localize(features, self.adapter, query.spacing_mm, settings.cleaning)
        if settings.refine.engine == "none":
            return Prediction(localization.label_map, reused_s=reused_s)
        prompts = place_prompts(localization, settings.refine.prompts)
        masks = refine(query.array, query.modality, localization, prompts, self.sam, settings.refine)
        return Prediction(masks.label_map, coarse=localization.label_map, reused_s=reused_s)


@dataclass(frozen=True, slots=True, eq=False)
class PipelineMethod:
    """The node's chain under a name."""

    name: str
    settings: TaskSettings
    memory: FeatureMemory
    sam: SamEngine | None = None

    def fit(self, definition: TaskDefinition, templates: Sequence[Template]) -> FittedPipeline:
        """Fit the task with this row's settings."""
        own = replace(definition, settings=self.settings)
        adapter, _ = fit_task(own, templates, self.memory.encoder)
        return FittedPipeline(own, adapter, self.memory, self.sam)
