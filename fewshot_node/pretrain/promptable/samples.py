"""Crops of synthetic images, regions in them, and prompts made as the node makes them.

A region's coarse mask is its truth as an adapter would have found it: on a coarse grid, with a wrong edge.
Prompts come from `vision.prompts` itself, so that training asks what inference asks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cc3d
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from fewshot_node.pretrain.appearance import paint, sample_looks
from fewshot_node.pretrain.label_maps import LabelMap
from fewshot_node.pretrain.promptable.settings import PromptableSettings
from fewshot_node.pretrain.views import look
from fewshot_node.records import Localization, Prompts
from fewshot_node.vision.prompts import STRATEGIES, PromptSettings, place_prompts

_SMALLEST_PX, _LARGEST_SHARE = 40, 0.5
_MARGINS = (0.3, 1.0)
_SMALLEST_CROP_SHARE = 0.2
_GRIDS = (16, 24, 32)
_EDGE_NOISE = 0.35
_WHOLE_LABEL_SHARE = 0.3


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """What is asked about: truth and coarse mask, bool (side, side), and log-odds (1, 2, h, w) of the latter."""

    crop: int
    truth: NDArray[np.bool_]
    coarse: NDArray[np.bool_]
    scores: NDArray[np.float32]

    def prompt(self, settings: PromptSettings) -> Prompts:
        """Ask about the coarse mask as a whole."""
        found = Localization(self.coarse[None].astype(np.uint8), self.scores, (1,))
        return next(iter(place_prompts(found, settings)))


@dataclass(frozen=True, slots=True, eq=False)
class CropBatch:
    """Crops on 0..1, float (B, 1, side, side), and the regions in them, ordered by crop."""

    images: Tensor
    regions: tuple[Region, ...]

    @property
    def truth(self) -> Tensor:
        """Float (regions, side, side)."""
        return torch.from_numpy(np.stack([region.truth for region in self.regions])).float()


def crop_batch(maps: Sequence[LabelMap], settings: PromptableSettings, rng: np.random.Generator) -> CropBatch:
    """Draw one crop of each map around one of its structures, paint it, and choose regions in it."""
    structures = torch.from_numpy(np.stack([one.structures[rng.integers(2)] for one in maps])).float()
    pairs = zip(maps, structures, strict=True)
    places = torch.from_numpy(np.stack([_places(one, shown, settings, rng) for one, shown in pairs]))
    seen = look(structures[:, None], places)[:, 0].long().numpy()
    materials = np.stack([one.material_of[crop] for one, crop in zip(maps, seen, strict=True)]).astype(np.int64)
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    images = paint(torch.from_numpy(materials), sample_looks(len(maps), generator), generator)
    labels = (one.label_of[crop] for one, crop in zip(maps, seen, strict=True))
    regions = [region for crop, shown in enumerate(labels) for region in _regions(crop, shown, settings, rng)]
    return CropBatch(images, tuple(regions))


def random_prompt_settings(rng: np.random.Generator) -> PromptSettings:
    """Choose how a step asks: any strategy, more or fewer points, with and without a mask."""
    strategy = STRATEGIES[rng.integers(len(STRATEGIES))]
    return PromptSettings(
        strategy=strategy,
        points=int(rng.integers(1, 13)),
        negatives=int(rng.integers(0, 6)),
        mask_input=bool(rng.random() < 0.7),
        per_component=False,
        seed=int(rng.integers(2**31)),
    )


def _places(
    one: LabelMap, shown: Tensor, settings: PromptableSettings, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return where in the map each pixel of a crop lies, (side, side, 2) as (x, y)."""
    top, left, bottom, right = _bounds(one.label_of[shown.long().numpy()], rng)
    longer = max(bottom - top, right - left)
    side = max(longer * (1 + 2 * rng.uniform(*_MARGINS)), _SMALLEST_CROP_SHARE * settings.map_px)
    centre = np.array([left + right, top + bottom]) / 2 + 0.15 * side * rng.uniform(-1, 1, 2)
    angle = rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    axis = ((np.arange(settings.image_px) + 0.5) / settings.image_px - 0.5) * side
    offsets = np.stack(np.meshgrid(axis, axis), axis=-1)
    places: NDArray[np.float32] = (centre + offsets @ turn.T).astype(np.float32)
    return places


def _bounds(labels: NDArray[np.uint8], rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Return top, left, bottom and right of one of the map's structures, a component of a random label."""
    values = np.unique(labels)
    value = values[rng.integers(len(values))]
    parts, count = cc3d.connected_components(labels == value, connectivity=8, return_N=True)
    rows, columns = ndimage.find_objects(parts)[rng.integers(count)]
    return rows.start, columns.start, rows.stop, columns.stop


def _regions(
    crop: int, labels: NDArray[np.uint8], settings: PromptableSettings, rng: np.random.Generator
) -> Iterator[Region]:
    """Choose `settings.regions` regions of a crop; the same one again where there are too few."""
    masks = list(_candidates(labels, rng))
    if not masks:
        return
    for index in rng.choice(len(masks), settings.regions, replace=len(masks) < settings.regions):
        region = _degrade(crop, masks[index], rng)
        if region is not None:
            yield region


def _candidates(labels: NDArray[np.uint8], rng: np.random.Generator) -> Iterator[NDArray[np.bool_]]:
    whole = rng.random() < _WHOLE_LABEL_SHARE
    for value in np.unique(labels):
        mask = labels == value
        parts = mask.astype(np.uint8) if whole else cc3d.connected_components(mask, connectivity=8)
        sizes = np.bincount(parts.reshape(-1))
        for part in range(1, len(sizes)):
            if _SMALLEST_PX <= sizes[part] <= _LARGEST_SHARE * labels.size:
                yield parts == part


def _degrade(crop: int, truth: NDArray[np.bool_], rng: np.random.Generator) -> Region | None:
    """Make what an adapter would have found: coarse cells, a soft and partly wrong edge; None if nothing is left."""
    cells = int(rng.choice(_GRIDS))
    side = truth.shape[0]
    cover = functional.adaptive_avg_pool2d(torch.from_numpy(truth)[None, None].float(), cells)[0, 0].numpy()
    soft = ndimage.gaussian_filter(cover, rng.uniform(0.2, 1.2))
    noise = ndimage.gaussian_filter(rng.normal(0, 1, (cells, cells)), rng.uniform(0.7, 3.0))
    noise *= _EDGE_NOISE * rng.uniform() / max(float(noise.std()), 1e-6)
    # Noise moves edges; far from them, where an adapter is sure, it must not invent regions.
    near = np.exp(-((ndimage.distance_transform_edt(cover < 0.5) / 3.0) ** 2))
    odds = (np.clip(soft, 0, 1) + noise * near - rng.uniform(0.35, 0.6)).astype(np.float32) * 6
    scores = np.stack([np.zeros_like(odds), odds])[None]
    fine = functional.interpolate(torch.from_numpy(scores), (side, side), mode="bilinear", align_corners=False)
    coarse = (fine[0, 1] > 0).numpy()
    return Region(crop, truth, coarse, scores) if coarse.sum() >= _SMALLEST_PX / 2 else None
