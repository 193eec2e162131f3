"""Names on the command line to rows of the comparison."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from fewshot_node.errors import EvaluationError
from fewshot_node.evaluation.compare import Entry
from fewshot_node.evaluation.pipeline_method import FeatureMemory, PipelineMethod
from fewshot_node.tasks.task import TaskSettings, usual_refinement
from fewshot_node.vision.adapters import ADAPTERS
from fewshot_node.vision.prompts import STRATEGIES
from fewshot_node.vision.refine import ENGINES, RefineSettings
from fewshot_node.vision.sam import SamEngine

DEFAULT = "default"
# Heads that are one for all labels only.
_ONE_HEAD = ("prototype", "lda", "context")
METHODS = (DEFAULT, *ADAPTERS, *(f"{name}-binary" for name in ADAPTERS if name not in _ONE_HEAD))


def entries(
    methods: Sequence[str],
    refines: Sequence[str],
    encoder: str,
    memory: FeatureMemory,
    sam: SamEngine | None = None,
    prompts: Sequence[str] = (),
) -> list[Entry]:
    """Return a row for each method with each refinement and, where there is one, each prompt strategy.

    No refinement named means each method's own default, no strategy named each refinement's own.

    Raises
    ------
    EvaluationError
        A name is unknown, or SAM is asked for without a checkpoint.
    """
    rows = []
    for method in methods:
        settings = _settings(method)
        for refine in refines or [settings.refine.engine]:
            if refine not in ENGINES:
                raise EvaluationError(f"refinement {refine!r} is unknown; give one of {', '.join(ENGINES)}")
            if refine == "sam" and sam is None:
                raise EvaluationError("refinement by SAM needs its checkpoint: give --sam FOLDER")
            for told, refinement in _prompted(refine, prompts):
                own = replace(settings, refine=refinement)
                rows.append(Entry(PipelineMethod(method, own, memory, sam), encoder, told))
    return rows


def _prompted(refine: str, prompts: Sequence[str]) -> Iterator[tuple[str, RefineSettings]]:
    """Yield what a table says of a refinement, and its settings."""
    usual = usual_refinement(refine)
    if refine == "none" or not prompts:
        yield refine, usual
        return
    for strategy in prompts:
        if strategy not in STRATEGIES:
            raise EvaluationError(f"prompts {strategy!r} are unknown; give one of {', '.join(STRATEGIES)}")
        yield f"{refine}:{strategy}", replace(usual, prompts=replace(usual.prompts, strategy=strategy))


def _settings(method: str) -> TaskSettings:
    if method not in METHODS:
        raise EvaluationError(f"method {method!r} is unknown; give one of {', '.join(METHODS)}")
    settings = TaskSettings()
    if method == DEFAULT:
        return settings
    name = method.removesuffix("-binary")
    mode = "binary" if method.endswith("-binary") else "multilabel"
    return replace(settings, adapter=replace(settings.adapter, name=name, mode=mode))
