"""What SAM is asked: random pixels of the localized region (paper, section 2.3)."""

import numpy as np
from numpy.typing import NDArray

from fewshot_node.records import Localization, Prompts

PAPER_POINTS = 10


def random_points(localization: Localization, count: int = PAPER_POINTS, seed: int = 0) -> tuple[Prompts, ...]:
    """Draw pixels of each label on each slice where the label is; slices without it are not asked about.

    Each draw has its own seed, made from `seed`, slice and label, so that no draw depends on another.
    A region of fewer pixels than `count` gives all of them.
    """
    prompts = []
    for slice_index in np.flatnonzero(localization.label_map.any(axis=(1, 2))):
        label_slice = localization.label_map[slice_index]
        for value in np.unique(label_slice[label_slice > 0]):
            mask = label_slice == value
            points = _draw_xy(mask, count, np.random.default_rng((seed, int(slice_index), int(value))))
            positive = np.ones(len(points), dtype=bool)
            prompts.append(Prompts(int(slice_index), int(value), points, positive, mask))
    return tuple(prompts)


def _draw_xy(mask: NDArray[np.bool_], count: int, generator: np.random.Generator) -> NDArray[np.float32]:
    places = np.argwhere(mask)
    chosen = generator.choice(len(places), size=min(count, len(places)), replace=False)
    return places[chosen][:, ::-1].astype(np.float32)
