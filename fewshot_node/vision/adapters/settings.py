"""How an adapter is fitted."""

from dataclasses import dataclass

from fewshot_node.errors import TaskError

ADAPTERS = ("basic", "classification", "contrastive", "contrastive-concat", "prototype", "lda", "context")
"""Names of the adapters; `AdapterSettings.name` says what each is."""

MODES = ("multilabel", "binary")

_ABOVE_ZERO = ("temperature", "steps", "learning_rate", "batch", "embedding_dim", "hidden_dim")
_COUNTS = ("references", "background_references", "context_width", "batch_slices")
_NOT_BELOW_ZERO = ("position_weight", "retrieval", "smoothing_cells")


@dataclass(frozen=True, slots=True)
class AdapterSettings:
    """How an adapter is fitted and what it compares with.

    Attributes
    ----------
    name
        ``"contrastive"`` (matching head), ``"contrastive-concat"`` (Siamese network with a linear
        softmax over the concatenated pair, as the paper prints it), ``"classification"`` (feed-forward network
        of three layers), ``"basic"`` (mean cosine similarity, the paper's baseline), ``"prototype"`` (nearest
        class mean by cosine), ``"lda"`` (linear discriminant, shared covariance with shrinkage) or ``"context"``
        (a head that sees each place's surroundings: the default, for it won on every suite).
    mode
        ``"multilabel"``: one head for all labels. ``"binary"``: one head for each label against everything
        else; the highest log-odds above 0 wins.
    seed
        Same seed, same support: same adapter.
    threshold
        Similarity below which the basic adapter says background.
    temperature
        Divides the cosine similarities of the contrastive adapter.
    steps, learning_rate, batch
        Of the head's training; `batch` counts pixels.
    embedding_dim, hidden_dim
        Widths of the head.
    position_weight
        How much the place within the field of view counts beside the encoder's features; 0 switches it off.
        The basic adapter and the prototypes never use it.
    references, background_references
        Pixels that stay as references, for each label and for the background, over all templates.
    retrieval
        How strongly template slices that look like the query slice outweigh the others; 0 weighs all alike.
    shrinkage
        Of the linear discriminant's covariance towards a multiple of the identity, 0 to 1.
    context_width, batch_slices
        Channels of the context head at full size, and slices in each of its training steps.
    smoothing_cells
        Standard deviation of a Gaussian within each slice's scores, in cells of the feature grid; 0 switches
        it off. The basic adapter stays as the paper has it.
    """

    name: str = "context"
    mode: str = "multilabel"
    seed: int = 0
    threshold: float = 0.5
    temperature: float = 0.1
    steps: int = 250
    learning_rate: float = 2e-3
    batch: int = 1024
    embedding_dim: int = 64
    hidden_dim: int = 128
    position_weight: float = 0.5
    references: int = 48
    background_references: int = 192
    retrieval: float = 5.0
    shrinkage: float = 0.1
    context_width: int = 32
    batch_slices: int = 8
    smoothing_cells: float = 1.0

    @property
    def sees_neighbours(self) -> bool:
        """Whether the head looks around each place: its slices are squared with margins, never bent."""
        return self.name == "context"

    def __post_init__(self) -> None:
        if self.name not in ADAPTERS:
            raise TaskError(f"adapter {self.name!r} is unknown; give one of {', '.join(ADAPTERS)}")
        if self.mode not in MODES:
            raise TaskError(f"adapter.mode {self.mode!r} is unknown; give one of {', '.join(MODES)}")
        for key in (*_ABOVE_ZERO, *_COUNTS):
            if not getattr(self, key) > 0:
                raise TaskError(f"adapter.{key} is {getattr(self, key)}; give a number above 0")
        for key in _NOT_BELOW_ZERO:
            if not getattr(self, key) >= 0:
                raise TaskError(f"adapter.{key} is {getattr(self, key)}; give 0 or more")
        if not 0 <= self.shrinkage <= 1:
            raise TaskError(f"adapter.shrinkage is {self.shrinkage}; give a number from 0 to 1")
