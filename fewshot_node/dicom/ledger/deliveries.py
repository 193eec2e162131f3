"""The ledger's half that brings results to their destinations: each delivery with a state of its own."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_, select, true, update

from fewshot_node.dicom.ledger.delivery_records import Delivery, DeliveryState, TryEnd
from fewshot_node.dicom.ledger.delivery_rows import (
    awaits,
    end_try,
    is_due,
    is_held,
    is_open,
    of_delivery,
    revive,
    to_delivery,
)
from fewshot_node.dicom.ledger.intake import LedgerIntake
from fewshot_node.dicom.ledger.queries import newest_row, of_key
from fewshot_node.dicom.ledger.schema import DELIVERIES
from fewshot_node.records import SeriesKey


class LedgerDeliveries(LedgerIntake):
    """Deliveries: due, claimed for one try, ended, dead, revived; `Ledger` adds the work on series."""

    def deliveries(
        self,
        state: DeliveryState | None = None,
        destination: str | None = None,
        key: SeriesKey | None = None,
        limit: int | None = None,
    ) -> tuple[Delivery, ...]:
        """Return deliveries, those that something happened to last first."""
        conditions: list[ColumnElement[bool]] = [] if key is None else [of_key(key, DELIVERIES)]
        if state is not None:
            conditions.append(DELIVERIES.c.state == state)
        if destination is not None:
            conditions.append(DELIVERIES.c.destination == destination)
        return self._deliveries(and_(true(), *conditions), DELIVERIES.c.updated.desc(), limit)

    def due_deliveries(self, now: datetime, key: SeriesKey | None = None, limit: int = 1000) -> tuple[Delivery, ...]:
        """Return what is to be tried now, what was queued first first."""
        condition = is_due(now) if key is None else and_(is_due(now), of_key(key, DELIVERIES))
        return self._deliveries(condition, DELIVERIES.c.queued, limit)

    def delivery_counts(self) -> dict[tuple[str, DeliveryState], int]:
        """Return how many deliveries to each destination are in each state."""
        columns = (DELIVERIES.c.destination, DELIVERIES.c.state)
        with self._read() as connection:
            rows = connection.execute(select(*columns, func.count()).group_by(*columns))
            return {(name, DeliveryState(state)): int(count) for name, state, count in rows}

    def claim_delivery(self, delivery: Delivery, holder: str, lease_s: float, transaction_uid: str) -> Delivery | None:
        """Take a due delivery for one try; None when another has it or it is over.

        Parameters
        ----------
        transaction_uid
            Of the storage commitment that may be asked for: its result can come before the try has ended.
        """
        now = self._clock()
        values = {
            "claimed_by": holder,
            "lease_until": now + timedelta(seconds=lease_s),
            "tries": DELIVERIES.c.tries + 1,
            "transaction_uid": transaction_uid,
        }
        return self._change_delivery(delivery, and_(of_delivery(delivery), is_due(now)), values)

    def renew_delivery(self, delivery: Delivery, holder: str, lease_s: float) -> bool:
        """Prolong the time for which a delivery is taken; False when another may have it."""
        values = {"lease_until": self._clock() + timedelta(seconds=lease_s)}
        return self._change_delivery(delivery, is_held(delivery, holder), values) is not None

    def end_delivery(self, delivery: Delivery, holder: str, end: TryEnd) -> bool:
        """Note how a try ended; False, and nothing noted, when the holder no longer has the delivery."""
        with self._write() as connection:
            return end_try(connection, delivery, is_held(delivery, holder), end, self._clock())

    def awaiting_commitment(self, transaction_uid: str) -> Delivery | None:
        """Return the open delivery that a storage commitment is about."""
        condition = and_(is_open(), DELIVERIES.c.transaction_uid == transaction_uid)
        return next(iter(self._deliveries(condition, DELIVERIES.c.queued, 1)), None)

    def end_commitment(self, delivery: Delivery, end: TryEnd) -> bool:
        """Note what a storage commitment came to, also while the try that asked for it goes on."""
        with self._write() as connection:
            return end_try(connection, delivery, awaits(delivery), end, self._clock())

    def postpone(self, destination: str, until: datetime) -> None:
        """Let everything that waits for a destination out of reach wait until then: one of them tries it."""
        waits = and_(_waits_for(destination), DELIVERIES.c.next_try < until, DELIVERIES.c.claimed_by.is_(None))
        with self._write() as connection:
            connection.execute(update(DELIVERIES).where(waits).values(next_try=until, out_of_reach=True))

    def hasten(self, destination: str) -> None:
        """Make due what waits only because its destination was out of reach."""
        waits = and_(_waits_for(destination), DELIVERIES.c.out_of_reach, DELIVERIES.c.claimed_by.is_(None))
        with self._write() as connection:
            connection.execute(update(DELIVERIES).where(waits).values(next_try=self._clock(), out_of_reach=False))

    def has_trouble(self, destination: str) -> bool:
        """Tell whether something waits for a destination because it failed there."""
        failed = and_(_waits_for(destination), or_(DELIVERIES.c.tries > 0, DELIVERIES.c.out_of_reach))
        with self._read() as connection:
            return connection.execute(select(DELIVERIES.c.destination).where(failed).limit(1)).first() is not None

    def redeliver(self, series_uid: str, destination: str | None = None) -> SeriesKey | None:
        """Send the dead letters of a series' newest revision once more; None when it has none."""
        condition = true() if destination is None else DELIVERIES.c.destination == destination
        with self._write() as connection:
            known = newest_row(connection, series_uid)
            if known is None:
                return None
            key = SeriesKey(series_uid, known.revision)
            return key if revive(connection, key, condition, self._clock()) else None

    def _change_delivery(
        self, delivery: Delivery, condition: ColumnElement[bool], values: dict[str, Any]
    ) -> Delivery | None:
        with self._write() as connection:
            if connection.execute(update(DELIVERIES).where(condition).values(**values)).rowcount != 1:
                return None
            return to_delivery(connection.execute(select(DELIVERIES).where(of_delivery(delivery))).one())

    def _deliveries(
        self, condition: ColumnElement[bool], order: ColumnElement[Any], limit: int | None
    ) -> tuple[Delivery, ...]:
        fixed = (DELIVERIES.c.series_instance_uid, DELIVERIES.c.task_name, DELIVERIES.c.destination)
        query = select(DELIVERIES).where(condition).order_by(order, *fixed).limit(limit)
        with self._read() as connection:
            return tuple(to_delivery(row) for row in connection.execute(query))


def _waits_for(destination: str) -> ColumnElement[bool]:
    return and_(DELIVERIES.c.destination == destination, DELIVERIES.c.state == DeliveryState.WAITING)
