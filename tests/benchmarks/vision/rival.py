"""What a whole-body 3D network costs: patches of a network like TotalSegmentator's ``--fast``, random weights."""

import math
import time

import torch
from monai.networks.nets import DynUNet
from torch import nn

SPACING_MM = 3.0
PATCH = (112, 112, 128)
CLASSES = 118
_WIDTHS = (32, 64, 128, 256, 320, 320)


def network() -> nn.Module:
    """Return nnU-Net's plain 3D configuration for this patch: six levels, two convolutions each."""
    levels = len(_WIDTHS)
    kernels = [[3, 3, 3]] * levels
    # The last step halves only what is still even: 7 x 7 x 8 -> 7 x 7 x 4 would help nobody, nnU-Net goes to 4.
    strides = [[1, 1, 1], *[[2, 2, 2]] * 4, [1, 1, 2]]
    net = DynUNet(3, 1, CLASSES, kernels, strides, strides[1:], filters=_WIDTHS)
    return net.eval().requires_grad_(False)


def patch_count(shape: tuple[int, ...], spacing_mm: tuple[float, ...]) -> int:
    """Count the patches of a sliding window with half overlap over a volume brought to 3 mm.

    Steps are spread evenly over what a first patch leaves, as nnU-Net does.
    """
    count = 1
    for side, spacing, patch in zip(shape, spacing_mm, PATCH, strict=True):
        voxels = max(round(side * spacing / SPACING_MM), patch)
        count *= math.ceil((voxels - patch) / (patch / 2)) + 1
    return count


def seconds_a_patch(repeats: int = 3) -> list[float]:
    """Time forward passes of one patch in float32, after one that warms up."""
    net, patch = network(), torch.randn(1, 1, *PATCH, generator=torch.Generator().manual_seed(0))
    seconds = []
    with torch.inference_mode():
        for _ in range(repeats + 1):
            started = time.perf_counter()
            net(patch)
            seconds.append(time.perf_counter() - started)
    return seconds[1:]
