"""Names on the command line to rows of the comparison."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from fewshot_node.errors import EvaluationError
from fewshot_node.evaluation.baselines import PerSam, PerSamF, RivalMethod, ScratchUNet, UniverSegLearner
from fewshot_node.evaluation.compare import Entry
from fewshot_node.evaluation.pipeline_method import FeatureMemory, PipelineMethod
from fewshot_node.tasks.task import TaskSettings, usual_refinement
from fewshot_node.vision.adapters import ADAPTERS
from fewshot_node.vision.backbone import load_encoder
from fewshot_node.vision.prompts import STRATEGIES
from fewshot_node.vision.refine import ENGINES, RefineSettings
from fewshot_node.vision.sam import SamEngine, load_sam
from fewshot_node.vision.universeg import UniverSegModel, load_universeg

DEFAULT = "default"
# Heads that are one for all labels only.
_ONE_HEAD = ("prototype", "lda", "context")
RIVALS = ("persam", "persam-f", "universeg", "unet-scratch")
METHODS = (DEFAULT, *ADAPTERS, *(f"{name}-binary" for name in ADAPTERS if name not in _ONE_HEAD), *RIVALS)

_EMBEDDED = "embedded"
_MEANINGLESS = "-"


@dataclass(frozen=True)
class Models:
    """Where the rows' models come from; each is loaded when the first row needs it.

    Attributes
    ----------
    encoder, sam, universeg
        Folder, file or hub name; ``"embedded"`` is the packaged one.
    """

    encoder: str = _EMBEDDED
    sam: str = _EMBEDDED
    universeg: str = _EMBEDDED

    @cached_property
    def memory(self) -> FeatureMemory:
        """The encoder, and the features that it has made."""
        return FeatureMemory(load_encoder(self.encoder))

    @cached_property
    def sam_engine(self) -> SamEngine:
        """The promptable model."""
        return load_sam(self.sam)

    @cached_property
    def universeg_model(self) -> UniverSegModel:
        """The network that is shown the templates."""
        return load_universeg(self.universeg)


def entries(methods: Sequence[str], refines: Sequence[str], models: Models, prompts: Sequence[str] = ()) -> list[Entry]:
    """Return a row for each method with each refinement and, where there is one, each prompt strategy.

    No refinement named means each method's own default, no strategy named each refinement's own. Rivals are whole
    methods: they make one row each, without refinement.

    Raises
    ------
    EvaluationError
        A name is unknown.
    """
    rows = []
    for method in methods:
        if method in RIVALS:
            rows.append(_rival(method, models))
            continue
        settings = _settings(method)
        for refine in refines or [settings.refine.engine]:
            if refine not in ENGINES:
                raise EvaluationError(f"refinement {refine!r} is unknown; give one of {', '.join(ENGINES)}")
            for told, refinement in _prompted(refine, prompts):
                own = replace(settings, refine=refinement)
                sam = models.sam_engine if refinement.needs_model else None
                rows.append(Entry(PipelineMethod(method, own, models.memory, sam), models.encoder, told))
    return rows


def _rival(name: str, models: Models) -> Entry:
    """Return a rival's row; PerSAM's encoder is SAM's own, the others have none."""
    if name == "persam":
        return Entry(RivalMethod(PerSam(models.sam_engine)), f"sam:{models.sam}", _MEANINGLESS)
    if name == "persam-f":
        return Entry(RivalMethod(PerSamF(models.sam_engine)), f"sam:{models.sam}", _MEANINGLESS)
    if name == "universeg":
        return Entry(RivalMethod(UniverSegLearner(models.universeg_model)), _MEANINGLESS, _MEANINGLESS)
    return Entry(RivalMethod(ScratchUNet()), _MEANINGLESS, _MEANINGLESS)


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
