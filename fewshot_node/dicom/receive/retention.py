"""Retention: received instances leave the spool once their series has ended for long enough.

Only delivered series, and where the settings say so those that no task wanted, are ever removed. The
ledger is told first, so that nobody starts the series again; then the files go, unless one more than the
ledger knows has come in the meantime.
"""

import logging
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta

from fewshot_node.config import RetentionSettings
from fewshot_node.dicom.ledger import Ledger, SeriesEntry, SeriesState, utc_now
from fewshot_node.dicom.periodic import Periodic
from fewshot_node.dicom.spool import Spool
from fewshot_node.errors import RefusedError

logger = logging.getLogger(__name__)


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
            logger.info("series %s: %d instances removed (%s)", entry.key, entry.instances, entry.state)
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
        logger.warning("retention: series %s: %s", entry.key, error)
        return not spool.series_files(series_instance_uid)


def _is_due(entry: SeriesEntry, settings: RetentionSettings, now: datetime) -> bool:
    days = {SeriesState.DELIVERED: settings.delivered_days, SeriesState.NO_TASK: settings.no_task_days}.get(entry.state)
    return days is not None and entry.updated + timedelta(days=days) <= now


def retention_loop(spool: Spool, ledger: Ledger, settings: RetentionSettings) -> AbstractContextManager[object]:
    """Return a thread that removes what may go; without a time to keep there is nothing to do."""
    if settings.delivered_days is None and settings.no_task_days is None:
        return nullcontext()
    return Periodic(
        "retention",
        lambda: remove_expired(spool, ledger, settings, utc_now()),
        settings.every_s,
        failing="retention is tried again later",
    )
