"""A volume's coarse masks refined, slice by slice."""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from fewshot_node.errors import ConfigurationError
from fewshot_node.records import Localization, Masks, Prompts
from fewshot_node.vision.intensity import apply_ranges, intensity_ranges
from fewshot_node.vision.refine.ask import ask_engine
from fewshot_node.vision.refine.claims import make_claims, settle
from fewshot_node.vision.refine.settings import RefineSettings
from fewshot_node.vision.refine.tally import Tally, count_coarse
from fewshot_node.vision.refine.walker import walk
from fewshot_node.vision.sam import SamEngine

logger = logging.getLogger(__name__)

_Answerer = Callable[[NDArray[np.float32], Sequence[Prompts]], list[NDArray[np.bool_]]]
"""From a slice's image, (3, rows, columns), and its prompts to one mask a prompt."""


def refine(
    array: NDArray[np.float32],
    modality: str,
    localization: Localization,
    prompts: Iterable[Prompts],
    engine: SamEngine | None = None,
    settings: RefineSettings | None = None,
) -> Masks:
    """Refine the localized masks; only slices with prompts are looked at.

    Parameters
    ----------
    array
        float32 (slices, rows, columns): the volume that was localized.
    prompts
        In the order of slices, as `place_prompts` makes them; a region that no prompt asks about must not share
        its label and slice with one that is asked about.
    engine
        Needed where `settings.engine` is ``"sam"``.

    Returns
    -------
    Masks
        Where masks of two labels overlap, the label with the higher adapter score has the pixel.

    Raises
    ------
    ConfigurationError
        SAM is asked for and none is loaded.
    """
    settings = settings or RefineSettings()
    if settings.engine == "none":
        return Masks(localization.label_map.copy(), count_coarse(localization.label_map))
    answer = _answerer(localization, engine, settings)
    started = time.perf_counter()
    ranges = intensity_ranges(array, modality, settings.intensity, channels=3)
    label_map = localization.label_map.copy()
    tally = Tally()
    for slice_index, group in groupby(prompts, key=lambda prompt: prompt.slice_index):
        asked = list(group)
        image = apply_ranges(array[slice_index : slice_index + 1], ranges)[0]
        claims = make_claims(asked, answer(image, asked), settings.iou_gate)
        settle(label_map[slice_index], claims, localization, slice_index)
        tally.add(claims)
    kept, every = _totals(tally)
    logger.info("refined %d of %d masks in %.1f s", kept, every, time.perf_counter() - started)
    return Masks(label_map, tally.counts, tally.uncertainty)


def _answerer(localization: Localization, engine: SamEngine | None, settings: RefineSettings) -> _Answerer:
    if not settings.needs_model:
        return partial(_walk_draws, localization=localization)
    if engine is None:
        raise ConfigurationError(
            "refine.engine is 'sam' but no SAM checkpoint is loaded; set its folder (worker.sam), or choose "
            "'walker' or 'none'"
        )
    return partial(ask_engine, engine=engine, settings=settings)


def _walk_draws(
    image: NDArray[np.float32], prompts: Sequence[Prompts], localization: Localization
) -> list[NDArray[np.bool_]]:
    """Run the walker once a draw; masks in the order of the prompts."""
    masks: dict[int, NDArray[np.bool_]] = {}
    for draw in sorted({prompt.draw for prompt in prompts}):
        indices = [index for index, prompt in enumerate(prompts) if prompt.draw == draw]
        masks |= zip(indices, walk(image, [prompts[index] for index in indices], localization), strict=True)
    return [masks[index] for index in range(len(prompts))]


def _totals(tally: Tally) -> tuple[int, int]:
    kept = sum(count.refined for count in tally.counts.values())
    return kept, kept + sum(count.coarse for count in tally.counts.values())
