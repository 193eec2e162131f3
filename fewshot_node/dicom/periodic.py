"""A thread that does one thing again and again until it is stopped."""

import logging
import threading
import time
from collections.abc import Callable

from fewshot_node.dicom.running import Running
from fewshot_node.errors import FewshotNodeError

logger = logging.getLogger(__name__)


class Periodic(Running):
    """Does its work from time to time, in a thread, while the context is entered.

    Nothing that a round raises ends the thread: what depends on it would stand still, and nobody would know
    why. It is logged when it begins and when it is over, not every time.

    Parameters
    ----------
    name
        Of the thread, and in the log.
    work
        One round.
    every_s
        Rest between rounds; a round that took longer than that is followed by a rest as long as itself.
    failing
        What the log says before the reason when a round fails.
    at_once
        Whether the first round comes before the first rest.
    stop_s
        How long `stop` waits for the round that is running; None: until it has ended.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], object],
        every_s: float,
        failing: str,
        *,
        at_once: bool = True,
        stop_s: float | None = None,
    ) -> None:
        self._name = name
        self._work = work
        self._every_s = every_s
        self._failing = failing
        self._at_once = at_once
        self._stop_s = stop_s
        self._reason = ""
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def is_stopping(self) -> bool:
        """Whether a long round should end early."""
        return self._stopping.is_set()

    def start(self) -> None:
        """Begin."""
        self._stopping = threading.Event()  # a new one: the thread of an earlier run may still hang
        self._thread = threading.Thread(target=self._run, args=(self._stopping,), name=self._name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop, after the round that is running; harmless when not started."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(self._stop_s)
            self._thread = None

    def round(self) -> None:
        """Do one round now; never raises."""
        try:
            self._work()
        except Exception as error:  # noqa: BLE001  the next round may succeed
            # Of a foreign exception only the kind: its text can hold values of data sets.
            self._note(str(error) if isinstance(error, FewshotNodeError) else type(error).__name__)
        else:
            self._note("")

    def _run(self, stopping: threading.Event) -> None:
        if not self._at_once:
            stopping.wait(self._every_s)
        while not stopping.is_set():
            started = time.monotonic()
            self.round()
            stopping.wait(max(self._every_s, time.monotonic() - started))

    def _note(self, reason: str) -> None:
        """Log what has changed since the last round."""
        before, self._reason = self._reason, reason
        if reason and reason != before:
            logger.warning("%s: %s", self._failing, reason)
        elif before and not reason:
            logger.info("%s: works again", self._name)
