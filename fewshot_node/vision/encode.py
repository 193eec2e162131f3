"""A volume's slices as dense features, by a frozen encoder."""

import logging
import math
import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fewshot_node.errors import ConfigurationError, DiskFullError
from fewshot_node.records import FeatureMap
from fewshot_node.vision.backbone import DenseEncoder
from fewshot_node.vision.intensity import IntensitySettings, Range, apply_ranges, intensity_ranges

logger = logging.getLogger(__name__)

PRECISIONS = ("auto", "float32")


@dataclass(frozen=True, slots=True)
class EncodeSettings:
    """How slices reach the encoder.

    Attributes
    ----------
    input_px
        Long side of a slice as the encoder sees it, rounded to what the encoder can take.
    feature_stride
        Distance of two feature vectors in pixels of the resized slice.
    precision
        ``"auto"`` is bfloat16 where the processor has it, else float32.
    """

    input_px: int = 256
    batch: int = 8
    feature_stride: int = 4
    precision: str = "auto"
    intensity: IntensitySettings = field(default_factory=IntensitySettings)

    def __post_init__(self) -> None:
        if min(self.input_px, self.batch, self.feature_stride) < 1:
            raise ConfigurationError("encode.input_px, encode.batch and encode.feature_stride must be at least 1")
        if self.precision not in PRECISIONS:
            raise ConfigurationError(f"encode.precision: {self.precision!r}; give one of {', '.join(PRECISIONS)}")


@dataclass(frozen=True, slots=True)
class InputGrid:
    """Sizes, each (height, width): the resized slice, the padded one, and the features that cover the slice."""

    resized: tuple[int, int]
    padded: tuple[int, int]
    cells: tuple[int, int]


def input_grid(image_shape: tuple[int, int], multiple: int, settings: EncodeSettings) -> InputGrid:
    """Lay out the encoder's input so that the features cover (rows, columns) edge to edge.

    The short side is rounded to the feature stride, which bends the aspect by less than half a cell.
    """
    stride = settings.feature_stride
    step = math.lcm(multiple, stride)
    long_side = max(1, round(settings.input_px / step)) * step
    scale = long_side / max(image_shape)
    resized = [max(1, round(side * scale / stride)) * stride for side in image_shape]
    padded = [math.ceil(side / step) * step for side in resized]
    cells = [side // stride for side in resized]
    return InputGrid((resized[0], resized[1]), (padded[0], padded[1]), (cells[0], cells[1]))


def encode(
    array: NDArray[np.float32],
    modality: str,
    encoder: DenseEncoder,
    settings: EncodeSettings | None = None,
    scratch: Path | None = None,
    ranges: Sequence[Range] | None = None,
) -> FeatureMap:
    """Encode every slice of a volume.

    Parameters
    ----------
    array
        float32 (slices, rows, columns).
    modality
        Modality (0008,0060); it decides how intensities are scaled.
    scratch
        An existing folder for a memory-mapped result; the caller removes it. None keeps it in memory.
    ranges
        Intensity range of each input channel; None takes them from the volume and its modality. Slices
        that were cut from a series need the ranges of the whole series.

    Returns
    -------
    FeatureMap
        float16, on a grid of `settings.feature_stride` pixels of the resized slice.
    """
    settings = settings or EncodeSettings()
    started = time.perf_counter()
    rows, columns = array.shape[1:]
    grid = input_grid((rows, columns), encoder.multiple, settings)
    ranges = ranges or intensity_ranges(array, modality, settings.intensity, encoder.in_channels)
    features = _allocate((len(array), *grid.cells, encoder.embedding_dim), scratch)
    device = best_device()
    # Weights and images alike: half the time in bfloat16 on a CPU.
    encoder.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    with torch.inference_mode(), autocast(device, settings.precision):
        for start in range(0, len(array), settings.batch):
            part = slice(start, start + settings.batch)
            images = torch.from_numpy(apply_ranges(array[part], ranges)).to(device)
            features[part] = _encode_batch(images, encoder, grid).to("cpu", torch.float16).numpy()
    logger.info(
        "encoded %d slices to %s features in %.1f s", len(array), features.shape[1:], time.perf_counter() - started
    )
    return FeatureMap(features, (rows, columns))


def _encode_batch(images: Tensor, encoder: DenseEncoder, grid: InputGrid) -> Tensor:
    """Encode BCHW on 0..1: BhwD of unit length on the grid's cells."""
    mean, std = (images.new_tensor(values)[:, None, None] for values in (encoder.image_mean, encoder.image_std))
    images = functional.interpolate(images, grid.resized, mode="bilinear", align_corners=False, antialias=True)
    images = (images.clamp(0, 1) - mean) / std
    below, right = (whole - part for whole, part in zip(grid.padded, grid.resized, strict=True))
    # The slice's own edge goes on: a black bar would be a structure of its own.
    images = functional.pad(images, (0, right, 0, below), mode="replicate")
    features = encoder(images.contiguous(memory_format=torch.channels_last)).float()
    stride = grid.resized[0] // grid.cells[0]
    size = (grid.padded[0] // stride, grid.padded[1] // stride)
    if features.shape[-2:] != size:
        features = functional.interpolate(features, size, mode="bilinear", align_corners=False)
    features = features[..., : grid.cells[0], : grid.cells[1]]
    return functional.normalize(features, dim=1).permute(0, 2, 3, 1)


def best_device() -> torch.device:
    """Return the GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(device: torch.device, precision: str = "auto") -> AbstractContextManager[object]:
    """Return a context that computes in bfloat16 where `precision` and the processor allow it."""
    if precision == "auto" and _has_bfloat16(device):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


def _allocate(shape: tuple[int, ...], scratch: Path | None) -> NDArray[np.float16]:
    if scratch is None:
        return np.empty(shape, dtype=np.float16)
    with tempfile.NamedTemporaryFile(dir=scratch, prefix="features-", suffix=".npy", delete=False) as file:
        path = Path(file.name)
        _reserve(file.fileno(), math.prod(shape) * np.dtype(np.float16).itemsize, scratch)
    mapped: NDArray[np.float16] = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
    return mapped


def _reserve(descriptor: int, size: int, folder: Path) -> None:
    """Take the room on disk now: a mapped file that finds the disk full later kills the process."""
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        message = f"{size // 2**20} MB of features do not fit into {folder} ({error.strerror}): free space there"
        raise DiskFullError(message) from error
