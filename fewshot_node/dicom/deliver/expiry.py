"""Results leave the outbox once every destination has confirmed them for long enough; refused ones after a time."""

import logging
import shutil
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

from fewshot_node.config import DeliverySettings
from fewshot_node.dicom.ledger import DeliveryState, Ledger
from fewshot_node.dicom.objects.rejected import REJECTED_SUFFIX
from fewshot_node.records import SeriesKey

logger = logging.getLogger(__name__)


def remove_confirmed(outbox: Path, ledger: Ledger, keep_days: float | None, now: datetime) -> list[SeriesKey]:
    """Remove the folders of series that were confirmed so long ago everywhere; None keeps everything.

    What is waiting, a dead letter, rejected by the checks, or unknown to the ledger stays.
    """
    if keep_days is None:
        return []
    latest = now - timedelta(days=keep_days)
    removed = []
    for key, folder in _series_folders(outbox):
        if _is_done(ledger, key, latest) and not any(folder.glob(f"*{REJECTED_SUFFIX}")):
            shutil.rmtree(folder, ignore_errors=True)  # what it does not let go of is tried again
            removed.append(key)
            logger.info("series %s: its results were removed from the outbox", key)
    return removed


def remove_rejected(outbox: Path, settings: DeliverySettings, now: datetime) -> list[Path]:
    """Remove folders of objects that were not let out: those too old, and the oldest of too many."""
    folders = sorted(outbox.glob(f"*/*{REJECTED_SUFFIX}"), key=_changed, reverse=True)
    earliest = (now - timedelta(days=settings.keep_rejected_days)).timestamp()
    removed = [
        folder for place, folder in enumerate(folders) if place >= settings.keep_rejected or _changed(folder) < earliest
    ]
    for folder in removed:
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # other results of the series are there
            folder.parent.rmdir()
        logger.info("%s: objects that were not let out were removed", folder)
    return removed


def _changed(folder: Path) -> float:
    """Return when a folder was written, in seconds since 1970; one that is gone was written long ago."""
    try:
        return folder.stat().st_mtime
    except OSError:
        return 0.0


def remove_old_shadows(shadow: Path, keep_days: float | None, now: datetime) -> list[SeriesKey]:
    """Remove the results of shadow revisions that were made so long ago; None keeps everything."""
    if keep_days is None:
        return []
    latest = (now - timedelta(days=keep_days)).timestamp()
    removed = []
    for key, folder in _series_folders(shadow):
        if max((path.stat().st_mtime for path in folder.rglob("*")), default=0.0) <= latest:
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(key)
    return removed


def _series_folders(outbox: Path) -> Iterator[tuple[SeriesKey, Path]]:
    if not outbox.is_dir():
        return
    for folder in sorted(outbox.iterdir()):
        try:
            yield SeriesKey.parse(folder.name), folder
        except ValueError:
            continue  # not a series' folder


def _is_done(ledger: Ledger, key: SeriesKey, latest: datetime) -> bool:
    deliveries = ledger.deliveries(key=key)
    return bool(deliveries) and all(
        one.state is DeliveryState.CONFIRMED and one.updated <= latest for one in deliveries
    )
