"""What an adapter is fitted from, and what every adapter can do."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fewshot_node.errors import TaskError, TemplateError
from fewshot_node.records import FeatureMap, FloatArray

ADAPTERS = ("basic", "contrastive")

_CELLS_AT_ONCE = 65_536


@dataclass(frozen=True, slots=True)
class AdapterSettings:
    """How an adapter is fitted and what it compares with.

    Attributes
    ----------
    name
        ``"contrastive"`` (matching head) or ``"basic"`` (mean cosine similarity, the paper's baseline).
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
    references, background_references
        Pixels that stay as references, for each label and for the background, over all templates.
    retrieval
        How strongly template slices that look like the query slice outweigh the others; 0 weighs all alike.
    smoothing_cells
        Standard deviation of a Gaussian within each slice's scores, in cells of the feature grid; 0 switches
        it off. The basic adapter stays as the paper has it.
    """

    name: str = "contrastive"
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
    smoothing_cells: float = 1.0

    def __post_init__(self) -> None:
        if self.name not in ADAPTERS:
            raise TaskError(f"adapter {self.name!r} is unknown; give one of {', '.join(ADAPTERS)}")
        positive = ("temperature", "steps", "learning_rate", "batch", "embedding_dim", "hidden_dim")
        for key in (*positive, "references", "background_references"):
            if getattr(self, key) <= 0:
                raise TaskError(f"adapter.{key} is {getattr(self, key)}; give a number above 0")
        for key in ("position_weight", "retrieval", "smoothing_cells"):
            if getattr(self, key) < 0:
                raise TaskError(f"adapter.{key} is {getattr(self, key)}; give 0 or more")


@dataclass(frozen=True, slots=True, eq=False)
class Support:
    """Annotated slices on the feature grid.

    Attributes
    ----------
    features
        float32 (slices, h, w, channels), L2-normalised.
    labels
        uint8 (slices, h, w): values of `label_values`, 0 for background. A slice of zeros is a negative one.
    template_ids
        int (slices,): which template, that is which series, a slice came from.
    label_values
        Every label of the task, in the order of the adapter's channels.
    slice_ids
        int (slices,): which annotated slice each is, or is a variant of; None when there are no variants.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.uint8]
    template_ids: NDArray[np.integer]
    label_values: tuple[int, ...]
    slice_ids: NDArray[np.integer] | None = None

    def __post_init__(self) -> None:
        if self.features.ndim != 4 or self.features.shape[:3] != self.labels.shape:
            raise ValueError(f"support: features {self.features.shape} and labels {self.labels.shape} do not match")
        if self.template_ids.shape != (len(self.labels),):
            raise ValueError("support: not one template id a slice")
        if self.slice_ids is not None and self.slice_ids.shape != (len(self.labels),):
            raise ValueError("support: not one slice id a slice")
        stray = set(np.unique(self.labels).tolist()) - {0, *self.label_values}
        if stray:
            raise TemplateError(f"template labels {sorted(stray)} are not labels of the task {self.label_values}")

    @property
    def classes(self) -> NDArray[np.int64]:
        """int64 (slices, h, w): adapter channel of each place, 0 for background."""
        table = np.zeros(256, dtype=np.int64)
        table[list(self.label_values)] = np.arange(1, len(self.label_values) + 1)
        return table[self.labels]

    @property
    def units(self) -> NDArray[np.int64]:
        """int64 (slices,): what counts as one and the same when a slice is held out, numbered from 0.

        Templates, so that a new patient is what is practised; slices where there is but one template.
        """
        own = np.arange(len(self.labels)) if self.slice_ids is None else self.slice_ids
        several = len(np.unique(self.template_ids)) > 1
        units: NDArray[np.int64] = np.unique(self.template_ids if several else own, return_inverse=True)[1]
        return units


class Adapter(Protocol):
    """A fitted head over dense features."""

    @property
    def name(self) -> str:
        """Which of `ADAPTERS` this is."""

    @property
    def settings(self) -> AdapterSettings:
        """What it was fitted with."""

    @property
    def label_values(self) -> tuple[int, ...]:
        """Label of each channel after the first."""

    @property
    def peak_thresholds(self) -> NDArray[np.float32]:
        """float32 (labels, 2): peak score over background that tells present from absent, and its spread."""

    def scores(self, features: FeatureMap | FloatArray) -> NDArray[np.float32]:
        """Score a stack: float32 (slices, labels + 1, h, w); channel 0 is background, the highest wins."""

    def tensors(self) -> Mapping[str, Tensor]:
        """Everything that was fitted."""


def require_every_label(support: Support) -> None:
    """Refuse a support in which a label of the task has no pixel at all.

    Raises
    ------
    TemplateError
        Names the labels.
    """
    missing = sorted(set(support.label_values) - set(np.unique(support.labels).tolist()))
    if missing:
        raise TemplateError(f"no template shows label {missing}; add an annotated slice that does")


def labels_to_grid(labels: NDArray[np.uint8], cells: tuple[int, int]) -> NDArray[np.uint8]:
    """Bring (slices, rows, columns) label maps to a feature grid (slices, h, w).

    A cell takes the label that covers most of it. A label too small to win a cell keeps the one that it
    covers most, so that it does not vanish.
    """
    grid = np.zeros((len(labels), *cells), dtype=np.uint8)
    for index, label_map in enumerate(labels):
        values = np.unique(label_map)
        masks = torch.from_numpy(label_map[None] == values[:, None, None]).float()[None]
        cover = functional.interpolate(masks, cells, mode="area")[0].numpy()
        grid[index] = values[cover.argmax(axis=0)]
        for value, share in zip(values, cover, strict=True):
            if value and not (grid[index] == value).any():
                grid[index][np.unravel_index(share.argmax(), cells)] = value
    return grid


def feature_batches(features: FeatureMap | FloatArray) -> Iterator[tuple[slice, Tensor]]:
    """Yield a stack of slices piece by piece, float32 (slices, h, w, channels), so that memory stays bounded."""
    array = features.array if isinstance(features, FeatureMap) else features
    step = max(1, _CELLS_AT_ONCE // max(1, array.shape[1] * array.shape[2]))
    for start in range(0, len(array), step):
        part = slice(start, start + step)
        yield part, torch.from_numpy(np.asarray(array[part], dtype=np.float32))
