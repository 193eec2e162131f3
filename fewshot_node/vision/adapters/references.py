"""Which template pixels stay with an adapter, to compare queries with."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2
from torch import Tensor

_CLUSTERED_PIXELS = 1500
_FEWEST = 2


@dataclass(frozen=True, slots=True, eq=False)
class References:
    """Embedded pixels of the templates.

    Attributes
    ----------
    embedded
        float32 (references, embedding), of unit length.
    classes, slices
        int64 (references,): adapter channel, and template slice.
    """

    embedded: Tensor
    classes: Tensor
    slices: Tensor


def choose_references(
    embedded: Tensor, groups: Sequence[tuple[int, int, NDArray[np.int64]]], budgets: Sequence[int], seed: int
) -> References:
    """Keep medoids of each group of pixels.

    Parameters
    ----------
    embedded
        (pixels, embedding).
    groups
        (class, slice, flat indices of its pixels); a class may come several times a slice, as the background
        near labels and far from them does.
    budgets
        References of each class; they are shared by its groups.
    """
    classes = [group[0] for group in groups]
    kept, kept_classes, kept_slices = [], [], []
    for number, (class_, slice_, indices) in enumerate(groups):
        count = max(_FEWEST, round(budgets[class_] / classes.count(class_)))
        chosen = medoids(embedded[torch.from_numpy(indices)], count, np.random.default_rng((seed, number)))
        kept.append(chosen)
        kept_classes += [class_] * len(chosen)
        kept_slices += [slice_] * len(chosen)
    return References(torch.cat(kept), torch.tensor(kept_classes), torch.tensor(kept_slices))


def medoids(vectors: Tensor, count: int, generator: np.random.Generator) -> Tensor:
    """Return up to `count` of the unit vectors, each the nearest to the centre of one k-means cluster."""
    if len(vectors) > _CLUSTERED_PIXELS:
        chosen = generator.choice(len(vectors), _CLUSTERED_PIXELS, replace=False)
        vectors = vectors[torch.from_numpy(np.sort(chosen))]
    vectors = torch.unique(vectors, dim=0)
    if len(vectors) <= count:
        return vectors
    with warnings.catch_warnings():
        # An empty cluster only means fewer references.
        warnings.simplefilter("ignore", UserWarning)
        centres, labels = kmeans2(vectors.double().numpy(), count, iter=10, minit="++", rng=generator)
    filled = np.unique(labels)
    nearest = (vectors.double() @ torch.from_numpy(centres[filled]).T).argmax(dim=0)
    return vectors[torch.unique(nearest)]
