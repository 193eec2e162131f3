"""Whether and how coarse masks are refined."""

from dataclasses import dataclass, field

from fewshot_node.errors import TaskError
from fewshot_node.vision.intensity import IntensitySettings
from fewshot_node.vision.prompts import PromptSettings

ENGINES = ("none", "sam", "walker")

MAX_ROUNDS = 2


@dataclass(frozen=True, slots=True)
class RefineSettings:
    """Whether and how coarse masks are refined (method.md step 9).

    Attributes
    ----------
    engine
        ``"none"`` keeps every coarse mask, and the counts say so; ``"sam"`` asks the loaded SAM; ``"walker"``
        is the classical control, a random walker that needs no weights.
    iou_gate
        A refined mask is kept where its intersection over union with the coarse one is at least this.
    multimask
        Ask SAM for three masks and take the one that agrees best with the coarse one; else for a single mask.
    intensity
        Of the image that the engine sees; a single CT window by default.
    prompts
        What the engine is asked; also what seeds the walker.
    rounds
        How often SAM is asked again with its own answer as mask input, 0 to 2.
    crop
        Show SAM the surroundings of the regions instead of the whole slice: its pixels go where the organ is.
    crop_margin
        On each side of a region, as a share of the region's longer side.
    """

    engine: str = "none"
    iou_gate: float = 0.5
    multimask: bool = True
    intensity: IntensitySettings = field(default_factory=lambda: IntensitySettings(ct_windows=((40.0, 400.0),)))
    prompts: PromptSettings = field(default_factory=PromptSettings)
    rounds: int = 0
    crop: bool = False
    crop_margin: float = 0.5

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise TaskError(f"refine.engine: {self.engine!r}; give one of {', '.join(ENGINES)}")
        if not 0 <= self.iou_gate <= 1:
            raise TaskError(f"refine.iou_gate is {self.iou_gate}; give a number within 0..1")
        if not 0 <= self.rounds <= MAX_ROUNDS:
            raise TaskError(f"refine.rounds is {self.rounds}; give 0 to {MAX_ROUNDS}")
        if not 0 <= self.crop_margin <= 4:
            raise TaskError(f"refine.crop_margin is {self.crop_margin}; give a share within 0..4")

    @property
    def needs_model(self) -> bool:
        """Whether the engine has weights, which must be loaded and pinned."""
        return self.engine == "sam"
