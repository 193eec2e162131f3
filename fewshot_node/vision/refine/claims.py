"""Masks that labels bring forward on a slice: gated, voted on, and settled where they meet."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from fewshot_node.records import LabelArray, Localization, Prompts


@dataclass(frozen=True, slots=True, eq=False)
class Claim:
    """A label on a slice.

    Attributes
    ----------
    draws
        bool (draws, rows, columns): what each draw of prompts gave, all regions of the label together.
    refined
        Whether the refined mask of at least one region was kept.
    """

    label_value: int
    draws: NDArray[np.bool_]
    refined: bool

    @property
    def mask(self) -> NDArray[np.bool_]:
        """What most draws have; the first decides where they are even."""
        votes = 2 * self.draws.sum(axis=0)
        voted: NDArray[np.bool_] = (votes > len(self.draws)) | ((votes == len(self.draws)) & self.draws[0])
        return voted


def intersection_over_union(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Return the overlap, 0..1, of two bool masks of one shape; 0 where both are empty."""
    union = int((first | second).sum())
    return int((first & second).sum()) / union if union else 0.0


def make_claims(prompts: Sequence[Prompts], masks: Sequence[NDArray[np.bool_]], iou_gate: float) -> list[Claim]:
    """Keep each refined mask, or the coarse one where the two disagree; put a label's regions together.

    Parameters
    ----------
    prompts, masks
        All of one slice; the masks that they gave, bool (rows, columns), in the same order.
    iou_gate
        Overlap with the coarse mask, 0..1, from which a refined one is kept.
    """
    merged: dict[int, dict[int, NDArray[np.bool_]]] = defaultdict(dict)
    refined: dict[int, bool] = defaultdict(bool)
    for prompt, mask in zip(prompts, masks, strict=True):
        agreement = intersection_over_union(mask, prompt.coarse_mask)
        kept = agreement >= iou_gate and agreement > 0
        refined[prompt.label_value] |= kept
        draws = merged[prompt.label_value]
        chosen = mask if kept else prompt.coarse_mask
        draws[prompt.draw] = draws[prompt.draw] | chosen if prompt.draw in draws else chosen
    return [
        Claim(value, np.stack([draws[draw] for draw in sorted(draws)]), refined[value])
        for value, draws in merged.items()
    ]


def settle(label_slice: LabelArray, claims: Sequence[Claim], localization: Localization, slice_index: int) -> None:
    """Write claims into a label map's slice (in place); a pixel claimed twice goes to the higher score.

    Parameters
    ----------
    label_slice
        uint8 (rows, columns); of labels without a claim it keeps what no claim covers.
    localization
        Whose scores decide.
    """
    asked = [claim.label_value for claim in claims]
    masks = np.stack([claim.mask for claim in claims])
    label_slice[np.isin(label_slice, asked)] = 0
    for value, mask in zip(asked, masks, strict=True):
        label_slice[mask] = value
    contested = masks.sum(axis=0) > 1
    if not contested.any():
        return
    channels = [localization.label_values.index(value) + 1 for value in asked]
    coarse = torch.from_numpy(np.ascontiguousarray(localization.scores[slice_index][channels]))[None]
    scores = functional.interpolate(coarse, label_slice.shape, mode="bilinear", align_corners=False)[0].numpy()
    winners = np.where(masks[:, contested], scores[:, contested], -np.inf).argmax(axis=0)
    label_slice[contested] = np.array(asked, dtype=np.uint8)[winners]
