"""Results leave the outbox once every destination has confirmed them for long enough."""

import logging
import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from fewshot_node.dicom.ledger import DeliveryState, Ledger
from fewshot_node.records import SeriesKey

_LOGGER = logging.getLogger(__name__)


def remove_confirmed(outbox: Path, ledger: Ledger, keep_days: float | None, now: datetime) -> list[SeriesKey]:
    """Remove the folders of series that were confirmed so long ago everywhere; None keeps everything.

    What is waiting, a dead letter, rejected by the checks, or unknown to the ledger stays.
    """
    if keep_days is None:
        return []
    latest = now - timedelta(days=keep_days)
    removed = []
    for key, folder in _series_folders(outbox):
        if _is_done(ledger, key, latest) and not any(folder.glob("*.rejected")):
            shutil.rmtree(folder, ignore_errors=True)  # what it does not let go of is tried again
            removed.append(key)
            _LOGGER.info("series %s: its results were removed from the outbox", key)
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
