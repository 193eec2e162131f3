"""Completion: a series is complete when nothing of it has come for a while (its quiet period)."""

import logging
import threading
from collections.abc import Callable, Collection
from datetime import datetime
from types import TracebackType

from fewshot_node.config import ReceiveSettings
from fewshot_node.dicom.ledger import Ledger, utc_now
from fewshot_node.errors import FewshotNodeError
from fewshot_node.records import SeriesKey

_LOGGER = logging.getLogger(__name__)
_LONGEST_POLL_S = 1.0
_POLLS_PER_QUIET_PERIOD = 4


def quiet_period_s(settings: ReceiveSettings, calling_ae_title: str) -> float:
    """Return how long a series of a calling AE must be quiet to be complete."""
    return settings.quiet_period_s_by_ae.get(calling_ae_title, settings.quiet_period_s)


def close_quiet_series(
    ledger: Ledger, settings: ReceiveSettings, open_associations: Collection[str], now: datetime
) -> list[SeriesKey]:
    """Close every series whose quiet period has passed.

    Parameters
    ----------
    open_associations
        Series Instance UIDs that open associations are feeding: not closed, however slow the sender.
    """
    closed = ledger.close_quiet(now, lambda ae_title: quiet_period_s(settings, ae_title), open_associations)
    for key in closed:
        _LOGGER.info("series %s complete", key)
    return closed


class CompletionLoop:
    """Thread that closes quiet series while the receiver runs.

    Parameters
    ----------
    open_associations
        Gives the Series Instance UIDs that open associations are feeding (`Receiver.busy_series`).
    """

    def __init__(
        self,
        ledger: Ledger,
        settings: ReceiveSettings,
        open_associations: Callable[[], Collection[str]],
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._ledger = ledger
        self._settings = settings
        self._open_associations = open_associations
        self._clock = clock
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start closing series."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="completion", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop, after the round that is running."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def __enter__(self) -> "CompletionLoop":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        shortest = min([self._settings.quiet_period_s, *self._settings.quiet_period_s_by_ae.values()])
        poll_s = min(_LONGEST_POLL_S, shortest / _POLLS_PER_QUIET_PERIOD)
        while not self._stopping.wait(poll_s):
            try:
                close_quiet_series(self._ledger, self._settings, self._open_associations(), self._clock())
            except FewshotNodeError as error:
                # The series stay receiving and the next round finds them again.
                _LOGGER.warning("quiet series not closed: %s", error)
