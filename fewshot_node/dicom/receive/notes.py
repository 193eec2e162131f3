"""What the receiver tells the ledger, without waiting for it.

The ledger is an index of the spool. An instance that is synced there is safe whether or not it has been
counted, so a C-STORE is answered without a database in the way: counts gather in memory, one line a series,
and go to the ledger together. What a crash takes from here, the next start finds in the spool.
"""

import threading
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime

from fewshot_node.dicom.identity import InstanceIdentity
from fewshot_node.dicom.ledger import Ledger, utc_now
from fewshot_node.dicom.ledger.records import SeriesNote
from fewshot_node.dicom.periodic import Periodic


class IntakeNotes(Periodic):
    """Counts of received instances on their way to the ledger; every method may be called from any thread.

    Parameters
    ----------
    flush_s
        How long counts gather before they are written.
    """

    def __init__(self, ledger: Ledger, flush_s: float = 0.2, clock: Callable[[], datetime] = utc_now) -> None:
        super().__init__("notes", self.flush, flush_s, "received instances are stored but not counted yet")
        self._ledger = ledger
        self._clock = clock
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._notes: dict[str, SeriesNote] = {}
        self._warnings: dict[str, dict[str, datetime]] = defaultdict(dict)
        self._in_flight: set[str] = set()

    def stop(self) -> None:
        """Stop, and write what is left; what the ledger does not take then, the next start counts."""
        super().stop()
        self.round()

    def instance(self, identity: InstanceIdentity, calling_ae_title: str, size: int) -> None:
        """Count an instance that was stored just now."""
        uids = (identity.series_instance_uid, identity.study_instance_uid)
        note = SeriesNote.of_one(*uids, calling_ae_title, size, self._clock(), identity.stated_instances)
        with self._lock:
            known = self._notes.get(note.series_instance_uid)
            self._notes[note.series_instance_uid] = note if known is None else known.plus(note)

    def warning(self, series_instance_uid: str, text: str) -> None:
        """Keep a remark about a series for the operator, once; `text` must hold no patient data."""
        with self._lock:
            self._warnings[series_instance_uid].setdefault(text, self._clock())

    def unflushed(self) -> set[str]:
        """Return the Series Instance UIDs of which the ledger does not count everything yet."""
        with self._lock:
            return set(self._notes) | set(self._warnings) | self._in_flight

    def flush(self) -> None:
        """Write everything now, in one transaction.

        Raises
        ------
        RetryableError, ConfigurationError
            The ledger does not take it; it is kept for the next time.
        """
        with self._flushing:
            notes, warnings = self._take()
            if not notes and not warnings:
                return
            is_written = False
            try:
                remarks = {uid: tuple(texts.items()) for uid, texts in warnings.items()}
                self._ledger.note_instances(tuple(notes.values()), remarks)
                is_written = True
            finally:
                if not is_written:
                    self._put_back(notes, warnings)
                with self._lock:
                    self._in_flight = set()

    def _take(self) -> tuple[dict[str, SeriesNote], dict[str, dict[str, datetime]]]:
        with self._lock:
            notes, warnings = self._notes, dict(self._warnings)
            self._notes, self._warnings = {}, defaultdict(dict)
            self._in_flight = set(notes) | set(warnings)
            return notes, warnings

    def _put_back(self, notes: dict[str, SeriesNote], warnings: dict[str, dict[str, datetime]]) -> None:
        with self._lock:
            for uid, note in notes.items():
                since = self._notes.get(uid)
                self._notes[uid] = note if since is None else note.plus(since)
            for uid, texts in warnings.items():
                self._warnings[uid] = self._warnings[uid] | texts
