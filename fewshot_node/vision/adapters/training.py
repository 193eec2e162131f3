"""How a head over single pixels is trained: from which pixels, with which noise, by which optimizer."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fewshot_node.vision.adapters.head import POSITION_DIM, PixelHead, with_position
from fewshot_node.vision.adapters.sampling import PixelPools, pixel_pools
from fewshot_node.vision.adapters.settings import AdapterSettings
from fewshot_node.vision.adapters.support import Support

_FEATURE_NOISE = 0.3
_POSITION_JITTER = 0.1
_WEIGHT_DECAY = 1e-2


@dataclass(frozen=True, slots=True, eq=False)
class SupportPixels:
    """The support as single pixels, slice after slice, row after row.

    Attributes
    ----------
    raw
        float32 (pixels, channels + 2): features, and the place behind them.
    classes, units
        int64 (pixels,): adapter channel, and `Support.units`.
    pools
        The pixels by their role.
    a_slice
        How many pixels a slice has.
    """

    raw: Tensor
    classes: Tensor
    units: Tensor
    pools: PixelPools
    a_slice: int


def support_pixels(support: Support) -> SupportPixels:
    """Take a support apart."""
    classes = support.classes
    features = torch.from_numpy(support.features).float()
    return SupportPixels(
        with_position(features).flatten(0, 2),
        torch.from_numpy(classes).flatten(),
        torch.from_numpy(support.units).repeat_interleave(classes[0].size),
        pixel_pools(classes, len(support.label_values)),
        classes[0].size,
    )


def train(head: PixelHead, batch_loss: Callable[[], Tensor], settings: AdapterSettings) -> None:
    """Minimise the loss of the batches that `batch_loss` draws; the head is frozen afterwards."""
    trained = [value for value in head.parameters() if value.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=_WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.steps + 1, pct_start=0.1
    )
    for _ in range(settings.steps):
        loss = batch_loss()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    head.eval().requires_grad_(False)


def vary(pixels: Tensor, units: Tensor, position_weight: float, generator: torch.Generator) -> Tensor:
    """Add noise to the features, and another zoom and shift of the field of view to each unit's places.

    Parameters
    ----------
    pixels
        (pixels, channels + 2), standardised.
    units
        int64 (pixels,).
    """
    features, place = pixels[:, :-POSITION_DIM], pixels[:, -POSITION_DIM:]
    noise = _FEATURE_NOISE * torch.randn(features.shape, generator=generator)
    zoom, shift = _POSITION_JITTER * torch.randn(2, int(units.max()) + 1, POSITION_DIM, generator=generator)
    moved = place * (1 + zoom[units]) + shift[units] * position_weight
    return torch.cat([features + noise, moved], dim=1)
