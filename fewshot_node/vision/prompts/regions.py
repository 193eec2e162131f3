"""The regions of a localization that prompts are made of."""

from collections.abc import Iterator
from dataclasses import dataclass

import cc3d
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from fewshot_node.records import Localization


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """A label on a slice, or one component of it.

    Attributes
    ----------
    mask
        bool (rows, columns).
    component
        From 0; 0 as well where the label is not split.
    log_odds
        float32 (h, w) on the feature grid: the label's score less the best of the others, background included.
    """

    slice_index: int
    label_value: int
    component: int
    mask: NDArray[np.bool_]
    log_odds: NDArray[np.float32]


def regions(localization: Localization, *, split: bool) -> Iterator[Region]:
    """Give each label of each slice where the adapter fired, in the order of slices and label values.

    `split` gives every 8-connected component by itself.
    """
    for slice_index in np.flatnonzero(localization.label_map.any(axis=(1, 2))):
        label_slice = localization.label_map[slice_index]
        for value in np.unique(label_slice[label_slice > 0]):
            odds = log_odds(localization, int(slice_index), int(value))
            whole = label_slice == value
            parts = _components(whole) if split else [whole]
            for component, mask in enumerate(parts):
                yield Region(int(slice_index), int(value), component, mask, odds)


def on_slice(values: NDArray[np.float32], image_shape: tuple[int, int]) -> NDArray[np.float32]:
    """Interpolate (h, w) values, edge to edge on a slice, to (rows, columns)."""
    coarse = torch.from_numpy(np.ascontiguousarray(values))[None, None]
    fine: NDArray[np.float32] = functional.interpolate(
        coarse, image_shape, mode="bilinear", align_corners=False
    ).numpy()[0, 0]
    return fine


def log_odds(localization: Localization, slice_index: int, label_value: int) -> NDArray[np.float32]:
    """Return (h, w): a label's score less the best of the others, background included."""
    scores = localization.scores[slice_index]
    channel = localization.label_values.index(label_value) + 1
    others: NDArray[np.float32] = np.delete(scores, channel, axis=0).max(axis=0)
    odds: NDArray[np.float32] = scores[channel] - others
    return odds


def _components(mask: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    labelled, count = cc3d.connected_components(mask, connectivity=8, return_N=True)
    return [labelled == number for number in range(1, count + 1)]
