"""A fitted task applied to arrays, as `pipeline.analyse` applies a published one to a series."""

from fewshot_node.records import FeatureMap, Localization, Masks, TaskKind
from fewshot_node.scoring.answers import Prediction, Query
from fewshot_node.tasks.task import TaskDefinition
from fewshot_node.vision.adapters import Adapter
from fewshot_node.vision.landmarks import locate_landmarks
from fewshot_node.vision.localize import localize
from fewshot_node.vision.prompts import place_prompts
from fewshot_node.vision.refine import RefineSettings, refine
from fewshot_node.vision.sam import SamEngine


def locate(definition: TaskDefinition, adapter: Adapter, features: FeatureMap, query: Query) -> Localization:
    """Return what the adapter says of a query, before any refinement."""
    settings = definition.settings
    if definition.kind is TaskKind.LANDMARKS:
        return locate_landmarks(features, adapter, query.spacing_mm, settings.landmarks)
    return localize(features, adapter, query.spacing_mm, settings.cleaning)


def refine_located(query: Query, located: Localization, settings: RefineSettings, sam: SamEngine | None) -> Masks:
    """Refine the masks of a segmentation task.

    Raises
    ------
    ConfigurationError
        The settings ask for SAM and there is none.
    """
    prompts = place_prompts(located, settings.prompts)
    return refine(query.array, query.modality, located, prompts, sam, settings)


def answer(
    definition: TaskDefinition, adapter: Adapter, features: FeatureMap, query: Query, sam: SamEngine | None = None
) -> Prediction:
    """Locate and, for masks, refine.

    Raises
    ------
    ConfigurationError
        The task refines with SAM and there is none.
    """
    located = locate(definition, adapter, features, query)
    settings = definition.settings.refine
    if definition.kind is TaskKind.LANDMARKS or settings.engine == "none":
        return Prediction(located.label_map, landmarks=located.landmarks)
    return Prediction(refine_located(query, located, settings, sam).label_map, coarse=located.label_map)
