"""Retention: received instances leave the spool once their series has ended for long enough.

Only delivered series, and where the settings say so those that no task wanted, are ever removed. The
ledger is told first, so that nobody starts the series again; then the files go, unless one more than the
ledger knows has come in the meantime.
"""

import logging
import threading
from datetime import datetime, timedelta
from types import TracebackType

from fewshot_node.config import RetentionSettings
from fewshot_node.dicom.ledger import Ledger, SeriesEntry, SeriesState, utc_now
from fewshot_node.dicom.spool import Spool
from fewshot_node.errors import FewshotNodeError, RefusedError

_LOGGER = logging.getLogger(__name__)


def remove_expired(spool: Spool, ledger: Ledger, settings: RetentionSettings, now: datetime) -> list[str]:
    """Remove what may go; return the Series Instance UIDs.

    Raises
    ------
    RetryableError
        The ledger is busy; what was not removed stays.
    """
    removed = []
    for series_instance_uid in spool.series_instance_uids():
        entry = ledger.get(series_instance_uid)
        if entry is None or not _is_due(entry, settings, now):
            continue
        if not ledger.mark_removed(entry.key, entry.state, entry.instances, now):
            continue  # it has moved on
        if _is_removed(spool, entry):
            removed.append(series_instance_uid)
            _LOGGER.info("series %s: %d instances removed (%s)", entry.key, entry.instances, entry.state)
        else:
            ledger.unmark_removed(entry.key)
    return removed


def _is_removed(spool: Spool, entry: SeriesEntry) -> bool:
    """Remove a series; False when it is still there, as with an instance that has not been counted yet.

    What the file system does not let go of keeps no other series.
    """
    series_instance_uid = entry.key.series_instance_uid
    try:
        return spool.remove_series(series_instance_uid, entry.instances)
    except RefusedError as error:
        _LOGGER.warning("retention: series %s: %s", entry.key, error)
        return not spool.series_files(series_instance_uid)


def _is_due(entry: SeriesEntry, settings: RetentionSettings, now: datetime) -> bool:
    days = {SeriesState.DELIVERED: settings.delivered_days, SeriesState.NO_TASK: settings.no_task_days}.get(entry.state)
    return days is not None and entry.updated + timedelta(days=days) <= now


class RetentionLoop:
    """Thread that removes what may go, while the receiver runs; without a time to keep it does nothing."""

    def __init__(self, spool: Spool, ledger: Ledger, settings: RetentionSettings) -> None:
        self._spool = spool
        self._ledger = ledger
        self._settings = settings
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="retention", daemon=True)

    def __enter__(self) -> "RetentionLoop":
        if self._settings.delivered_days is not None or self._settings.no_task_days is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                remove_expired(self._spool, self._ledger, self._settings, utc_now())
            except FewshotNodeError as error:
                _LOGGER.warning("retention: tried again later: %s", error)
            self._stopping.wait(self._settings.every_s)
