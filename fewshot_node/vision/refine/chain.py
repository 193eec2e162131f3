"""A volume's coarse masks refined, slice by slice."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import groupby, islice

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from fewshot_node.errors import ConfigurationError
from fewshot_node.records import Localization, Masks, Prompts
from fewshot_node.vision.intensity import apply_ranges, intensity_ranges
from fewshot_node.vision.refine.ask import ask_engine
from fewshot_node.vision.refine.claims import Claim, make_claims, settle
from fewshot_node.vision.refine.settings import RefineSettings
from fewshot_node.vision.refine.tally import Tally, count_coarse
from fewshot_node.vision.refine.walker import walk
from fewshot_node.vision.sam import SamEngine

logger = logging.getLogger(__name__)

_SLICES_A_THREAD = 4

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

    def claim(asked: Sequence[Prompts]) -> list[Claim]:
        index = asked[0].slice_index
        image = apply_ranges(array[index : index + 1], ranges)[0]
        return make_claims(asked, answer(image, asked), settings.iou_gate)

    slices = (list(group) for _, group in groupby(prompts, key=lambda prompt: prompt.slice_index))
    # A model takes all cores for one slice; the walker takes one, so it works on several slices.
    for asked, claims in _in_order(claim, slices, 1 if settings.needs_model else torch.get_num_threads()):
        settle(label_map[asked[0].slice_index], claims, localization, asked[0].slice_index)
        tally.add(claims)
    kept, every = _totals(tally)
    logger.info("refined %d of %d masks in %.1f s", kept, every, time.perf_counter() - started)
    return Masks(label_map, tally.counts, tally.uncertainty)


def _in_order(
    claim: Callable[[Sequence[Prompts]], list[Claim]], slices: Iterator[list[Prompts]], threads: int
) -> Iterator[tuple[list[Prompts], list[Claim]]]:
    """Yield slices and their claims in order; only a few slices' prompts and masks lie in memory at once."""
    if threads == 1:
        yield from ((asked, claim(asked)) for asked in slices)
        return
    # Threads of OpenBLAS and OpenMP below ours wait for each other by spinning: 68 s instead of 4 for 100 slices.
    alone = partial(threadpool_limits, 1, "openmp")
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(threads, initializer=alone) as pool:
        while few := list(islice(slices, _SLICES_A_THREAD * threads)):
            yield from zip(few, pool.map(claim, few), strict=True)


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
