"""A volume's slices as dense features, by a frozen encoder."""

import hashlib
import logging
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

from fewshot_node.errors import ConfigurationError
from fewshot_node.records import FeatureMap
from fewshot_node.uids import digest_parts
from fewshot_node.vision.backbone import DenseEncoder
from fewshot_node.vision.debias import positional_basis, project_out
from fewshot_node.vision.feature_cache import FeatureCache
from fewshot_node.vision.feature_store import allocate
from fewshot_node.vision.grids import InputGrid, input_grid
from fewshot_node.vision.intensity import IntensitySettings, Range, apply_ranges, intensity_ranges
from fewshot_node.vision.layers import JOINS

logger = logging.getLogger(__name__)

PRECISIONS = ("auto", "float32")
FEATURES_FORMAT = "features/1"
"""Names what this module computes; another name and nothing in a cache is taken for it."""


@dataclass(frozen=True, slots=True)
class EncodeSettings:
    """How slices reach the encoder, and what of it is read.

    Attributes
    ----------
    input_px
        Long side of a slice as the encoder sees it, rounded to what the encoder can take.
    feature_stride
        Distance of two feature vectors in pixels of the resized slice.
    precision
        ``"auto"`` is bfloat16 where the processor has it, else float32.
    layers, join
        How many of the backbone's last layers (a ResNet's stages) are read, and how they are joined: one of
        ``"concatenate"`` and ``"average"``.
    scales
        The slice is seen at each of these multiples of `input_px`; features lie on the finest one's grid, each
        of unit length, behind each other.
    debias
        Directions, at most, in which features vary over an image without content and which are taken out of
        them; 0 leaves them as they are.
    """

    input_px: int = 256
    batch: int = 8
    feature_stride: int = 4
    precision: str = "auto"
    intensity: IntensitySettings = field(default_factory=IntensitySettings)
    layers: int = 1
    join: str = "concatenate"
    scales: tuple[float, ...] = (1.0,)
    debias: int = 0

    def __post_init__(self) -> None:
        if min(self.input_px, self.batch, self.feature_stride, self.layers) < 1:
            raise ConfigurationError("encode.input_px, .batch, .feature_stride and .layers must be at least 1")
        if self.precision not in PRECISIONS:
            raise ConfigurationError(f"encode.precision: {self.precision!r}; give one of {', '.join(PRECISIONS)}")
        if self.join not in JOINS:
            raise ConfigurationError(f"encode.join: {self.join!r}; give one of {', '.join(JOINS)}")
        if not self.scales or not all(0 < scale <= _LARGEST_SCALE for scale in self.scales):
            raise ConfigurationError(f"encode.scales: give one or more, above 0 and up to {_LARGEST_SCALE:g}")
        if self.debias < 0:
            raise ConfigurationError("encode.debias must not be below 0")

    @property
    def finest_px(self) -> int:
        """Long side of the largest that the encoder sees."""
        return round(self.input_px * max(self.scales))


_LARGEST_SCALE = 8.0


@dataclass(frozen=True, slots=True, eq=False)
class _View:
    """One scale of the input, and the directions that are no content at it."""

    grid: InputGrid
    basis: Tensor | None = None


def encode(
    array: NDArray[np.float32],
    modality: str,
    encoder: DenseEncoder,
    settings: EncodeSettings | None = None,
    store: Path | FeatureCache | None = None,
    ranges: Sequence[Range] | None = None,
) -> FeatureMap:
    """Encode every slice of a volume.

    Parameters
    ----------
    array
        float32 (slices, rows, columns).
    modality
        Modality (0008,0060); it decides how intensities are scaled.
    store
        Where the features lie. None is memory; an existing folder gets a mapped file, which the caller removes;
        a cache keeps them and gives them again for the same pixels, ranges, settings and weights (never those
        of an encoder without a digest).
    ranges
        Intensity range of each input channel; None takes them from the volume and its modality. Slices
        that were cut from a series need the ranges of the whole series.

    Returns
    -------
    FeatureMap
        float16, on a grid of `settings.feature_stride` pixels of the largest resized slice.
    """
    settings = settings or EncodeSettings()
    started = time.perf_counter()
    rows, columns = array.shape[1:]
    ranges = tuple(ranges or intensity_ranges(array, modality, settings.intensity, encoder.in_channels))
    reader = encoder if settings.layers == 1 else encoder.reading(settings.layers, settings.join)
    grids = _grids((rows, columns), reader, settings)
    cells = max(grid.cells for grid in grids)
    shape = (len(array), *cells, reader.embedding_dim * len(grids))

    def fill(features: NDArray[np.float16]) -> None:
        _encode_into(features, array, ranges, reader, grids, settings)

    if isinstance(store, Path) or store is None or not encoder.features_digest:
        features = allocate(shape, store if isinstance(store, Path) else None)
        fill(features)
    else:
        features = store.fetch(_content_key(array, ranges, encoder, settings), shape, fill)
    logger.info(
        "encoded %d slices to %s features in %.1f s", len(array), features.shape[1:], time.perf_counter() - started
    )
    return FeatureMap(features, (rows, columns))


def _grids(image_shape: tuple[int, int], encoder: DenseEncoder, settings: EncodeSettings) -> list[InputGrid]:
    sides = [round(settings.input_px * scale) for scale in settings.scales]
    return [input_grid(image_shape, encoder.multiple, side, settings.feature_stride) for side in sides]


def _content_key(
    array: NDArray[np.float32], ranges: Sequence[Range], encoder: DenseEncoder, settings: EncodeSettings
) -> str:
    """Return the digest of all that decides the features."""
    device = best_device()
    precision = "bfloat16" if settings.precision == "auto" and _has_bfloat16(device) else "float32"
    pixels = hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
    described = repr((array.shape, tuple(ranges), settings, device.type, precision))
    return digest_parts(part.encode() for part in (FEATURES_FORMAT, pixels, described, encoder.features_digest))


def _encode_into(
    features: NDArray[np.float16],
    array: NDArray[np.float32],
    ranges: Sequence[Range],
    encoder: DenseEncoder,
    grids: Sequence[InputGrid],
    settings: EncodeSettings,
) -> None:
    """Write the features of all slices, batch by batch."""
    device = best_device()
    # Weights and images alike: half the time in bfloat16 on a CPU.
    encoder.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    with torch.inference_mode(), autocast(device, settings.precision):
        views = [_View(grid, _basis(encoder, grid, device, settings.debias)) for grid in grids]
        for start in range(0, len(array), settings.batch):
            part = slice(start, start + settings.batch)
            images = torch.from_numpy(apply_ranges(array[part], ranges)).to(device)
            encoded = _encode_batch(images, encoder, views, (features.shape[1], features.shape[2]))
            features[part] = encoded.to("cpu", torch.float16).numpy()


def _basis(encoder: DenseEncoder, grid: InputGrid, device: torch.device, components: int) -> Tensor | None:
    if not components:
        return None
    grey = torch.full((1, encoder.in_channels, *grid.padded), 0.5, device=device)
    return positional_basis(encoder(_scaled(grey, encoder)), components)


def _encode_batch(images: Tensor, encoder: DenseEncoder, views: Sequence[_View], cells: tuple[int, int]) -> Tensor:
    """Encode BCHW on 0..1: BhwD of unit length on (h, w) cells."""
    seen = [_encode_view(images, encoder, view, cells) for view in views]
    features = seen[0] if len(seen) == 1 else functional.normalize(torch.cat(seen, dim=1), dim=1)
    return features.permute(0, 2, 3, 1)


def _encode_view(images: Tensor, encoder: DenseEncoder, view: _View, cells: tuple[int, int]) -> Tensor:
    """Encode BCHW on 0..1 at one scale: BDhw of unit length on (h, w) cells."""
    grid = view.grid
    images = functional.interpolate(images, grid.resized, mode="bilinear", align_corners=False, antialias=True)
    below, right = (whole - part for whole, part in zip(grid.padded, grid.resized, strict=True))
    # The slice's own edge goes on: a black bar would be a structure of its own.
    images = functional.pad(_scaled(images.clamp(0, 1), encoder), (0, right, 0, below), mode="replicate")
    features = encoder(images.contiguous(memory_format=torch.channels_last)).float()
    if view.basis is not None:
        features = project_out(features, view.basis)
    stride = grid.resized[0] // grid.cells[0]
    features = _resized(features, (grid.padded[0] // stride, grid.padded[1] // stride))
    features = _resized(features[..., : grid.cells[0], : grid.cells[1]], cells)
    return functional.normalize(features, dim=1)


def _scaled(images: Tensor, encoder: DenseEncoder) -> Tensor:
    mean, std = (images.new_tensor(values)[:, None, None] for values in (encoder.image_mean, encoder.image_std))
    return (images - mean) / std


def _resized(features: Tensor, size: tuple[int, int]) -> Tensor:
    if features.shape[-2:] == size:
        return features
    return functional.interpolate(features, size, mode="bilinear", align_corners=False)


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
    # It pays without AMX as well: AVX512-BF16 alone took 0.6 of float32's time on a DINOv2-S, 0.4 to 0.7 on the
    # packaged encoder.
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
