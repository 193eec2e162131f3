"""How the stages of the pipeline are run: by name, so that something can watch them."""

import time
from collections.abc import Callable
from typing import Protocol, TypeVar

T = TypeVar("T")


class StepRunner(Protocol):
    """Runs one named stage; a `retryable` one may be run again after a RetryableError."""

    def __call__(self, name: str, stage: Callable[[], T], *, retryable: bool = False) -> T:
        """Run `stage` and return what it returns."""
        ...


def run_directly(name: str, stage: Callable[[], T], *, retryable: bool = False) -> T:
    """Run a stage with nobody watching."""
    del name, retryable
    return stage()


class Stopwatch:
    """A step runner that keeps the wall-clock seconds of every stage it passes on.

    `seconds` maps a stage's name to its seconds; a name that runs twice is added up.
    """

    def __init__(self, runner: StepRunner = run_directly) -> None:
        self._runner = runner
        self.seconds: dict[str, float] = {}

    def __call__(self, name: str, stage: Callable[[], T], *, retryable: bool = False) -> T:
        """Run `stage` through the inner runner and add its seconds."""
        started = time.monotonic()
        try:
            return self._runner(name, stage, retryable=retryable)
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - started
