"""Which template pixels stay with an adapter, to compare queries with, and how much each counts."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2
from torch import Tensor
from torch.nn import functional

from fewshot_node.vision.adapters.sampling import PixelPools

_CLUSTERED_PIXELS = 1500
_FEWEST = 2
_RETRIEVAL_SCALE = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class References:
    """Pixels of the templates.

    Attributes
    ----------
    vectors
        float32 (references, channels): what the adapter keeps of each.
    classes, slices
        int64 (references,): adapter channel, and template slice.
    """

    vectors: Tensor
    classes: Tensor
    slices: Tensor

    def weights(self, likeness: Tensor, channels: int) -> Tensor:
        """Return (references, channels): how much each reference counts for its class.

        References are averaged within a template slice first; then the slices are averaged, weighted by the
        softmax of `likeness`, (template slices,). A class's column sums to 1, or to 0 where it has no
        reference or all of them are held out by a likeness of minus infinity.
        """
        group = self.slices * channels + self.classes
        size = torch.bincount(group)[group]
        # Per class, and in logarithms: a label must not fade because only an unlike template shows it.
        weight = (likeness[self.slices] - size.log())[:, None]
        own = functional.one_hot(self.classes, channels).bool()
        return torch.softmax(weight.masked_fill(~own, -torch.inf), dim=0).nan_to_num(0.0)


def template_likeness(descriptors: Tensor, query: Tensor, retrieval: float) -> Tensor:
    """Return (template slices,): how much each looks like the query slice; both given by unit descriptors."""
    return _RETRIEVAL_SCALE * retrieval * (descriptors @ query)


def label_groups(pools: PixelPools, a_slice: int) -> list[tuple[int, int, NDArray[np.int64]]]:
    """Return the (class, slice, flat indices) of each label in each slice; a slice has `a_slice` pixels."""
    return [
        (label, int(indices[0]) // a_slice, indices)
        for label, places in enumerate(pools.foreground, start=1)
        for indices in places
    ]


def background_groups(pools: PixelPools, a_slice: int) -> list[tuple[int, int, NDArray[np.int64]]]:
    """Return the same of the background, near labels and far from them."""
    return [(0, int(indices[0]) // a_slice, indices) for indices in (*pools.ring, *pools.elsewhere)]


def choose_references(
    embedded: Tensor,
    kept: Tensor,
    groups: Sequence[tuple[int, int, NDArray[np.int64]]],
    budgets: Sequence[int],
    seed: int,
) -> References:
    """Keep medoids of each group of pixels.

    Parameters
    ----------
    embedded
        (pixels, embedding), of unit length: in this space they are chosen.
    kept
        (pixels, channels): what stays of those chosen; may be `embedded` itself.
    groups
        (class, slice, flat indices of its pixels); a class may come several times a slice, as the background
        near labels and far from them does.
    budgets
        References of each class; they are shared by its groups.
    """
    classes = [group[0] for group in groups]
    chosen, chosen_classes, chosen_slices = [], [], []
    for number, (class_, slice_, indices) in enumerate(groups):
        places = torch.from_numpy(indices)
        count = max(_FEWEST, round(budgets[class_] / classes.count(class_)))
        found = places[medoids(embedded[places], count, np.random.default_rng((seed, number)))]
        chosen.append(found)
        chosen_classes += [class_] * len(found)
        chosen_slices += [slice_] * len(found)
    return References(kept[torch.cat(chosen)], torch.tensor(chosen_classes), torch.tensor(chosen_slices))


def medoids(vectors: Tensor, count: int, generator: np.random.Generator) -> Tensor:
    """Return indices of up to `count` of the unit vectors, each the nearest to the centre of a k-means cluster."""
    sample = torch.arange(len(vectors))
    if len(vectors) > _CLUSTERED_PIXELS:
        sample = torch.from_numpy(np.sort(generator.choice(len(vectors), _CLUSTERED_PIXELS, replace=False)))
    distinct, inverse = torch.unique(vectors[sample], dim=0, return_inverse=True)
    first = torch.full((len(distinct),), len(vectors)).scatter_reduce(0, inverse, sample, "amin")
    if len(distinct) <= count:
        return first
    with warnings.catch_warnings():
        # An empty cluster only means fewer references.
        warnings.simplefilter("ignore", UserWarning)
        centres, labels = kmeans2(distinct.double().numpy(), count, iter=10, minit="++", rng=generator)
    filled = np.unique(labels)
    nearest = (distinct.double() @ torch.from_numpy(centres[filled]).T).argmax(dim=0)
    return first[torch.unique(nearest)]
