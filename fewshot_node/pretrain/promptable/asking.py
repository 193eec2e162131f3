"""A batch of regions put to the model, and the loss of its answers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import SamModel

from fewshot_node.pretrain.promptable.samples import CropBatch
from fewshot_node.pretrain.promptable.settings import INPUT_SCALE
from fewshot_node.records import Prompts
from fewshot_node.vision.prompts import PromptSettings
from fewshot_node.vision.prompts.regions import on_slice
from fewshot_node.vision.sam.frame import InputFrame

# What transformers takes for "no point here": regions of one batch may have different numbers of points.
_NO_POINT = -10


def answers(model: SamModel, batch: CropBatch, prompts: PromptSettings, multimask: bool) -> tuple[Tensor, Tensor]:
    """Encode each crop once and ask about its regions.

    Returns
    -------
    tuple
        Logits (regions, masks, mask side, mask side) and predicted IoU (regions, masks).
    """
    mean, std = INPUT_SCALE.mean[0], INPUT_SCALE.std[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        pixels = ((batch.images - mean) / std).expand(-1, 3, -1, -1)
        embeddings = model.vision_encoder(pixels).last_hidden_state
    owners = torch.tensor([region.crop for region in batch.regions])
    asked = [region.prompt(prompts) for region in batch.regions]
    answer = model(
        image_embeddings=embeddings.float()[owners], multimask_output=multimask, **prompt_inputs(model, asked)
    )
    return answer.pred_masks[:, 0], answer.iou_scores[:, 0]


def prompt_inputs(model: SamModel, asked: Sequence[Prompts]) -> dict[str, Tensor]:
    """Return the model's keyword arguments for prompts that share a strategy."""
    given: dict[str, Tensor] = {}
    most = max(len(one.positive) for one in asked)
    if most:
        points = np.zeros((len(asked), 1, most, 2), dtype=np.float32)
        labels = np.full((len(asked), 1, most), _NO_POINT, dtype=np.int64)
        for index, one in enumerate(asked):
            points[index, 0, : len(one.positive)] = one.points_xy
            labels[index, 0, : len(one.positive)] = one.positive
        given |= {"input_points": torch.from_numpy(points), "input_labels": torch.from_numpy(labels)}
    boxes = [one.box_xyxy for one in asked if one.box_xyxy is not None]
    if boxes:
        given["input_boxes"] = torch.from_numpy(np.stack(boxes))[:, None]
    logits = [on_slice(one.mask_logits, one.coarse_mask.shape) for one in asked if one.mask_logits is not None]
    if logits:
        frame = _frame(model.config.prompt_encoder_config)
        given["input_masks"] = frame.place_logits(torch.from_numpy(np.stack(logits)), logits[0].shape)[:, None]
    return given


def _frame(config: Any) -> InputFrame:
    return InputFrame(config.image_size, 4 * (config.image_size // config.patch_size))


def answer_loss(logits: Tensor, predicted_iou: Tensor, truth: Tensor) -> Tensor:
    """Return cross-entropy plus Dice of the best mask, plus the error of every mask's predicted IoU (SAM, section 3).

    Parameters
    ----------
    logits, predicted_iou
        (regions, masks, side, side) and (regions, masks).
    truth
        Float (regions, image side, image side) of 0 and 1.
    """
    share = functional.adaptive_avg_pool2d(truth[:, None], logits.shape[-1])
    target = share.expand_as(logits)
    entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(dim=(2, 3))
    inside = logits.sigmoid()
    sizes = inside.sum(dim=(2, 3)) + target.sum(dim=(2, 3))
    dice = 1 - (2 * (inside * target).sum(dim=(2, 3)) + 1) / (sizes + 1)
    # A mask of few pixels has a small mean entropy: weighed up, it counts like its Dice.
    best = (5 * entropy + dice).min(dim=1).values.mean()
    return best + functional.mse_loss(predicted_iou, overlap(logits.detach() > 0, target >= 0.5))


def overlap(found: Tensor, true: Tensor) -> Tensor:
    """Return the intersection over union of (..., rows, columns) masks."""
    union = (found | true).sum(dim=(-2, -1))
    return (found & true).sum(dim=(-2, -1)) / union.clamp(min=1)
