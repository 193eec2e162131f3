"""How the stages of the pipeline are run: by name, so that something can watch them."""

import logging
import time
import traceback
from collections.abc import Callable
from typing import Protocol, TypeVar

from fewshot_node.errors import FewshotNodeError, InternalError

logger = logging.getLogger(__name__)

T = TypeVar("T")


class StepRunner(Protocol):
    """Runs one named stage."""

    def __call__(self, name: str, stage: Callable[[], T]) -> T:
        """Run `stage` and return what it returns."""
        ...


def run_directly(name: str, stage: Callable[[], T]) -> T:
    """Run a stage with nobody watching."""
    del name
    return stage()


class Stopwatch:
    """A step runner that keeps the wall-clock seconds of every stage it passes on.

    `seconds` maps a stage's name to its seconds; a name that runs twice is added up.
    """

    def __init__(self, runner: StepRunner = run_directly) -> None:
        self._runner = runner
        self.seconds: dict[str, float] = {}

    def __call__(self, name: str, stage: Callable[[], T]) -> T:
        """Run `stage` through the inner runner and add its seconds."""
        started = time.monotonic()
        try:
            return self._runner(name, stage)
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - started


def shielded(stage: Callable[[], T]) -> T:
    """Run a stage; an error that is not ours becomes an InternalError that quotes nothing of it.

    Third parties put attribute values into their messages, and whoever watches the stage would store
    them: a patient's name must not get there. The log gets the place in the code, without the message.
    """
    try:
        return stage()
    except FewshotNodeError:
        raise
    except Exception as error:  # noqa: BLE001  whatever it is, nothing of its text may get out
        place = "".join(traceback.format_tb(error.__traceback__))
        logger.error("internal error (%s) at:\n%s", type(error).__name__, place)
        message = f"internal error ({type(error).__name__}): the worker's log has the place; please report it"
        raise InternalError(message) from None
