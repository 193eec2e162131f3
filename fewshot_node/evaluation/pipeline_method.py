"""The node's own chain as a row of the comparison, with any settings."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fewshot_node.records import FeatureMap
from fewshot_node.scoring.answers import Prediction, Query
from fewshot_node.tasks.answer import answer
from fewshot_node.tasks.fit import fit_task
from fewshot_node.tasks.task import TaskDefinition, TaskSettings
from fewshot_node.tasks.templates import Template
from fewshot_node.vision.adapters import Adapter
from fewshot_node.vision.backbone import DenseEncoder
from fewshot_node.vision.encode import encode
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
        features, reused_s = self.memory.features(query, self.definition.settings)
        return replace(answer(self.definition, self.adapter, features, query, self.sam), reused_s=reused_s)


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
