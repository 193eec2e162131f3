"""A process that is killed at a place of the code."""

import os
import signal
import warnings
from collections.abc import Callable

import pytest


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def crash_in(place: str, action: Callable[[], object], instead: Callable[..., None] = die) -> None:
    """Let a child of this process, which has all modules loaded, be killed when it comes to a place, by `instead`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads that torch has: the child uses none
        child = os.fork()
    if not child:
        try:
            pytest.MonkeyPatch().setattr(place, instead)
            action()
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "the place was not reached"
