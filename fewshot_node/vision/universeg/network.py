"""The architecture (Butoi et al., UniverSeg: Universal Medical Image Segmentation, arXiv 2304.06131, section 3.2).

A U-Net in which every layer holds features of the query beside those of each support example. Names and shapes of
the weights are those of the published checkpoint, so that it loads; the computation is factorised. A cross
convolution of a pair is the sum of a convolution of the query and one of the example, so the query is convolved once
and not once an example; and the mean over examples goes through a convolution unchanged, so in the last layer, where
only the query is still needed, the examples are averaged first.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class _Each(nn.Module):
    """A module applied to images of any leading dimensions."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.vmapped = module

    def forward(self, images: Tensor) -> Tensor:
        answer: Tensor = self.vmapped(images.flatten(0, -4))
        return answer.reshape(*images.shape[:-3], *answer.shape[1:])


class _Cross(nn.Module):
    """Convolves the query with every example: see the module's text."""

    def __init__(self, query_channels: int, example_channels: int, out_channels: int) -> None:
        super().__init__()
        self.cross_conv = nn.Conv2d(query_channels + example_channels, out_channels, 3, padding=1)
        nn.init.kaiming_normal_(self.cross_conv.weight, nonlinearity="linear")
        nn.init.zeros_(self.cross_conv.bias)  # type: ignore[arg-type]
        self._query_channels = query_channels

    def forward(self, query: Tensor, examples: Tensor) -> Tensor:
        """Return the interaction of (B, C, h, w) with each of (B, S, C', h, w)."""
        weight, count = self.cross_conv.weight, self._query_channels
        here = functional.conv2d(query, weight[:, :count], self.cross_conv.bias, padding=1)
        there = functional.conv2d(examples.flatten(0, 1), weight[:, count:], padding=1)
        return here[:, None] + there.reshape(*examples.shape[:2], *there.shape[1:])


class CrossBlock(nn.Module):
    """Exchange between query and examples, then a convolution of its own for each."""

    def __init__(self, query_channels: int, example_channels: int, out_channels: int) -> None:
        super().__init__()
        self.cross = _Cross(query_channels, example_channels, out_channels)
        self.target = _Each(_convolution(out_channels, out_channels))
        self.support = _Each(_convolution(out_channels, out_channels))

    def forward(self, query: Tensor, examples: Tensor) -> tuple[Tensor, Tensor]:
        """Return the next features of the query, (B, C, h, w), and of the examples, (B, S, C, h, w)."""
        pairs = self.cross(query, examples)
        return self.target(pairs.mean(dim=1)), self.support(pairs)


class UniverSeg(nn.Module):
    """The whole network.

    Parameters
    ----------
    widths
        Channels of each level, finest first; the published network has ``(64, 64, 64, 64)``.
    """

    def __init__(self, widths: Sequence[int] = (64, 64, 64, 64)) -> None:
        super().__init__()
        self.widths = tuple(widths)
        # At first the query is its image, an example its image and its mask.
        channels = [(1, 2), *((width, width) for width in self.widths[:-1])]
        self.enc_blocks = nn.ModuleList(
            CrossBlock(*given, width) for given, width in zip(channels, self.widths, strict=True)
        )
        below = zip(self.widths[1:], self.widths[:-1], strict=True)
        rising = [(coarse + fine, fine) for coarse, fine in below][::-1]
        self.dec_blocks = nn.ModuleList(CrossBlock(given, given, width) for given, width in rising)
        self.out_conv = _convolution(self.widths[0], 1, kernel=1, activated=False)

    @property
    def multiple(self) -> int:
        """Height and width of the images must be multiples of this many pixels."""
        return int(2 ** (len(self.widths) - 1))

    def forward(self, image: Tensor, support_images: Tensor, support_masks: Tensor) -> Tensor:
        """Segment queries by their examples.

        Parameters
        ----------
        image
            Float (B, 1, h, w) on 0..1.
        support_images, support_masks
            Float (B, S, 1, h, w): on 0..1, and 0 or 1.

        Returns
        -------
        Tensor
            Logits (B, 1, h, w).
        """
        query, examples = image, torch.cat([support_images, support_masks], dim=2)
        passed: list[tuple[Tensor, Tensor]] = []
        for block in self.enc_blocks:
            if passed:
                query, examples = _halved(query), _halved(examples)
            query, examples = block(query, examples)
            passed.append((query, examples))
        passed.pop()
        for block in self.dec_blocks:
            fine = passed.pop()
            query = torch.cat([_doubled(query), fine[0]], dim=-3)
            examples = torch.cat([_doubled(examples), fine[1]], dim=-3)
            # Behind the last block only the query is needed: see the module's text.
            query, examples = block(query, examples if passed else examples.mean(dim=1, keepdim=True))
        logits: Tensor = self.out_conv(query)
        return logits


def _convolution(in_channels: int, out_channels: int, kernel: int = 3, activated: bool = True) -> nn.Sequential:
    """Return a convolution under its published name, its activation after it."""
    layers = nn.Sequential()
    conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="leaky_relu" if activated else "linear")
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    layers.add_module("conv", conv)
    if activated:
        layers.add_module("nonlin", nn.LeakyReLU())
    return layers


def _halved(images: Tensor) -> Tensor:
    coarser = functional.max_pool2d(images.flatten(0, -4), 2)
    return coarser.reshape(*images.shape[:-3], *coarser.shape[1:])


def _doubled(images: Tensor) -> Tensor:
    finer = functional.interpolate(images.flatten(0, -4), scale_factor=2, mode="bilinear", align_corners=True)
    return finer.reshape(*images.shape[:-3], *finer.shape[1:])
