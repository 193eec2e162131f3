"""A promptable model asked about the regions of one slice."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from fewshot_node.records import Prompts
from fewshot_node.vision.prompts.regions import on_slice
from fewshot_node.vision.refine.claims import intersection_over_union
from fewshot_node.vision.refine.crops import Box, plan_crops
from fewshot_node.vision.refine.settings import RefineSettings
from fewshot_node.vision.sam import EmbeddedImage, MaskAnswer, PromptBatch, SamEngine


def ask_engine(
    image: NDArray[np.float32], prompts: Sequence[Prompts], engine: SamEngine, settings: RefineSettings
) -> list[NDArray[np.bool_]]:
    """Return one bool (rows, columns) mask a prompt: of the engine's, the one that agrees best with the coarse mask.

    Parameters
    ----------
    image
        float32 (3, rows, columns) on 0..1: a whole slice. It is encoded once, or once a crop.
    """
    shape = (image.shape[1], image.shape[2])
    masks = [np.zeros(shape, dtype=bool) for _ in prompts]
    for crop, members in _crops(prompts, shape, settings):
        shown = [_within(prompts[index], crop) for index in members]
        embedded = engine.embed(image[:, *crop.part])
        for index, mask in zip(members, _ask_crop(embedded, shown, engine, settings), strict=True):
            masks[index][crop.part] = mask
    return masks


def _crops(prompts: Sequence[Prompts], shape: tuple[int, int], settings: RefineSettings) -> list[tuple[Box, list[int]]]:
    if not settings.crop:
        return [(Box(0, 0, *shape), list(range(len(prompts))))]
    return plan_crops([prompt.coarse_mask for prompt in prompts], shape, settings.crop_margin)


def _within(prompt: Prompts, crop: Box) -> Prompts:
    """Bring a prompt into a crop's frame; points outside the crop go."""
    corner_xy = np.array([crop.left, crop.top], dtype=np.float32)
    points = prompt.points_xy - corner_xy
    size_xy = np.array([crop.right - crop.left, crop.bottom - crop.top])
    stays = ((points >= 0) & (points < size_xy)).all(axis=1)
    logits = prompt.mask_logits
    return replace(
        prompt,
        points_xy=points[stays],
        positive=prompt.positive[stays],
        coarse_mask=prompt.coarse_mask[crop.part],
        box_xyxy=None if prompt.box_xyxy is None else prompt.box_xyxy - np.tile(corner_xy, 2),
        mask_logits=None if logits is None else on_slice(logits, prompt.coarse_mask.shape)[crop.part],
    )


def _ask_crop(
    embedded: EmbeddedImage, prompts: Sequence[Prompts], engine: SamEngine, settings: RefineSettings
) -> Iterator[NDArray[np.bool_]]:
    answers: dict[int, NDArray[np.bool_]] = {}
    for indices in _alike(prompts):
        chosen = [prompts[index] for index in indices]
        answers |= zip(indices, _ask_rounds(embedded, chosen, engine, settings), strict=True)
    return (answers[index] for index in range(len(prompts)))


def _alike(prompts: Sequence[Prompts]) -> list[list[int]]:
    """Group prompts that can be asked together: padding points would change the answer."""
    groups: dict[tuple[int, bool, bool], list[int]] = defaultdict(list)
    for index, prompt in enumerate(prompts):
        kind = (len(prompt.positive), prompt.box_xyxy is None, prompt.mask_logits is None)
        groups[kind].append(index)
    return list(groups.values())


def _ask_rounds(
    embedded: EmbeddedImage, prompts: Sequence[Prompts], engine: SamEngine, settings: RefineSettings
) -> list[NDArray[np.bool_]]:
    batch = _batch(embedded, prompts, engine)
    answer = engine.segment(embedded, batch, multimask=settings.multimask)
    best = _best(answer, prompts)
    for _ in range(settings.rounds):
        batch = replace(batch, mask_inputs=answer.low_res[torch.arange(len(best)), best])
        answer = engine.segment(embedded, batch, multimask=False)
        best = _best(answer, prompts)
    return [logits[index] > 0 for logits, index in zip(answer.logits, best, strict=True)]


def _batch(embedded: EmbeddedImage, prompts: Sequence[Prompts], engine: SamEngine) -> PromptBatch:
    boxes = [prompt.box_xyxy for prompt in prompts if prompt.box_xyxy is not None]
    logits = [prompt.mask_logits for prompt in prompts if prompt.mask_logits is not None]
    return PromptBatch(
        np.stack([prompt.points_xy for prompt in prompts]),
        np.stack([prompt.positive for prompt in prompts]),
        np.stack(boxes) if boxes else None,
        engine.mask_inputs(embedded, np.stack(logits)) if logits else None,
    )


def _best(answer: MaskAnswer, prompts: Sequence[Prompts]) -> list[int]:
    """Return for each prompt the mask that agrees best; of equals the one that the engine trusts most."""
    best = []
    for logits, trust, prompt in zip(answer.logits, answer.predicted_iou, prompts, strict=True):
        agreed = [intersection_over_union(one > 0, prompt.coarse_mask) for one in logits]
        best.append(int(np.lexsort((trust, agreed))[-1]))
    return best
