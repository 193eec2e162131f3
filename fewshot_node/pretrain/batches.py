"""Training batches of synthetic view pairs, each a pure function of (seed, step), so that runs can resume."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewshot_node.pretrain.appearance import paint, related_looks, sample_looks
from fewshot_node.pretrain.contrastive import sample_balanced
from fewshot_node.pretrain.label_maps import VARIANTS, LabelMap, random_label_map
from fewshot_node.pretrain.map_pool import MapPool, PoolSettings
from fewshot_node.pretrain.views import corresponding_points, look, sample_view_pair

# Independent streams of random numbers under one seed.
_MAP_STREAM, _BATCH_STREAM, _HELD_OUT_STREAM = 0, 1, 2


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """Size of a batch and where its numbers come from.

    Attributes
    ----------
    pairs
        View pairs in a batch.
    image_px, map_px
        Side of a view and of a label map.
    points, places
        Labelled points in each view, and corresponding places in each pair.
    pool_maps, new_maps
        Label maps to choose from at a time, and how many of them are replaced at every step.
    seed
        Seed of everything random.
    """

    pairs: int = 24
    image_px: int = 192
    map_px: int = 320
    points: int = 128
    places: int = 48
    pool_maps: int = 72
    new_maps: int = 3
    seed: int = 20240

    def pool(self) -> PoolSettings:
        """Return which label maps there are to choose from."""
        return PoolSettings(self.seed, _MAP_STREAM, self.map_px, VARIANTS, self.pool_maps, self.new_maps)


@dataclass(frozen=True, slots=True, eq=False)
class PairBatch:
    """Image pairs with their labels and corresponding places.

    Attributes
    ----------
    images
        Float ``(2 B, 1, side, side)`` in 0..1: first views, then second views.
    labels
        int64 ``(2 B, side, side)``.
    points
        int64 ``(2 B, N, 2)``: class-balanced pixels, ``(x, y)``.
    place_points
        Float ``(2 B, M, 2)``: the same places in both views.
    place_visible
        Bool ``(B, M)``: the second view shows the place, of the same variant of the anatomy.
    places
        Float ``(B, M, 2)``, in map pixels.
    """

    images: Tensor
    labels: Tensor
    points: Tensor
    place_points: Tensor
    place_visible: Tensor
    places: Tensor


def training_batch(pool: MapPool, step: int, settings: BatchSettings) -> PairBatch:
    """Make the batch of one training step."""
    rng = np.random.default_rng([settings.seed, _BATCH_STREAM, step])
    maps = pool.choose(step, settings.pairs, rng)
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    return pair_batch(maps, settings, generator)


def held_out_batch(pairs: int, settings: BatchSettings) -> PairBatch:
    """Make pairs of maps that no training step sees."""
    seeds = [[settings.seed, _HELD_OUT_STREAM, index] for index in range(pairs)]
    maps = [random_label_map(np.random.default_rng(seed), settings.map_px) for seed in seeds]
    return pair_batch(maps, settings, torch.Generator().manual_seed(settings.seed))


def pair_batch(maps: Sequence[LabelMap], settings: BatchSettings, generator: torch.Generator) -> PairBatch:
    """Draw one view pair of each map: geometry, looks, labelled points and corresponding places."""
    count = len(maps)
    structures = torch.from_numpy(np.stack([one.structures for one in maps])).float()
    first, second = sample_view_pair(count, settings.map_px, settings.image_px, generator)
    first_places, second_places = first.map_coordinates(), second.map_coordinates()
    same_variant = torch.rand(count, generator=generator) < 0.5
    other = torch.where(same_variant[:, None, None, None], structures[:, :1], structures[:, 1:])
    seen = torch.cat([look(structures[:, :1], first_places), look(other, second_places)])[:, 0].long()
    labels = _through_table(seen, [one.label_of for one in maps])
    materials = _through_table(seen, [one.material_of for one in maps])
    looks = sample_looks(count, generator)
    images = torch.cat(
        [
            paint(materials[:count], looks, generator),
            paint(materials[count:], related_looks(looks, generator), generator),
        ]
    )
    # Balanced over labels here too, else nearly all places would lie in the background.
    here = sample_balanced(labels[:count], settings.places, generator)
    there, visible = corresponding_points(here, first_places, second)
    rows = torch.arange(count)[:, None]
    return PairBatch(
        images=images,
        labels=labels,
        points=sample_balanced(labels, settings.points, generator),
        place_points=torch.cat([here.float(), there]),
        place_visible=visible & same_variant[:, None],
        places=first_places[rows, here[..., 1], here[..., 0]],
    )


def _through_table(structures: Tensor, tables: Sequence[NDArray[np.uint8]]) -> Tensor:
    table = torch.from_numpy(np.stack(tables)).long().repeat(2, 1)
    return table.gather(1, structures.flatten(1)).view_as(structures)
