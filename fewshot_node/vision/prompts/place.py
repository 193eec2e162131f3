"""From localized regions to prompts, by one of the strategies."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from fewshot_node.records import Localization, Prompts
from fewshot_node.vision.prompts.places import core, depth_px, farthest, reach_px, ring, window
from fewshot_node.vision.prompts.regions import Region, on_slice, regions
from fewshot_node.vision.prompts.settings import PAPER_POINTS, PromptSettings

_BOX_JITTER = 0.05
_SURE_LOGIT = 10.0

_NO_POINTS = np.empty((0, 2), dtype=np.float32)


def place_prompts(localization: Localization, settings: PromptSettings | None = None) -> Iterator[Prompts]:
    """Make prompts for each region, slice by slice; slices where the adapter is silent are not asked about.

    Each draw has its own seed, made of the settings' seed, slice, label and component, so that none depends
    on another. Prompts are made when they are asked for: all of a long series do not lie in memory at once.
    """
    settings = settings or PromptSettings()
    make = _MAKERS[settings.strategy]
    for region in regions(localization, split=settings.splits):
        for draw in range(settings.draws):
            yield make(region, settings, draw, _generator(region, settings, draw))


def random_points(localization: Localization, count: int = PAPER_POINTS, seed: int = 0) -> tuple[Prompts, ...]:
    """Draw random pixels of each label on each slice where the label is (paper, section 2.3).

    A region of fewer pixels than `count` gives all of them.
    """
    return tuple(place_prompts(localization, PromptSettings(points=count, seed=seed)))


def _generator(region: Region, settings: PromptSettings, draw: int) -> np.random.Generator:
    seeds = [settings.seed, region.slice_index, region.label_value]
    if region.component or draw:
        seeds += [region.component, draw]
    return np.random.default_rng(seeds)


def _random(region: Region, settings: PromptSettings, draw: int, generator: np.random.Generator) -> Prompts:
    places = np.argwhere(region.mask)
    chosen = generator.choice(len(places), size=min(settings.points, len(places)), replace=False)
    points = _to_xy(places[chosen])
    return Prompts(
        region.slice_index, region.label_value, points, np.ones(len(points), dtype=bool), region.mask, draw=draw
    )


def _box(region: Region, settings: PromptSettings, draw: int, generator: np.random.Generator) -> Prompts:
    del settings
    box = _bounding_box(region.mask, draw, generator)
    none = np.empty(0, dtype=bool)
    return Prompts(region.slice_index, region.label_value, _NO_POINTS, none, region.mask, box, draw=draw)


def _ours(region: Region, settings: PromptSettings, draw: int, generator: np.random.Generator) -> Prompts:
    inside = window(region.mask, reach_px(region.mask))
    corner_xy = np.array([inside[1].start, inside[0].start], dtype=np.float32)
    odds = on_slice(region.log_odds, region.mask.shape)[inside] if settings.negatives else None
    positives = _inner_points(region.mask[inside], settings.points, draw, generator)
    negatives = _NO_POINTS if odds is None else _outer_points(region.mask[inside], odds, settings.negatives, generator)
    return Prompts(
        region.slice_index,
        region.label_value,
        np.concatenate([positives, negatives]) + corner_xy,
        np.arange(len(positives) + len(negatives)) < len(positives),
        region.mask,
        _bounding_box(region.mask, draw, generator),
        _mask_logits(region, inside) if settings.mask_input else None,
        draw,
    )


def _inner_points(
    mask: NDArray[np.bool_], count: int, draw: int, generator: np.random.Generator
) -> NDArray[np.float32]:
    """Place points inside the eroded region; the first draw begins at the deepest pixel, others anywhere in it."""
    depth = depth_px(mask)
    eroded = core(depth)
    places = np.argwhere(eroded)
    first = int(generator.integers(len(places))) if draw else int(depth[eroded].argmax())
    return _to_xy(farthest(places, first, count))


def _outer_points(
    mask: NDArray[np.bool_], odds: NDArray[np.float32], count: int, generator: np.random.Generator
) -> NDArray[np.float32]:
    """Place points on the ring where the adapter is surest that the label is not; none where it is nowhere sure."""
    around = ring(mask)
    sure = around & (odds < 0)
    if not sure.any():
        return _NO_POINTS
    sure &= odds <= np.median(odds[sure])
    places = np.argwhere(sure)
    return _to_xy(farthest(places, int(generator.integers(len(places))), count))


def _bounding_box(mask: NDArray[np.bool_], draw: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """Return the outermost pixels; draws after the first move each side a little."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = np.array([columns[0], rows[0], columns[-1], rows[-1]], dtype=np.float32)
    if not draw:
        return box
    size = np.tile(box[2:] - box[:2] + 1, 2)
    moved = box + generator.normal(0, _BOX_JITTER, 4) * size
    limits = np.tile(np.array(mask.shape[::-1]) - 1, 2)
    jittered: NDArray[np.float32] = np.clip(moved, 0, limits).astype(np.float32)
    return jittered


def _mask_logits(region: Region, inside: tuple[slice, slice]) -> NDArray[np.float32]:
    """Bring an adapter's log-odds, whose scale is its own, to about -10..10 as a SAM's own logits have it.

    Far from the region they say outside: another component of the label is not meant.
    """
    odds = region.log_odds
    fired = odds[odds > 0]
    typical = float(np.median(fired)) if fired.size else float(np.abs(odds).max())
    logits = np.full(odds.shape, -_SURE_LOGIT, dtype=np.float32)
    cells = tuple(_cells(part, *sizes) for part, *sizes in zip(inside, region.mask.shape, odds.shape, strict=True))
    logits[cells] = _SURE_LOGIT * np.tanh(odds[cells] / np.float32(max(typical, 1e-6)))
    return logits


def _cells(pixels: slice, image_size: int, grid_size: int) -> slice:
    """Return the cells of a grid that pixels touch."""
    stop = min(pixels.stop, image_size)
    return slice(pixels.start * grid_size // image_size, -(-stop * grid_size // image_size))


def _to_xy(places_rc: NDArray[np.intp]) -> NDArray[np.float32]:
    return places_rc[:, ::-1].astype(np.float32)


_MAKERS: Mapping[str, Callable[[Region, PromptSettings, int, np.random.Generator], Prompts]] = {
    "random": _random,
    "box": _box,
    "ours": _ours,
}
