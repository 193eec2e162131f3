"""The label maps that a training step chooses from: each is used in many steps, since drawing one takes long."""

from dataclasses import dataclass

import numpy as np

from fewshot_node.pretrain.label_maps import LabelMap, random_label_map


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """Which label maps there are, and how many of them a step chooses from.

    Attributes
    ----------
    seed, stream
        Where a map's random numbers come from; the stream keeps them apart from all else under the seed.
    map_px, variants
        Side of a map, and variants of its anatomy.
    maps, new_maps
        Maps to choose from at a time, and how many of them are replaced at every step.
    """

    seed: int
    stream: int
    map_px: int
    variants: int
    maps: int
    new_maps: int


class MapPool:
    """A sliding window over an endless, seeded sequence of label maps."""

    def __init__(self, settings: PoolSettings) -> None:
        self._settings = settings
        self._maps: dict[int, LabelMap] = {}

    def choose(self, step: int, count: int, rng: np.random.Generator) -> list[LabelMap]:
        """Choose ``count`` maps of the window of step ``step``, each once unless there are fewer."""
        maps = self._window(step)
        return [maps[index] for index in rng.choice(len(maps), count, replace=count > len(maps))]

    def _window(self, step: int) -> list[LabelMap]:
        first = step * self._settings.new_maps
        wanted = range(first, first + self._settings.maps)
        self._maps = {index: self._maps.get(index) or self._draw(index) for index in wanted}
        return list(self._maps.values())

    def _draw(self, index: int) -> LabelMap:
        rng = np.random.default_rng([self._settings.seed, self._settings.stream, index])
        return random_label_map(rng, self._settings.map_px, self._settings.variants)
