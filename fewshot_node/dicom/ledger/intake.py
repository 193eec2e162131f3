"""The ledger's half that the receiver writes: what has come, when it is complete, what was removed."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, select
from sqlalchemy.engine import Row
from sqlalchemy.exc import IntegrityError

from fewshot_node.dicom.ledger.queries import (
    change,
    count_instances,
    held_already,
    is_newest,
    is_receiving,
    keep_warning,
    larger,
    newest_row,
    of_key,
    open_revision,
    removal_warning,
    take_removal_back,
)
from fewshot_node.dicom.ledger.reading import LedgerReading
from fewshot_node.dicom.ledger.records import SeriesNote, SeriesState
from fewshot_node.dicom.ledger.schema import SERIES
from fewshot_node.dicom.spool import Spool, SpooledSeries
from fewshot_node.errors import NotDicomError, RetryableError
from fewshot_node.records import SeriesKey

logger = logging.getLogger(__name__)
_OPENING_ATTEMPTS = 5


class LedgerIntake(LedgerReading):
    """Counts what comes in and takes series for complete; `Ledger` adds the work on them."""

    def note_instances(
        self, notes: Sequence[SeriesNote], warnings: Mapping[str, Sequence[tuple[str, datetime]]] | None = None
    ) -> None:
        """Count spooled instances, and keep remarks by Series Instance UID, in one transaction.

        A series whose newest revision is no longer receiving gets the next one (a late instance). A remark
        that was made before is not kept twice: a sender may repeat what it was about for ever.
        """
        for _ in range(_OPENING_ATTEMPTS):
            try:
                with self._write() as connection:
                    for note in notes:
                        count_instances(connection, note)
                    for uid, texts in (warnings or {}).items():
                        for text, when in texts:
                            keep_warning(connection, uid, text, when)
                    return
            except IntegrityError:
                continue  # another process opened a revision first: count into that one
        raise RetryableError("the ledger is contended: tried again later")

    def note_expected(self, key: SeriesKey, instances: int) -> bool:
        """Note how many instances a revision that is receiving will have; False when it no longer is.

        Of several that say so, whoever knows of most is believed.
        """
        condition = and_(of_key(key), SERIES.c.state == SeriesState.RECEIVING)
        return self._transition(condition, {"expected": larger(SERIES.c.expected, instances)})

    def mark_removed(self, key: SeriesKey, state: SeriesState, instances: int, when: datetime) -> bool:
        """Note that the instances of a series that has ended leave the spool; False when it has moved on."""
        unchanged = and_(SERIES.c.state == state, SERIES.c.instances == instances, is_newest())
        return self._transition(and_(of_key(key), unchanged), {"removed_at": when})

    def unmark_removed(self, key: SeriesKey) -> None:
        """Note that the instances of a series are in the spool after all."""
        with self._write() as connection:
            take_removal_back(connection, key)

    def reconcile(self, spooled: SpooledSeries, spool: Spool) -> bool:
        """Count what the spool holds of a series beyond what the ledger knew; tell whether there was any.

        Raises
        ------
        NotDicomError
            The series is new to the ledger and its files do not say where they came from.
        """
        uid = spooled.series_instance_uid
        count = {"instances": spooled.instances, "bytes": spooled.bytes}
        count_and_time = count | {"last_received": spooled.last_received, "updated": self._clock()}
        with self._write() as connection:
            known = newest_row(connection, uid)
            if _is_being_removed(known, spooled):
                return False  # retention was interrupted and goes on
            if held_already(known)[0] >= spooled.instances:
                return False
            if known is not None and known.state == SeriesState.RECEIVING:
                return change(connection, is_receiving(uid), count_and_time)
            origin = spool.origin(uid)
            first = {
                "study_instance_uid": origin.study_instance_uid,
                "calling_ae_title": origin.calling_ae_title,
                "first_received": spooled.first_received if known is None else spooled.last_received,
            }
            open_revision(connection, uid, known, first | count_and_time)
            if known is not None and known.removed_at is not None and spooled.instances < known.instances:
                keep_warning(connection, uid, removal_warning(known), spooled.last_received)
        return True

    def rebuild(self, spool: Spool) -> int:
        """Bring the ledger up to what the spool holds; return how many series had to be brought up."""
        changed = 0
        for spooled in spool.scan():
            try:
                changed += self.reconcile(spooled, spool)
            except NotDicomError as error:
                logger.warning("series %s left out of the ledger: %s", spooled.series_instance_uid, error)
        return changed

    def close(self, series_uid: str) -> SeriesKey | None:
        """Take a receiving series for complete; None when its newest revision is not receiving."""
        with self._write() as connection:
            known = newest_row(connection, series_uid)
            if known is None or not _complete(connection, known, self._clock()):
                return None
            return SeriesKey(series_uid, known.revision)

    def close_quiet(
        self, now: datetime, quiet_period_s: Callable[[str], float], busy: Collection[str] = ()
    ) -> list[SeriesKey]:
        """Take for complete what has been quiet for long enough, or has as many instances as it should have.

        A series that is quiet with fewer than that gets a warning.

        Parameters
        ----------
        quiet_period_s
            Calling AE title -> seconds without an instance after which its series are complete.
        busy
            Series Instance UIDs that an open association still feeds: left alone.
        """
        closed = []
        for row in self._receiving():
            is_quiet = row.last_received + timedelta(seconds=quiet_period_s(row.calling_ae_title)) <= now
            is_whole = row.instances == row.expected  # with more than that, the number was wrong
            if row.series_instance_uid in busy or not (is_quiet or is_whole):
                continue
            with self._write() as connection:
                if _complete(connection, row, now):
                    closed.append(SeriesKey(row.series_instance_uid, row.revision))
        return closed

    def _receiving(self) -> list[Row[Any]]:
        names = ("series_instance_uid", "revision", "calling_ae_title", "instances", "expected", "last_received")
        query = select(*(SERIES.c[name] for name in names)).where(SERIES.c.state == SeriesState.RECEIVING)
        with self._read() as connection:
            return list(connection.execute(query).all())

    def _transition(self, condition: ColumnElement[bool], values: dict[str, Any]) -> bool:
        with self._write() as connection:
            return change(connection, condition, values)


def _complete(connection: Connection, row: Row[Any], now: datetime) -> bool:
    """Take a revision for complete, unless more has come than its row says; False when it is not receiving."""
    key = SeriesKey(row.series_instance_uid, row.revision)
    unchanged = and_(SERIES.c.state == SeriesState.RECEIVING, SERIES.c.instances == row.instances)
    if not change(connection, and_(of_key(key), unchanged), {"state": SeriesState.COMPLETE, "updated": now}):
        return False
    if row.expected is not None and row.instances < row.expected:
        text = f"revision {row.revision}: {row.instances} of {row.expected} instances came; send the others"
        keep_warning(connection, row.series_instance_uid, text, now)
    return True


def _is_being_removed(known: Row[Any] | None, spooled: SpooledSeries) -> bool:
    """Tell whether a series is still whole in the spool because a crash came between ledger and files."""
    if known is None or known.removed_at is None:
        return False
    return bool(spooled.instances == known.instances and spooled.last_received <= known.removed_at)
