"""The context adapter's network: a small U-Net over the cells of dense features."""

import torch
from torch import Tensor, nn
from torch.nn import functional

_LEVELS = 4
MULTIPLE = 1 << (_LEVELS - 1)
"""Cells of a side that the network halves and doubles again without a remainder."""

_GROUPS = 8
_DROPPED_FEATURES = 0.2


def _double_convolution(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in (inputs, outputs):
        layers += [nn.Conv2d(width, outputs, 3, padding=1, bias=False), nn.GroupNorm(_GROUPS, outputs), nn.GELU()]
    return nn.Sequential(*layers)


class ContextHead(nn.Module):
    """Features and place to logits: BDhw to B(labels + 1)hw, h and w multiples of 8.

    Attributes
    ----------
    mean, scale
        float32 (channels,): what features are standardised with.
    """

    def __init__(self, channels: int, width: int, classes: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(channels), requires_grad=False)
        self.scale = nn.Parameter(torch.ones(channels), requires_grad=False)
        widths = [_GROUPS * max(1, round(width * factor / _GROUPS)) for factor in (1, 1.5, 2, 3)]
        self.enter = nn.Conv2d(channels + 2, widths[0], 1)
        self.drop = nn.Dropout2d(_DROPPED_FEATURES)
        self.down = nn.ModuleList(
            _double_convolution(widths[max(level - 1, 0)], widths[level]) for level in range(_LEVELS)
        )
        self.up = nn.ModuleList(
            _double_convolution(widths[level] + widths[level + 1], widths[level]) for level in range(_LEVELS - 1)
        )
        self.leave = nn.Conv2d(widths[0], classes, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits of standardised features."""
        place = _places(features.shape[2], features.shape[3]).to(features)
        inputs = torch.cat([self.drop(features), place.expand(len(features), -1, -1, -1)], dim=1)
        current = self.enter(inputs.contiguous(memory_format=torch.channels_last))
        passed = []
        for level, block in enumerate(self.down):
            current = block(current if level == 0 else functional.max_pool2d(current, 2))
            passed.append(current)
        for level in reversed(range(_LEVELS - 1)):
            larger = functional.interpolate(current, scale_factor=2, mode="bilinear", align_corners=False)
            current = self.up[level](torch.cat([passed[level], larger], dim=1))
        logits: Tensor = self.leave(current)
        return logits

    def standardise(self, features: Tensor) -> Tensor:
        """Bring raw BDhw to the support's scale."""
        standard: Tensor = (features - self.mean[:, None, None]) * self.scale[:, None, None]
        return standard


def _places(height: int, width: int) -> Tensor:
    """Return the place within the square, row and column from -1 to 1: (1, 2, h, w)."""
    rows, columns = torch.linspace(-1, 1, height), torch.linspace(-1, 1, width)
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"))[None]
