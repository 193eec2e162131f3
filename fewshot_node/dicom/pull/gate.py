"""What holds a pull back: its pace, work that has piled up, room on the disk."""

from time import monotonic, sleep

from fewshot_node.config import NodeSettings
from fewshot_node.dicom.ledger import Ledger, SeriesState
from fewshot_node.dicom.pull.progress import PullView
from fewshot_node.dicom.spool import Spool

_POLL_S = 0.25
_MEGABYTE = 2**20
_UNFINISHED = (SeriesState.RECEIVING, SeriesState.COMPLETE, SeriesState.DISPATCHED)


def count_unfinished(ledger: Ledger) -> int:
    """Return how many series the node has not done with."""
    counts = ledger.counts()
    return sum(counts[state] for state in _UNFINISHED)


class Gate:
    """Holds a pull back: rate, work that has piled up, room on the disk."""

    def __init__(self, settings: NodeSettings, ledger: Ledger, spool: Spool, view: PullView) -> None:
        self._pull = settings.pull
        self._receive = settings.receive
        self._ledger = ledger
        self._spool = spool
        self._view = view
        self._next_start = monotonic()

    def wait(self) -> None:
        """Return when the next series may be fetched."""
        told = ""
        while reason := self._reason():
            if reason != told:
                self._view.waits(reason)
                told = reason
            sleep(_POLL_S)
        if told:
            self._view.waits("")
        self._next_start = monotonic() + 60.0 / self._pull.series_per_minute

    def _reason(self) -> str:
        marks = self._receive.reject_below_free_mb
        if self._spool.free_bytes() < marks * _MEGABYTE:
            return f"less than {marks} MB free for the spool (receive.reject_below_free_mb)"
        if count_unfinished(self._ledger) >= self._pull.max_unfinished:
            return f"{self._pull.max_unfinished} series or more have not ended (pull.max_unfinished)"
        if monotonic() < self._next_start:
            return f"pace of {self._pull.series_per_minute:g} series a minute (pull.series_per_minute)"
        return ""
