"""The ledger's half that works on series: dispatched, claimed by a worker, ended."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import and_, delete, insert, or_, select

from fewshot_node.dicom.ledger.corrections import keep_tracked
from fewshot_node.dicom.ledger.delivery_records import Parcel
from fewshot_node.dicom.ledger.delivery_rows import replace_parcels
from fewshot_node.dicom.ledger.queries import (
    after_death,
    again,
    change,
    is_held_by,
    is_overtaken,
    newest_row,
    of_key,
    outcome_values,
    somebody_works,
)
from fewshot_node.dicom.ledger.records import (
    FINAL_STATES,
    ExpiredClaim,
    SeriesEntry,
    SeriesState,
    ShadowOutcome,
    TaskOutcome,
)
from fewshot_node.dicom.ledger.report_rows import keep_reports
from fewshot_node.dicom.ledger.schema import OUTCOMES, SERIES
from fewshot_node.dicom.ledger.shadows import LedgerShadows, begin_shadows
from fewshot_node.records import SeriesKey


class Ledger(LedgerShadows):
    """States of received series in an SQL database.

    Parameters
    ----------
    url
        SQLAlchemy URL: SQLite for one machine, PostgreSQL for several.
    clock
        Source of the times that a caller does not pass.

    Raises
    ------
    ConfigurationError
        On opening: the database cannot be opened, is damaged or of another version. Later: it broke.
    RetryableError
        From any method: the database is busy or out of reach; nothing of the call was done.
    """

    def waiting(self, limit: int = 100) -> tuple[SeriesEntry, ...]:
        """Return complete revisions that nothing was submitted for, those that waited longest first."""
        return self._select(SERIES.c.state == SeriesState.COMPLETE, limit)

    def mark_dispatched(self, key: SeriesKey, attempt: int, submission_id: str) -> bool:
        """Note that an attempt was submitted; False when the revision has moved on.

        A worker may be quicker than this call: a revision claimed meanwhile only gets its submission's
        name.
        """
        claimed_first = and_(SERIES.c.state == SeriesState.DISPATCHED, SERIES.c.submission_id.is_(None))
        condition = and_(
            of_key(key), SERIES.c.attempt == attempt, or_(SERIES.c.state == SeriesState.COMPLETE, claimed_first)
        )
        now = self._clock()
        submitted = {"submission_id": submission_id, "dispatched_at": now, "updated": now}
        return self._transition(condition, {"state": SeriesState.DISPATCHED, **submitted})

    def stalled(self, now: datetime, older_than_s: float) -> tuple[SeriesEntry, ...]:
        """Return revisions whose submission seems lost: that old, and no worker has taken it.

        While workers are busy a submission may simply have to wait; then only those count that a worker
        has passed over for a later one.
        """
        condition = and_(
            SERIES.c.state == SeriesState.DISPATCHED,
            SERIES.c.claimed_by.is_(None),
            SERIES.c.updated <= now - timedelta(seconds=older_than_s),
            or_(~somebody_works(now), is_overtaken()),
        )
        return self._select(condition, limit=None)

    def requeue(self, key: SeriesKey, attempt: int) -> bool:
        """Take a submission back that no worker claimed: complete again, as the next attempt.

        False when a worker has it after all. The old submission cannot claim it any more.
        """
        condition = and_(
            of_key(key),
            SERIES.c.state == SeriesState.DISPATCHED,
            SERIES.c.attempt == attempt,
            SERIES.c.claimed_by.is_(None),
        )
        return self._transition(condition, again(self._clock()))

    def claim(self, key: SeriesKey, attempt: int, worker: str, lease_s: float) -> bool:
        """Give a submitted attempt to a worker for a time; False when it is not to be had.

        The same worker may claim it again. An attempt that is complete but not yet marked dispatched can
        be claimed: its submission exists, or no worker would know the attempt.
        """
        now = self._clock()
        condition = and_(
            of_key(key),
            SERIES.c.attempt == attempt,
            SERIES.c.state.in_([SeriesState.COMPLETE, SeriesState.DISPATCHED]),
            or_(SERIES.c.claimed_by.is_(None), SERIES.c.claimed_by == worker),
        )
        lease = {"claimed_by": worker, "lease_until": now + timedelta(seconds=lease_s), "updated": now}
        return self._transition(condition, {"state": SeriesState.DISPATCHED, **lease})

    def renew(self, key: SeriesKey, worker: str, lease_s: float) -> bool:
        """Prolong a worker's claim; False when it has lost it and must stop."""
        now = self._clock()
        values = {"lease_until": now + timedelta(seconds=lease_s), "updated": now}
        return self._transition(is_held_by(key, worker), values)

    def release_expired(self, now: datetime, max_attempts: int) -> list[ExpiredClaim]:
        """Take back what dead workers held: to be tried again, or failed after so many deaths."""
        expired = and_(SERIES.c.state == SeriesState.DISPATCHED, SERIES.c.lease_until < now)
        columns = (SERIES.c.series_instance_uid, SERIES.c.revision, SERIES.c.claimed_by, SERIES.c.deaths)
        with self._read() as connection:
            rows = connection.execute(select(*columns).where(expired)).all()
        released = []
        for uid, revision, worker, deaths in rows:
            claim = ExpiredClaim(SeriesKey(uid, revision), worker, deaths + 1, SeriesState.COMPLETE)
            if claim.deaths >= max_attempts:
                claim = ExpiredClaim(claim.key, worker, claim.deaths, SeriesState.FAILED)
            if self._transition(and_(is_held_by(claim.key, worker), expired), after_death(claim, now)):
                released.append(claim)
        return released

    def give_back(self, key: SeriesKey, worker: str) -> bool:
        """Take a claim back that its worker cannot work on now: complete again, as the next attempt."""
        return self._transition(is_held_by(key, worker), again(self._clock()))

    def finish(
        self,
        key: SeriesKey,
        worker: str,
        state: SeriesState,
        reason: str,
        outcomes: Sequence[TaskOutcome | ShadowOutcome],
        parcels: Sequence[Parcel] = (),
    ) -> bool:
        """End the work on a revision; False, and nothing noted, when the worker has lost its claim.

        Parameters
        ----------
        outcomes
            Of the tasks whose results leave, and of those that the worker runs in shadow from now on.
        parcels
            What is to be delivered of it; `state` is *delivering* with them, and only then.

        Raises
        ------
        ValueError
            `state` is not one that work ends in.
        """
        if (state is SeriesState.DELIVERING) != bool(parcels) or state not in {*FINAL_STATES, SeriesState.DELIVERING}:
            raise ValueError(f"work on a series with {len(parcels)} parcels does not end in state {state}")
        now = self._clock()
        values = {"state": state, "reason": reason, "claimed_by": None, "lease_until": None, "updated": now}
        shadows = [outcome for outcome in outcomes if isinstance(outcome, ShadowOutcome)]
        leaving = [outcome for outcome in outcomes if isinstance(outcome, TaskOutcome)]
        with self._write() as connection:
            lease_until = connection.execute(select(SERIES.c.lease_until).where(of_key(key))).scalar()
            if not change(connection, is_held_by(key, worker), values):
                return False
            connection.execute(delete(OUTCOMES).where(of_key(key, OUTCOMES)))
            if leaving:
                connection.execute(insert(OUTCOMES), [outcome_values(key, outcome) for outcome in leaving])
            begin_shadows(connection, key, worker, shadows, lease_until or now)
            keep_tracked(connection, key, leaving)
            keep_reports(connection, key, leaving, now)
            replace_parcels(connection, key, parcels, now)
        return True

    def retry(self, series_uid: str) -> SeriesKey | None:
        """Send the newest revision through once more; None unless its work has ended and its instances are here."""
        with self._write() as connection:
            known = newest_row(connection, series_uid)
            if known is None or known.state not in FINAL_STATES or known.removed_at is not None:
                return None
            key = SeriesKey(series_uid, known.revision)
            values = again(self._clock()) | {"deaths": 0, "reason": ""}
            ended_here = and_(SERIES.c.state.in_(list(FINAL_STATES)), SERIES.c.removed_at.is_(None))
            condition = and_(of_key(key), ended_here)
            return key if change(connection, condition, values) else None
