"""Between the pixels of an image and the square input of an engine."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

_OUTSIDE_LOGIT = -10.0


@dataclass(frozen=True, slots=True)
class InputFrame:
    """An engine's square input.

    The image handling is our own: `transformers`' fast image processors need torchvision, which has no
    place beside a CPU-only torch.

    Attributes
    ----------
    side
        Pixels along an edge.
    mask_side
        The same for mask inputs and low-resolution answers.
    squashes
        Stretch the image to the whole square (SAM 2); else scale its long side and pad (SAM, SAM-HQ).
    """

    side: int
    mask_side: int
    squashes: bool = False

    def resized(self, image_shape: tuple[int, int]) -> tuple[int, int]:
        """Return (rows, columns) of an image on the input."""
        if self.squashes:
            return self.side, self.side
        scale = self.side / max(image_shape)
        return max(1, round(image_shape[0] * scale)), max(1, round(image_shape[1] * scale))

    def place_image(self, image: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        """Resize, normalise and pad CHW on 0..1 to (1, C, side, side); the padding is 0 after normalisation."""
        rows, columns = self.resized((image.shape[1], image.shape[2]))
        pixels = functional.interpolate(
            image[None], (rows, columns), mode="bilinear", align_corners=False, antialias=True
        )
        return functional.pad((pixels - mean) / std, (0, self.side - columns, 0, self.side - rows))

    def place_points(self, points_xy: NDArray[np.float32], image_shape: tuple[int, int]) -> Tensor:
        """Bring (..., 2) indices of pixel centres to the input; prompt encoders add half a pixel themselves."""
        rows, columns = self.resized(image_shape)
        scale_xy = np.array([columns / image_shape[1], rows / image_shape[0]])
        return torch.from_numpy(((points_xy + 0.5) * scale_xy - 0.5).astype(np.float32))

    def place_logits(self, logits: Tensor, image_shape: tuple[int, int]) -> Tensor:
        """Bring (prompts, h, w) logits, edge to edge on the image, to (prompts, mask_side, mask_side)."""
        rows, columns = (max(1, round(length * self.mask_side / self.side)) for length in self.resized(image_shape))
        placed = functional.interpolate(
            logits[:, None], (rows, columns), mode="bilinear", align_corners=False, antialias=True
        )[:, 0]
        return functional.pad(placed, (0, self.mask_side - columns, 0, self.mask_side - rows), value=_OUTSIDE_LOGIT)

    def logits_on_image(self, low_res: Tensor, image_shape: tuple[int, int]) -> Tensor:
        """Bring (prompts, masks, mask_side, mask_side) logits to (prompts, masks, rows, columns)."""
        rows, columns = self.resized(image_shape)
        fine = functional.interpolate(low_res, (self.side, self.side), mode="bilinear", align_corners=False)
        return functional.interpolate(fine[..., :rows, :columns], image_shape, mode="bilinear", align_corners=False)
