"""How a promptable model is asked."""

from dataclasses import dataclass

from fewshot_node.errors import TaskError

STRATEGIES = ("random", "box", "ours")

PAPER_POINTS = 10


@dataclass(frozen=True, slots=True)
class PromptSettings:
    """Which prompts are made of a localized region (method.md step 9).

    Attributes
    ----------
    strategy
        ``"random"``: random pixels of the region (paper, section 2.3). ``"box"``: its bounding box (paper,
        Fig. 12). ``"ours"``: points far from each other inside the eroded region, points on a ring around
        it where the adapter is sure that the label is not, the box, and the adapter's logits as mask input.
    points
        Positive points of ``"random"`` and ``"ours"``.
    negatives
        Negative points of ``"ours"``.
    mask_input
        Whether ``"ours"`` gives the adapter's logits.
    per_component
        Ask about every connected component by itself; None: as the strategy has it, ``"ours"`` does.
    draws
        How often prompts are drawn for a region; from 2 on the masks' disagreement is an uncertainty.
    seed
        Of all draws.
    """

    strategy: str = "random"
    points: int = PAPER_POINTS
    negatives: int = 5
    mask_input: bool = True
    per_component: bool | None = None
    draws: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise TaskError(f"refine.prompts.strategy: {self.strategy!r}; give one of {', '.join(STRATEGIES)}")
        if self.points < 1:
            raise TaskError(f"refine.prompts.points is {self.points}; give 1 or more")
        if self.negatives < 0:
            raise TaskError(f"refine.prompts.negatives is {self.negatives}; give 0 or more")
        if not 1 <= self.draws <= 32:
            raise TaskError(f"refine.prompts.draws is {self.draws}; give 1 (no uncertainty) to 32")
        if self.seed < 0:
            raise TaskError(f"refine.prompts.seed is {self.seed}; give 0 or more")

    @property
    def splits(self) -> bool:
        """Whether every component is asked about by itself."""
        return self.strategy == "ours" if self.per_component is None else self.per_component
