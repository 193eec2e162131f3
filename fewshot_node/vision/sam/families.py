"""What differs between the SAM architectures of `transformers`: how features come out and go in."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers import Sam2Config, Sam2Model, SamConfig, SamHQConfig, SamHQModel, SamModel

Features = tuple[Tensor, tuple[Tensor, ...]]
"""The embedding, and what `EmbeddedImage.detail` holds."""


@dataclass(frozen=True, slots=True)
class Family:
    """One architecture.

    Attributes
    ----------
    encode
        (model, pixels) -> features.
    decoder_inputs
        (features, number of prompts) -> keyword arguments of the model's forward.
    squashes
        See `InputFrame`.
    """

    model_class: Any
    config_class: Any
    encode: Callable[[Any, Tensor], Features]
    decoder_inputs: Callable[[Features, int], dict[str, Any]]
    squashes: bool = False


def _repeat(features: Tensor, count: int) -> Tensor:
    # One image a prompt: a decoder takes one mask input an image.
    return features.expand(count, -1, -1, -1)


def _encode_sam(model: Any, pixels: Tensor) -> Features:
    return model.get_image_embeddings(pixels).float(), ()


def _sam_inputs(features: Features, count: int) -> dict[str, Any]:
    return {"image_embeddings": _repeat(features[0], count)}


def _encode_sam_hq(model: Any, pixels: Tensor) -> Features:
    embedding, intermediate = model.get_image_embeddings(pixels)
    # The decoder looks at the first of the intermediate maps only.
    return embedding.float(), (intermediate[0].float(),)


def _sam_hq_inputs(features: Features, count: int) -> dict[str, Any]:
    return {"image_embeddings": _repeat(features[0], count), "intermediate_embeddings": list(features[1])}


def _encode_sam2(model: Any, pixels: Tensor) -> Features:
    *finer, coarsest = (level.float() for level in model.get_image_embeddings(pixels))
    return coarsest, tuple(finer)


def _sam2_inputs(features: Features, count: int) -> dict[str, Any]:
    coarsest, finer = features
    return {"image_embeddings": [_repeat(level, count) for level in (*finer, coarsest)]}


_SAM2 = Family(Sam2Model, Sam2Config, _encode_sam2, _sam2_inputs, squashes=True)

FAMILIES: Mapping[str, Family] = {
    "sam": Family(SamModel, SamConfig, _encode_sam, _sam_inputs),
    "sam_hq": Family(SamHQModel, SamHQConfig, _encode_sam_hq, _sam_hq_inputs),
    "sam2": _SAM2,
    # Released SAM 2 checkpoints are stated as video models; their image half is what we load.
    "sam2_video": _SAM2,
}
"""By the `model_type` of a checkpoint's config."""
