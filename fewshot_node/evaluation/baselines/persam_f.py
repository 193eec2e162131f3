"""PerSAM-F: which of a promptable model's masks is meant, learnt as two weights (arXiv 2305.03048, section 3.3)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fewshot_node.evaluation.baselines.cascade import refine_by_box
from fewshot_node.evaluation.baselines.persam import references
from fewshot_node.evaluation.baselines.rival import Example
from fewshot_node.evaluation.baselines.target import Reference, Target, cover, likeness, show, target_of
from fewshot_node.vision.sam import EmbeddedImage, SamEngine

_STEPS = 1000
_LEARNING_RATE = 1e-3
_FOCAL_ALPHA, _FOCAL_GAMMA = 0.25, 2.0


@dataclass(frozen=True, slots=True, eq=False)
class PerSamF:
    """The method on any engine, one mask a label.

    The points are PerSAM's. The engine's several masks, from part to whole, are summed with weights that sum to
    one; they are learnt on the examples themselves, all of them together, on the grid of the engine's own answers.
    """

    engine: SamEngine
    name: str = "persam-f"

    def learn(self, examples: Sequence[Example], label_values: tuple[int, ...]) -> "WeightedSam":
        """Take each label's look from the examples, and learn its weights."""
        shown = references(self.engine, examples, label_values)
        known = [target_of(found) for found in shown]
        weights = [_learn_weights(self.engine, *pair) for pair in zip(known, shown, strict=True)]
        return WeightedSam(self.engine, tuple(known), tuple(weights))


@dataclass(frozen=True, slots=True, eq=False)
class WeightedSam:
    """An engine, what its labels look like, and how much each of its masks counts: (masks,) a label."""

    engine: SamEngine
    targets: tuple[Target, ...]
    weights: tuple[Tensor, ...]

    def label_logits(self, image: NDArray[np.float32]) -> Tensor:
        """Return (labels, rows, columns) logits of a slice (rows, columns) on 0..1."""
        embedded = show(self.engine, image)
        pairs = zip(self.targets, self.weights, strict=True)
        return torch.stack([self._one_label(embedded, target, weights) for target, weights in pairs])

    def _one_label(self, image: EmbeddedImage, target: Target, weights: Tensor) -> Tensor:
        prompts = likeness(image, target).prompts
        answer = self.engine.segment(image, prompts)
        logits = torch.einsum("m,mhw->hw", weights.cpu(), torch.from_numpy(answer.logits[0]))
        fed = torch.einsum("m,pmhw->phw", weights.to(answer.low_res.device), answer.low_res)
        return refine_by_box(self.engine, image, prompts, logits, fed)


def _learn_weights(engine: SamEngine, target: Target, shown: Sequence[Reference]) -> Tensor:
    answers, truths = [], []
    for one in shown:
        masks = engine.segment(one.image, likeness(one.image, target).prompts).low_res[0].clone()
        answers.append(masks)
        truths.append((cover(one.mask, one.image, (masks.shape[1], masks.shape[2])) >= 0.5).float())
    return fit_weights(torch.stack(answers), torch.stack(truths))


def fit_weights(answers: Tensor, truths: Tensor) -> Tensor:
    """Learn how to sum masks.

    Parameters
    ----------
    answers
        Float logits (references, masks, side, side).
    truths
        Float (references, side, side) of 0 and 1.

    Returns
    -------
    Tensor
        Float (masks,), of sum 1; at first all are equal.
    """
    count = answers.shape[1]
    free = torch.full((count - 1,), 1 / count, device=answers.device, requires_grad=True)
    optimizer = torch.optim.AdamW([free], lr=_LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _STEPS)
    for _ in range(_STEPS):
        loss = _loss(torch.einsum("m,rmhw->rhw", _whole(free), answers).flatten(1), truths.flatten(1))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return _whole(free).detach()


def _whole(free: Tensor) -> Tensor:
    return torch.cat([1 - free.sum(dim=0, keepdim=True), free])


def _loss(logits: Tensor, truths: Tensor) -> Tensor:
    """Return Dice plus focal loss of (references, pixels)."""
    inside = logits.sigmoid()
    dice = 1 - (2 * (inside * truths).sum(dim=1) + 1) / (inside.sum(dim=1) + truths.sum(dim=1) + 1)
    entropy = functional.binary_cross_entropy_with_logits(logits, truths, reduction="none")
    wrong = 1 - (inside * truths + (1 - inside) * (1 - truths))
    share = _FOCAL_ALPHA * truths + (1 - _FOCAL_ALPHA) * (1 - truths)
    return dice.mean() + (share * wrong**_FOCAL_GAMMA * entropy).mean()
