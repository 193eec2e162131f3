"""Variants of annotated slices: the same anatomy in another pose, with other intensities (method, step 6)."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fewshot_node.errors import TaskError
from fewshot_node.records import LabelArray
from fewshot_node.vision.intensity import Range

_ROTATION_RAD = 0.2
_SCALE = 0.2
_ASPECT = 0.1
_SHIFT = 0.12
_ELASTIC = 0.03
_ELASTIC_NODES = 7
_GAMMA = 0.35
_BIAS = 0.12
_BIAS_NODES = 4
_GAIN = 0.15
_OFFSET = 0.06
_NOISE = 0.03
_BLURRED_SHARE = 0.3
# More slices than these teach little and cost memory: an annotated volume needs fewer variants of each.
_SLICES_IN_ALL = 240
_USUAL_COUNTS = {"context": 40}


@dataclass(frozen=True, slots=True)
class AugmentSettings:
    """How many variants of each template slice are learnt from beside the slice itself.

    Attributes
    ----------
    count
        The most; tasks with many annotated slices get fewer, at least one. 0 switches variants off. None
        leaves it to the adapter: heads that see one place at a time were measured to gain hardly anything.
    """

    count: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count is not None and self.count < 0:
            raise TaskError(f"augment.count is {self.count}: give 0 (none) or more")

    def count_for(self, slices: int, adapter: str) -> int:
        """Return how many variants each of a task's annotated slices gets."""
        wanted = _USUAL_COUNTS.get(adapter, 1) if self.count is None else self.count
        return min(wanted, max(1, _SLICES_IN_ALL // max(1, slices)))


def at_working_size(
    images: NDArray[np.float32], label_map: LabelArray, long_side_px: int, outside: float
) -> tuple[NDArray[np.float32], LabelArray]:
    """Bring slices to the size at which the encoder sees them, in the middle of a square.

    There variants cost least, and a pose can move anatomy beyond a narrow image's edge. `outside` is the
    value beyond that edge.
    """
    scale = long_side_px / max(images.shape[1:])
    size = [max(1, round(side * scale)) for side in images.shape[1:]]
    small = functional.interpolate(
        torch.from_numpy(images)[:, None], size, mode="bilinear", align_corners=False, antialias=True
    )
    labels = functional.interpolate(torch.from_numpy(label_map)[:, None], size, mode="nearest-exact")
    top, left = ((long_side_px - side) // 2 for side in size)
    margins = (left, long_side_px - size[1] - left, top, long_side_px - size[0] - top)
    squares = (functional.pad(small, margins, value=outside), functional.pad(labels, margins))
    return squares[0][:, 0].numpy(), squares[1][:, 0].numpy()


def vary(
    images: NDArray[np.float32], label_map: LabelArray, levels: Range, seed: int, *, keep_contrast: bool = False
) -> tuple[NDArray[np.float32], LabelArray]:
    """Draw one variant of each slice: image and labels move together, intensities change.

    Parameters
    ----------
    images, label_map
        (slices, rows, columns); one pose, one look a slice.
    levels
        Values that the encoder will see as 0 and 1; what a pose brings in from outside has the lower one.
    keep_contrast
        No gamma: the order and spacing of CT's Hounsfield units are facts.
    """
    generator = torch.Generator().manual_seed(seed)
    low, span = levels[0], max(levels[1] - levels[0], 1e-6)
    unit = (torch.from_numpy(images) - low) / span
    places = _places(len(images), (images.shape[1], images.shape[2]), generator)
    moved = functional.grid_sample(unit[:, None], places, mode="bilinear", align_corners=False)[:, 0]
    labels = torch.from_numpy(label_map)[:, None].float()
    labels = functional.grid_sample(labels, places, mode="nearest", align_corners=False)[:, 0]
    looks = _noise(_recontrast(moved, generator, keep_contrast), generator)
    return (low + span * looks).numpy(), labels.to(torch.uint8).numpy()


def _places(count: int, shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Return where each pixel of the variants comes from, for ``grid_sample``: (count, rows, columns, 2)."""
    angle = _ROTATION_RAD * _even(generator, count)
    scale = torch.exp(_SCALE * _even(generator, count, 1) + _ASPECT * _even(generator, count, 2))
    shift = _SHIFT * _even(generator, count, 2)
    cosine, sine = torch.cos(angle), torch.sin(angle)
    aspect = shape[0] / shape[1]
    x_row = torch.stack([cosine * scale[:, 0], -sine * scale[:, 0] * aspect, shift[:, 0]], dim=-1)
    y_row = torch.stack([sine * scale[:, 1] / aspect, cosine * scale[:, 1], shift[:, 1]], dim=-1)
    places = functional.affine_grid(torch.stack([x_row, y_row], dim=1), [count, 1, *shape], align_corners=False)
    return places + _ELASTIC * _smooth(count, 2, _ELASTIC_NODES, shape, generator).permute(0, 2, 3, 1)


def _recontrast(images: Tensor, generator: torch.Generator, keep_contrast: bool) -> Tensor:
    """Vary (slices, rows, columns) on 0..1: gain, a smooth gain as a coil leaves it, offset and gamma."""
    count = len(images)
    gamma = torch.exp(_GAMMA * _even(generator, count, 1, 1))
    if not keep_contrast:
        images = torch.where(images > 0, images.clamp(min=1e-5) ** gamma, images)
    shape = (images.shape[1], images.shape[2])
    bias = torch.exp(_BIAS * _smooth(count, 1, _BIAS_NODES, shape, generator)[:, 0])
    gain, offset = 1 + _GAIN * _even(generator, count, 1, 1), _OFFSET * _even(generator, count, 1, 1)
    return images * bias * gain + offset * (images > 0)


def _noise(images: Tensor, generator: torch.Generator) -> Tensor:
    count = len(images)
    blurred = functional.avg_pool2d(images[:, None], 3, stride=1, padding=1, count_include_pad=False)[:, 0]
    soft = torch.rand(count, 1, 1, generator=generator) < _BLURRED_SHARE
    strength = _NOISE * torch.rand(count, 1, 1, generator=generator)
    return torch.where(soft, blurred, images) + strength * torch.randn(images.shape, generator=generator)


def _even(generator: torch.Generator, *shape: int) -> Tensor:
    """Draw evenly from -1 to 1."""
    return torch.rand(*shape, generator=generator) * 2 - 1


def _smooth(count: int, channels: int, nodes: int, shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Draw fields that vary smoothly over the image, of about unit spread: (count, channels, rows, columns)."""
    coarse = torch.randn(count, channels, nodes, nodes, generator=generator)
    return functional.interpolate(coarse, shape, mode="bicubic", align_corners=True)
