"""Who changes a task, and that only one does at a time."""

import fcntl
import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from fewshot_node.disk import make_folder
from fewshot_node.errors import TaskError
from fewshot_node.tasks.origin import now, operating_user

_LOCK = "lock.json"
_POLL_S = 0.05
_WAIT_S = 10.0


def who() -> str:
    """Name the account and the machine that a change is made by, as ``user@host``."""
    return f"{operating_user()}@{socket.gethostname()}"


@contextmanager
def task_lock(folder: Path, doing: str, wait_s: float = _WAIT_S) -> Iterator[None]:
    """Hold the right to change a task; what holds it is short, so another waits a moment.

    A process that dies lets go of it.

    Parameters
    ----------
    folder
        Of the task.
    doing
        What for, as others are told.

    Raises
    ------
    TaskError
        Another one holds it for so long; the message says who, what for and since when.
    """
    make_folder(folder)
    with (folder / _LOCK).open("a+", encoding="utf-8") as lock:
        _acquire(lock, folder.name, time.monotonic() + wait_s)
        lock.truncate(0)
        json.dump({"who": who(), "doing": doing, "since": now()}, lock)
        lock.flush()
        yield


def _acquire(lock: IO[str], name: str, deadline: float) -> None:
    while True:
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        if time.monotonic() >= deadline:
            raise TaskError(
                f"task {name} is being changed by {_holder(lock)}: wait until that has ended, then try again"
            )
        time.sleep(_POLL_S)


def _holder(lock: IO[str]) -> str:
    lock.seek(0)
    try:
        note = json.load(lock)
        return f"{note['who']} ({note['doing']}, since {note['since']})"
    except (ValueError, KeyError, TypeError):  # just taken, and not yet written
        return "somebody else"
