"""What a SAM-style engine is to everyone who uses one."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedImage:
    """One image as an engine has seen it.

    Attributes
    ----------
    embedding
        float32 (1, channels, h, w): the features that prompts are compared with.
    image_shape
        (rows, columns) of the image.
    resized
        The same on the engine's square input; what lies right of it and below is padding.
    detail
        Finer or earlier features, where the architecture's decoder takes them.
    """

    embedding: Tensor
    image_shape: tuple[int, int]
    resized: tuple[int, int]
    detail: tuple[Tensor, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class PromptBatch:
    """Several prompts on one image, each of as many points.

    Attributes
    ----------
    points_xy, positive
        float32 (prompts, points, 2), indices of pixel centres (column, row), and bool (prompts, points).
    boxes_xyxy
        float32 (prompts, 4): the outermost pixels, as indices of their centres; needed where there is no point.
    mask_inputs
        float32 (prompts, side, side) logits as `MaskAnswer.low_res` or `SamEngine.mask_inputs` has them.
    """

    points_xy: NDArray[np.float32]
    positive: NDArray[np.bool_]
    boxes_xyxy: NDArray[np.float32] | None = None
    mask_inputs: Tensor | None = None

    def __post_init__(self) -> None:
        if self.points_xy.shape != (*self.positive.shape, 2):
            raise ValueError(f"prompts: {self.points_xy.shape} points and {self.positive.shape} signs")
        if self.boxes_xyxy is None and not self.positive.shape[1]:
            raise ValueError("prompts: neither point nor box")

    def __len__(self) -> int:
        return len(self.positive)


@dataclass(frozen=True, slots=True, eq=False)
class MaskAnswer:
    """Masks for a batch of prompts.

    Attributes
    ----------
    logits
        float32 (prompts, masks, rows, columns) on the image's grid: above 0 is inside.
    predicted_iou
        float32 (prompts, masks): what the engine thinks of each.
    low_res
        float32 (prompts, masks, side, side) on the padded input's grid: the mask input of a next round.
    """

    logits: NDArray[np.float32]
    predicted_iou: NDArray[np.float32]
    low_res: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Guidance:
    """What leads a decoder to one target (PerSAM, arXiv 2305.03048, section 3.2).

    Attributes
    ----------
    attention_similarity
        float32, to be broadcast to (prompts, heads, tokens, h * w): added to the logits of the tokens' attention.
    target_embedding
        float32, to be broadcast to (prompts, 1, tokens, channels): added to the tokens before every layer.
    """

    attention_similarity: Tensor | None = None
    target_embedding: Tensor | None = None


class SamEngine(Protocol):
    """Encodes an image once, then answers prompts about it; the same input gives the same answer.

    Attributes
    ----------
    weights_digest
        SHA-256 over the weight files' bytes.
    """

    weights_digest: str

    def embed(self, image: NDArray[np.float32]) -> EmbeddedImage:
        """Encode one image: float32 CHW, three channels on 0..1."""
        ...

    def segment(
        self, image: EmbeddedImage, prompts: PromptBatch, *, multimask: bool = True, guidance: Guidance | None = None
    ) -> MaskAnswer:
        """Answer prompts, none of which influences another.

        Parameters
        ----------
        multimask
            Give the masks of an ambiguous prompt, usually three; else the one of an unambiguous prompt.
        """
        ...

    def mask_inputs(self, image: EmbeddedImage, logits: NDArray[np.float32]) -> Tensor:
        """Bring (prompts, h, w) logits, on a grid that covers the image edge to edge, to `PromptBatch.mask_inputs`."""
        ...
