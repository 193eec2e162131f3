"""A promptable model's mask refined by itself, twice (PerSAM's cascaded post-refinement, section 3.2)."""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewshot_node.vision.sam import EmbeddedImage, MaskAnswer, PromptBatch, SamEngine

_NOTHING = -10.0


def refine_by_box(engine: SamEngine, image: EmbeddedImage, prompts: PromptBatch, logits: Tensor, fed: Tensor) -> Tensor:
    """Ask again with a mask and the box around it.

    Parameters
    ----------
    logits
        Float (rows, columns): the mask so far.
    fed
        Float (1, side, side): the same as a mask input.

    Returns
    -------
    Tensor
        Logits (rows, columns) of the mask that the engine trusts most; all outside where there was no mask.
    """
    mask = (logits > 0).cpu().numpy()
    if not mask.any():
        return torch.full_like(logits, _NOTHING)
    answer = engine.segment(image, replace(prompts, boxes_xyxy=_box_around(mask)[None], mask_inputs=fed))
    return torch.from_numpy(answer.logits[0, most_trusted(answer)])


def most_trusted(answer: MaskAnswer) -> int:
    """Return the mask whose predicted IoU is highest, of a single prompt."""
    return int(answer.predicted_iou[0].argmax())


def _box_around(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1], rows[-1]], dtype=np.float32)
