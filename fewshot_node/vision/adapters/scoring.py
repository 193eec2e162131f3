"""What scoring a stack of slices has in common for all adapters."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from fewshot_node.records import FeatureMap, FloatArray

ABSENT = -20.0
"""Score of a class of which there is no example."""

_CELLS_AT_ONCE = 65_536


def feature_batches(features: FeatureMap | FloatArray) -> Iterator[tuple[slice, Tensor]]:
    """Yield a stack of slices piece by piece, float32 (slices, h, w, channels), so that memory stays bounded."""
    array = features.array if isinstance(features, FeatureMap) else features
    step = max(1, _CELLS_AT_ONCE // max(1, array.shape[1] * array.shape[2]))
    for start in range(0, len(array), step):
        part = slice(start, start + step)
        yield part, torch.from_numpy(np.asarray(array[part], dtype=np.float32))


def score_slices(
    features: FeatureMap | FloatArray, channels: int, score_slice: Callable[[Tensor], Tensor]
) -> NDArray[np.float32]:
    """Score a stack slice by slice: float32 (slices, channels, h, w).

    `score_slice` maps float32 (h, w, feature channels) to (channels, h, w).
    """
    shape = (features.array if isinstance(features, FeatureMap) else features).shape
    scores = np.empty((shape[0], channels, *shape[1:3]), dtype=np.float32)
    with torch.inference_mode():
        for part, batch in feature_batches(features):
            scores[part] = torch.stack([score_slice(one) for one in batch]).numpy()
    return scores


def smooth(scores: Tensor, sigma: float) -> Tensor:
    """Average (channels, h, w) over neighbouring cells with a Gaussian; the edge goes on outside."""
    if sigma <= 0:
        return scores
    return torch.from_numpy(ndimage.gaussian_filter(scores.numpy(), (0, sigma, sigma), mode="nearest", truncate=3.0))


def descriptor(features: Tensor) -> Tensor:
    """Return the unit mean feature vector of a slice (h, w, channels): what it looks like as a whole."""
    return functional.normalize(features.flatten(0, 1).mean(dim=0), dim=0)
