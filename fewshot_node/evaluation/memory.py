"""How much memory a stretch of work needed."""

import threading
from types import TracebackType

import psutil

_EVERY_S = 0.02


class PeakMemory:
    """Watches this process's resident memory between entering and leaving; sampled, so that spikes may be missed.

    The system's own high-water mark is of no use here: it never falls, so that a greedy row would be charged to
    all that follow.

    Attributes
    ----------
    peak_mib
        The most that was seen, in MiB, the interpreter and all that was loaded before included.
    """

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.peak_mib = 0.0

    def __enter__(self) -> "PeakMemory":
        """Start watching."""
        self._look()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Look a last time."""
        self._over.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._over.wait(_EVERY_S):
            self._look()

    def _look(self) -> None:
        self.peak_mib = max(self.peak_mib, self._process.memory_info().rss / 2**20)
