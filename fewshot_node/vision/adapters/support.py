"""What an adapter is fitted from, and what every adapter can do."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fewshot_node.errors import TemplateError
from fewshot_node.records import FeatureMap, FloatArray
from fewshot_node.vision.adapters.settings import AdapterSettings


@dataclass(frozen=True, slots=True, eq=False)
class Support:
    """Annotated slices on the feature grid.

    Attributes
    ----------
    features
        float32 or float16 (slices, h, w, channels), L2-normalised.
    labels
        uint8 (slices, h, w): values of `label_values`, 0 for background. A slice of zeros is a negative one.
    template_ids
        int (slices,): which template, that is which series, a slice came from.
    label_values
        Every label of the task, in the order of the adapter's channels.
    slice_ids
        int (slices,): which annotated slice each is, or is a variant of; None when there are no variants.
    cover
        float (slices, h, w, labels + 1): each class's share of a cell, finer than `labels`; None when unknown.
    """

    features: NDArray[np.floating]
    labels: NDArray[np.uint8]
    template_ids: NDArray[np.integer]
    label_values: tuple[int, ...]
    slice_ids: NDArray[np.integer] | None = None
    cover: NDArray[np.floating] | None = None

    def __post_init__(self) -> None:
        if self.features.ndim != 4 or self.features.shape[:3] != self.labels.shape:
            raise ValueError(f"support: features {self.features.shape} and labels {self.labels.shape} do not match")
        if self.template_ids.shape != (len(self.labels),):
            raise ValueError("support: not one template id a slice")
        if self.slice_ids is not None and self.slice_ids.shape != (len(self.labels),):
            raise ValueError("support: not one slice id a slice")
        if self.cover is not None and self.cover.shape != (*self.labels.shape, len(self.label_values) + 1):
            raise ValueError(f"support: cover {self.cover.shape} does not match labels {self.labels.shape}")
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

    def part(self, chosen: NDArray[np.bool_]) -> "Support":
        """Return some of the slices; `chosen` is bool (slices,). A label may then be shown by none of them."""
        return replace(
            self,
            features=self.features[chosen],
            labels=self.labels[chosen],
            template_ids=self.template_ids[chosen],
            slice_ids=None if self.slice_ids is None else self.slice_ids[chosen],
            cover=None if self.cover is None else self.cover[chosen],
        )

    def only(self, label_value: int) -> "Support":
        """Return the same slices with one label alone: every other label is background."""
        labels = np.where(self.labels == label_value, self.labels, np.uint8(0))
        cover = self.cover
        if cover is not None:
            own = cover[..., self.label_values.index(label_value) + 1]
            cover = np.stack([1 - own, own], axis=-1)
        return replace(self, labels=labels, label_values=(label_value,), cover=cover)


class Adapter(Protocol):
    """A fitted head over dense features."""

    @property
    def name(self) -> str:
        """Which of `settings.ADAPTERS` this is."""

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


def cover_of_cells(
    labels: NDArray[np.uint8], label_values: tuple[int, ...], cells: tuple[int, int]
) -> NDArray[np.float16]:
    """Return each class's share of each cell: (slices, rows, columns) to (slices, h, w, labels + 1)."""
    values = np.array((0, *label_values), dtype=np.uint8)
    cover = np.empty((len(labels), *cells, len(values)), dtype=np.float16)
    for index, label_map in enumerate(labels):
        masks = torch.from_numpy(label_map[None] == values[:, None, None]).float()[None]
        cover[index] = functional.interpolate(masks, cells, mode="area")[0].permute(1, 2, 0).numpy()
    return cover
