"""The engine: a frozen model of `transformers`, with the image handling that belongs to it."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewshot_node.vision.encode import autocast, best_device
from fewshot_node.vision.sam.engine import EmbeddedImage, Guidance, MaskAnswer, PromptBatch
from fewshot_node.vision.sam.families import Family
from fewshot_node.vision.sam.frame import InputFrame

_PROMPTS_AT_ONCE = 16


class TransformersSam:
    """SAM, SAM-HQ or SAM 2: see `SamEngine`.

    Attributes
    ----------
    model
        Frozen, on the GPU where there is one.
    """

    def __init__(self, model: Any, family: Family, scale: tuple[Tensor, Tensor], weights_digest: str) -> None:
        """Take a loaded model; `scale` is the mean and the standard deviation of a channel's 0..1 values."""
        self.device = best_device()
        self.model = model.eval().requires_grad_(False).to(self.device)
        self.weights_digest = weights_digest
        self._family = family
        self._mean, self._std = (values.to(self.device)[:, None, None] for values in scale)
        prompt = model.config.prompt_encoder_config
        self.frame = InputFrame(prompt.image_size, 4 * (prompt.image_size // prompt.patch_size), family.squashes)

    def embed(self, image: NDArray[np.float32]) -> EmbeddedImage:
        """Encode one image: float32 CHW, three channels on 0..1."""
        rows, columns = image.shape[1:]
        pixels = torch.from_numpy(np.ascontiguousarray(image)).to(self.device)
        with torch.inference_mode(), autocast(self.device):
            placed = self.frame.place_image(pixels, self._mean, self._std)
            embedding, detail = self._family.encode(self.model, placed)
        return EmbeddedImage(embedding, (rows, columns), self.frame.resized((rows, columns)), detail)

    def segment(
        self, image: EmbeddedImage, prompts: PromptBatch, *, multimask: bool = True, guidance: Guidance | None = None
    ) -> MaskAnswer:
        """Answer prompts; see `SamEngine.segment`."""
        guidance = guidance or Guidance()
        with torch.inference_mode():
            answers = [self._decode(image, part, multimask, guidance) for part in _parts(prompts)]
            low_res, predicted = (torch.cat(parts) for parts in zip(*answers, strict=True))
            logits = self.frame.logits_on_image(low_res, image.image_shape)
        return MaskAnswer(logits.cpu().numpy(), predicted.cpu().numpy(), low_res)

    def mask_inputs(self, image: EmbeddedImage, logits: NDArray[np.float32]) -> Tensor:
        """Bring logits to the decoder's frame; see `SamEngine.mask_inputs`."""
        given = torch.from_numpy(np.ascontiguousarray(logits, dtype=np.float32)).to(self.device)
        return self.frame.place_logits(given, image.image_shape)

    def _decode(
        self, image: EmbeddedImage, prompts: PromptBatch, multimask: bool, guidance: Guidance
    ) -> tuple[Tensor, Tensor]:
        answer = self.model(
            **self._family.decoder_inputs((image.embedding, image.detail), len(prompts)),
            **self._prompt_inputs(image, prompts),
            multimask_output=multimask,
            attention_similarity=guidance.attention_similarity,
            target_embedding=guidance.target_embedding,
        )
        return answer.pred_masks[:, 0].float(), answer.iou_scores[:, 0].float()

    def _prompt_inputs(self, image: EmbeddedImage, prompts: PromptBatch) -> dict[str, Tensor]:
        given: dict[str, Tensor] = {}
        if prompts.positive.shape[1]:
            given["input_points"] = self.frame.place_points(prompts.points_xy, image.image_shape)[:, None]
            given["input_labels"] = torch.from_numpy(prompts.positive.astype(np.int64))[:, None]
        if prompts.boxes_xyxy is not None:
            corners = prompts.boxes_xyxy.reshape(-1, 2, 2)
            given["input_boxes"] = self.frame.place_points(corners, image.image_shape).reshape(-1, 1, 4)
        if prompts.mask_inputs is not None:
            given["input_masks"] = prompts.mask_inputs[:, None]
        return {name: value.to(self.device) for name, value in given.items()}


def _parts(prompts: PromptBatch) -> Iterator[PromptBatch]:
    """Split a batch: a decoder holds some tens of MB a prompt."""
    for start in range(0, len(prompts), _PROMPTS_AT_ONCE):
        part = slice(start, start + _PROMPTS_AT_ONCE)
        boxes, masks = prompts.boxes_xyxy, prompts.mask_inputs
        yield PromptBatch(
            prompts.points_xy[part],
            prompts.positive[part],
            None if boxes is None else boxes[part],
            None if masks is None else masks[part],
        )
