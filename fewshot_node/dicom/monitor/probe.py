"""Asking something that may not answer, without waiting for it for ever."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

Answer = TypeVar("Answer")

PATIENCE_S = 2.0
"""How long an answer is waited for."""
FRESH_S = 1.0
"""How long an answer is given again to others who ask."""


class Probe(Generic[Answer]):
    """A question that is asked once at a time, in a thread of its own.

    However many ask, the disk or the database behind it sees at most one question a second, and one that
    hangs costs one thread.

    Parameters
    ----------
    ask
        What is asked; may block, may raise.
    """

    def __init__(self, ask: Callable[[], Answer], fresh_s: float = FRESH_S) -> None:
        self._ask = ask
        self._fresh_s = fresh_s
        self._lock = threading.Lock()
        self._asked: Future[Answer] | None = None
        self._stale_at = 0.0

    def start(self) -> Future[Answer]:
        """Ask, or join in the question that is open or was answered a moment ago."""
        with self._lock:
            asked = self._asked
            if asked is not None and (not asked.done() or time.monotonic() < self._stale_at):
                return asked
            self._asked = asked = Future()
            self._stale_at = time.monotonic() + self._fresh_s
            try:
                threading.Thread(target=self._run, args=(asked,), name="probe", daemon=True).start()
            except RuntimeError as error:  # no more threads now; an open question would be waited for for ever
                asked.set_exception(error)
            return asked

    def answer(self, patience_s: float = PATIENCE_S) -> Answer:
        """Ask and wait for the answer.

        Raises
        ------
        TimeoutError
            There is none within `patience_s`.
        Exception
            Whatever the question raised.
        """
        return self.start().result(timeout=patience_s)

    def _run(self, asked: Future[Answer]) -> None:
        try:
            answer = self._ask()
        except Exception as error:  # noqa: BLE001  it is raised again where the answer is waited for
            asked.set_exception(error)
        else:
            asked.set_result(answer)
