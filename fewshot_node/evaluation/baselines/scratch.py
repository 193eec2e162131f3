"""A U-Net trained on the templates alone, as nnU-Net would be: the answer to why one does not just train."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from monai.losses.dice import DiceCELoss
from monai.networks.nets.dynunet import DynUNet
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fewshot_node.evaluation.baselines.rival import Example
from fewshot_node.records import LabelArray
from fewshot_node.tasks.augment import at_working_size, vary
from fewshot_node.vision.encode import autocast, best_device

_RANGE = (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class ScratchSettings:
    """How long and how large; a minute or two on two cores.

    Attributes
    ----------
    steps, batch
        Optimiser steps, and varied slices in each.
    image_px
        Long side of a slice as the network sees it.
    widths
        Channels of each level.
    """

    steps: int = 200
    batch: int = 4
    image_px: int = 160
    widths: tuple[int, ...] = (16, 32, 64, 128)
    learning_rate: float = 3e-3
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class ScratchUNet:
    """nnU-Net's network (MONAI's DynUNet, 2D) and loss, on slices varied anew in every step.

    Poses and looks are varied as the templates of a task are, and no network was trained before. nnU-Net itself
    trains for a day on a graphics card; this is what a few minutes of a processor give. The same seed and slices give
    the same network.
    """

    settings: ScratchSettings = field(default_factory=ScratchSettings)
    name: str = "unet-scratch"

    def learn(self, examples: Sequence[Example], label_values: tuple[int, ...]) -> "TrainedUNet":
        """Train a network anew."""
        squares = [_square(one.image, one.labels, self.settings.image_px) for one in examples]
        images, labels = (np.concatenate(parts) for parts in zip(*squares, strict=True))
        classes = np.zeros(256, dtype=np.uint8)
        classes[list(label_values)] = np.arange(1, len(label_values) + 1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.settings.seed)
            network = _network(len(label_values), self.settings).to(best_device())
            _train(network, images, classes[labels], self.settings)
        return TrainedUNet(network.eval().requires_grad_(False), self.settings.image_px)


@dataclass(frozen=True, slots=True, eq=False)
class TrainedUNet:
    """A network, and the long side of a slice as it sees it."""

    network: DynUNet
    image_px: int

    def label_logits(self, image: NDArray[np.float32]) -> Tensor:
        """Return (labels, rows, columns) logits, above the background's, of a slice (rows, columns) on 0..1."""
        square, _ = _square(image, np.zeros(image.shape, dtype=np.uint8), self.image_px)
        device = best_device()
        with torch.inference_mode(), autocast(device):
            answer = self.network(torch.from_numpy(square)[:, None].to(device)).float()
        return _from_square(answer[:, 1:] - answer[:, :1], (image.shape[0], image.shape[1]))[0]


def _network(labels: int, settings: ScratchSettings) -> DynUNet:
    levels = len(settings.widths)
    return DynUNet(
        spatial_dims=2,
        in_channels=1,
        out_channels=labels + 1,
        kernel_size=[3] * levels,
        strides=[1, *[2] * (levels - 1)],
        upsample_kernel_size=[2] * (levels - 1),
        filters=list(settings.widths),
        norm_name="instance",
    )


def _train(network: DynUNet, images: NDArray[np.float32], classes: LabelArray, settings: ScratchSettings) -> None:
    device = best_device()
    loss_of = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.learning_rate, total_steps=settings.steps)
    rng = np.random.default_rng(settings.seed)
    network.train()
    for _ in range(settings.steps):
        chosen = rng.choice(len(images), settings.batch, replace=settings.batch > len(images))
        shown, truth = vary(images[chosen], classes[chosen], _RANGE, int(rng.integers(2**31)))
        with autocast(device):
            answer = network(torch.from_numpy(shown)[:, None].to(device))
        loss = loss_of(answer.float(), torch.from_numpy(truth)[:, None].to(device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()


def _square(image: NDArray[np.float32], labels: LabelArray, side: int) -> tuple[NDArray[np.float32], LabelArray]:
    return at_working_size(np.ascontiguousarray(image)[None], np.ascontiguousarray(labels)[None], side, _RANGE[0])


def _from_square(logits: Tensor, image_shape: tuple[int, int]) -> Tensor:
    """Bring (1, channels, side, side) from the middle of a square, where `at_working_size` put it, to the image."""
    side = logits.shape[-1]
    rows, columns = (max(1, round(length * side / max(image_shape))) for length in image_shape)
    top, left = (side - rows) // 2, (side - columns) // 2
    inner = logits[..., top : top + rows, left : left + columns]
    return functional.interpolate(inner, image_shape, mode="bilinear", align_corners=False)
