"""How far a fit is, told to whoever shows it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

Watch = Callable[[str, int, int], None]
"""Told the name of a stage, how much of it is done, and of how much."""


def unwatched(stage: str, done: int, total: int) -> None:
    """Tell nobody."""


@contextmanager
def steps_watched(watch: Watch, steps: int) -> Iterator[None]:
    """Count the training steps of the heads that are fitted inside.

    A head may be trained several times (once a label, and again for its calibration), which only it knows: each
    training is a stage of its own.
    """
    done = 0

    def count(_optimizer: Optimizer, _arguments: Any, _options: Any) -> None:
        nonlocal done
        done += 1
        run, within = divmod(done - 1, steps)
        watch(f"training the head again ({run})" if run else "training the head", within + 1, steps)

    handle = register_optimizer_step_post_hook(count)
    try:
        yield
    finally:
        handle.remove()
