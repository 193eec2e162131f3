"""Synthetic few-shot tasks: images of several patients with the same anatomy, and one structure to be found in them.

Each batch is a pure function of (seed, step), so that runs can resume. Anatomies and looks are those that the
embedded encoder learns from.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fewshot_node.pretrain.appearance import Looks, paint, related_looks, sample_looks
from fewshot_node.pretrain.label_maps import OUTSIDE, LabelMap, random_label_map
from fewshot_node.pretrain.map_pool import MapPool, PoolSettings
from fewshot_node.pretrain.views import ViewRanges, look, sample_view_pair

# Independent streams of random numbers under one seed.
_MAP_STREAM, _TASK_STREAM, _HELD_OUT_STREAM = 5, 6, 7

_SMALLEST_SHARE, _LARGEST_SHARE = 0.002, 0.5
"""Of an image that a structure must fill in the query and in half of the examples."""
_ABSENT_SHARE = 0.1
"""Of queries that show another anatomy, where nothing is to be found."""
_REDRAWN_LOOKS = 0.1
_SEEN_SHARE = (0.7, 1.0)
"""Of a map's side that an image shows."""
_ZOOM_SPREAD = 0.12
_ELASTIC_PX = 2.0
_FINER = 2
"""Images are painted so many times as fine and then averaged: real ones, made as small, are as sharp."""


@dataclass(frozen=True, slots=True)
class TaskSettings:
    """Size of a batch and where its numbers come from.

    Attributes
    ----------
    tasks
        In a batch.
    fewest_examples, most_examples
        That a task is shown with; one number a batch.
    image_px, map_px
        Side of an image and of a label map.
    pool_maps, new_maps
        Label maps to choose from at a time, and how many of them are replaced at every step.
    """

    tasks: int
    fewest_examples: int
    most_examples: int
    image_px: int
    map_px: int
    seed: int
    pool_maps: int = 48
    new_maps: int = 1

    def pool(self) -> PoolSettings:
        """Return which anatomies there are to choose from, each of as many patients as a task needs."""
        patients = self.most_examples + 1
        return PoolSettings(self.seed, _MAP_STREAM, self.map_px, patients, self.pool_maps, self.new_maps)


@dataclass(frozen=True, slots=True, eq=False)
class TaskBatch:
    """Queries with their examples: images on 0..1 and masks of 0 and 1.

    Attributes
    ----------
    images, masks
        Float (tasks, 1, side, side).
    support_images, support_masks
        Float (tasks, examples, 1, side, side).
    """

    images: Tensor
    masks: Tensor
    support_images: Tensor
    support_masks: Tensor


def training_tasks(pool: MapPool, step: int, settings: TaskSettings) -> TaskBatch:
    """Make the batch of one training step."""
    rng = np.random.default_rng([settings.seed, _TASK_STREAM, step])
    maps = pool.choose(step, settings.tasks, rng)
    examples = int(rng.integers(settings.fewest_examples, settings.most_examples + 1))
    return task_batch(maps, examples, settings.image_px, rng)


def held_out_tasks(count: int, examples: int, settings: TaskSettings) -> TaskBatch:
    """Make tasks of anatomies that no training step sees."""
    rng = np.random.default_rng([settings.seed, _HELD_OUT_STREAM])
    maps = [random_label_map(rng, settings.map_px, examples + 1) for _ in range(count)]
    return task_batch(maps, examples, settings.image_px, rng)


def task_batch(maps: Sequence[LabelMap], examples: int, image_px: int, rng: np.random.Generator) -> TaskBatch:
    """Draw one task of each anatomy: poses, looks and the structure that is asked for."""
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    seen = torch.cat([_views(one, examples + 1, _FINER * image_px, generator) for one in maps])
    owners = np.repeat(np.arange(len(maps)), examples + 1)
    tables = torch.from_numpy(np.stack([one.material_of for one in maps])[owners]).long()
    materials = tables.gather(1, seen.flatten(1)).view_as(seen)
    painted = paint(materials, _looks(len(maps), examples + 1, generator), generator)
    images = functional.avg_pool2d(painted, _FINER)
    labels = np.stack([one.label_of for one in maps])[owners[:, None], seen.flatten(1).numpy()].reshape(seen.shape)
    by_task = labels.reshape(len(maps), examples + 1, *labels.shape[1:])
    wanted = torch.from_numpy(np.stack([one == _ask_for(one, rng) for one in by_task])).float()
    masks = (functional.avg_pool2d(wanted, _FINER) >= 0.5).float()[:, :, None]
    shown = images.reshape(len(maps), examples + 1, *images.shape[1:])
    queries, truths = shown[:, 0], masks[:, 0]
    if len(maps) > 1:
        absent = torch.from_numpy(rng.random(len(maps)) < _ABSENT_SHARE)[:, None, None, None]
        queries = torch.where(absent, queries.roll(1, 0), queries)
        truths = torch.where(absent, 0.0, truths)
    return TaskBatch(queries, truths, shown[:, 1:], masks[:, 1:])


def _views(one: LabelMap, count: int, image_px: int, generator: torch.Generator) -> Tensor:
    """Look at as many patients of one anatomy, about as large in each image: int64 (count, side, side)."""
    structures = torch.from_numpy(one.structures[:count]).float()
    map_px = one.structures.shape[-1]
    share = _SEEN_SHARE[0] + (_SEEN_SHARE[1] - _SEEN_SHARE[0]) * float(torch.rand(1, generator=generator))
    zoom = share * map_px / image_px
    ranges = ViewRanges(zoom=(zoom * (1 - _ZOOM_SPREAD), zoom * (1 + _ZOOM_SPREAD)), elastic_px=_ELASTIC_PX)
    view, _ = sample_view_pair(count, map_px, image_px, generator, ranges)
    return look(structures[:, None], view.map_coordinates())[:, 0].long()


def _looks(tasks: int, patients: int, generator: torch.Generator) -> Looks:
    """Draw how each patient of each task looks: within a task, most come from the same kind of scan."""
    own = sample_looks(tasks, generator)
    again = torch.arange(tasks).repeat_interleave(patients)
    repeated = Looks(own.mean[again], own.texture[again], own.is_ct[again])
    return related_looks(repeated, generator, _REDRAWN_LOOKS)


def _ask_for(labels: NDArray[np.uint8], rng: np.random.Generator) -> int:
    """Choose a label that query and half of the examples show, (patients, side, side); small ones as often as large."""
    sizes = np.stack([np.bincount(one.reshape(-1), minlength=256) for one in labels])
    fits = (sizes >= _SMALLEST_SHARE * labels[0].size) & (sizes <= _LARGEST_SHARE * labels[0].size)
    good = np.flatnonzero(fits[0] & (fits[1:].mean(axis=0) >= 0.5))
    good = good[good != OUTSIDE]
    # Where all is too small or too large, what the query shows most of: tissue, or what surrounds the body.
    return int(rng.choice(good)) if good.size else int(sizes[0].argmax())
