"""Conditions, changes and rows of the ledger's deliveries, and what they make of their series."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, or_, select, update
from sqlalchemy.engine import Row

from fewshot_node.dicom.ledger.delivery_records import (
    OPEN_DELIVERIES,
    Confirmation,
    Delivery,
    DeliveryState,
    Parcel,
    TryEnd,
)
from fewshot_node.dicom.ledger.queries import change, of_key
from fewshot_node.dicom.ledger.records import SeriesState
from fewshot_node.dicom.ledger.report_rows import mark_delivered
from fewshot_node.dicom.ledger.schema import DELIVERIES, OUTCOMES, SERIES
from fewshot_node.records import SeriesKey


def of_delivery(delivery: Delivery) -> ColumnElement[bool]:
    """The row of a delivery."""
    named = and_(DELIVERIES.c.task_name == delivery.task_name, DELIVERIES.c.destination == delivery.destination)
    return and_(of_key(delivery.key, DELIVERIES), named)


def is_open() -> ColumnElement[bool]:
    """Deliveries that are not over."""
    return DELIVERIES.c.state.in_(list(OPEN_DELIVERIES))


def is_due(now: datetime) -> ColumnElement[bool]:
    """Open deliveries whose time has come, and that nobody has in hand."""
    free = or_(DELIVERIES.c.claimed_by.is_(None), DELIVERIES.c.lease_until < now)
    return and_(is_open(), DELIVERIES.c.next_try <= now, free)


def is_held(delivery: Delivery, holder: str) -> ColumnElement[bool]:
    """An open delivery, as long as the holder has it."""
    return and_(of_delivery(delivery), is_open(), DELIVERIES.c.claimed_by == holder)


def awaits(delivery: Delivery) -> ColumnElement[bool]:
    """An open delivery, as long as its storage commitment is the one that is known of it."""
    return and_(of_delivery(delivery), is_open(), DELIVERIES.c.transaction_uid == delivery.transaction_uid)


def replace_parcels(connection: Connection, key: SeriesKey, parcels: Sequence[Parcel], now: datetime) -> None:
    """Put these parcels in the place of what there was of a revision; they are due at once."""
    connection.execute(delete(DELIVERIES).where(of_key(key, DELIVERIES)))
    fixed = {"series_instance_uid": key.series_instance_uid, "revision": key.revision}
    fresh = {"state": DeliveryState.WAITING, "queued": now, "next_try": now, "updated": now}
    rows = [
        {"task_name": one.task_name, "destination": one.destination, "instances": list(one.instances), **fixed, **fresh}
        for one in parcels
    ]
    if rows:
        connection.execute(insert(DELIVERIES), rows)


def end_try(
    connection: Connection, delivery: Delivery, condition: ColumnElement[bool], end: TryEnd, now: datetime
) -> bool:
    """Note how a try ended, and what that makes of the series; False when the condition does not hold."""
    values = {
        "state": end.state,
        "reason": end.reason,
        "refusals": DELIVERIES.c.refusals + int(end.refused),
        "out_of_reach": end.out_of_reach,
        "next_try": end.next_try,
        "confirmed_by": end.confirmed_by,
        "updated": now,
        "claimed_by": None,
        "lease_until": None,
    }
    if connection.execute(update(DELIVERIES).where(condition).values(**values)).rowcount != 1:
        return False
    if end.state == DeliveryState.CONFIRMED:
        mark_delivered(connection, delivery.key.series_instance_uid, delivery.task_name, delivery.instances)
    _settle_outcome(connection, delivery, end.seconds)
    settle_series(connection, delivery.key, now)
    return True


def settle_series(connection: Connection, key: SeriesKey, now: datetime) -> None:
    """End a series that is being delivered once none of its deliveries is open any more."""
    open_ones = select(func.count()).select_from(DELIVERIES).where(of_key(key, DELIVERIES), is_open())
    if connection.execute(open_ones).scalar_one():
        return
    failed = select(OUTCOMES.c.task_name, OUTCOMES.c.reason).where(of_key(key, OUTCOMES), OUTCOMES.c.reason != "")
    reasons = [f"{name}: {reason}" for name, reason in connection.execute(failed.order_by(OUTCOMES.c.task_name))]
    state = SeriesState.FAILED if reasons else SeriesState.DELIVERED
    condition = and_(of_key(key), SERIES.c.state == SeriesState.DELIVERING)
    change(connection, condition, {"state": state, "reason": "; ".join(reasons), "updated": now})


def _settle_outcome(connection: Connection, delivery: Delivery, seconds: float) -> None:
    """Bring the outcome of a task up to its deliveries."""
    of_task = and_(of_key(delivery.key, OUTCOMES), OUTCOMES.c.task_name == delivery.task_name)
    outcome = connection.execute(select(OUTCOMES).where(of_task)).first()
    if outcome is None:
        return
    same = and_(of_key(delivery.key, DELIVERIES), DELIVERIES.c.task_name == delivery.task_name)
    rows = connection.execute(select(DELIVERIES).where(same).order_by(DELIVERIES.c.destination)).all()
    dead = [f"{row.destination}: {row.reason}" for row in rows if row.state == DeliveryState.DEAD]
    state = SeriesState.DELIVERING
    if all(row.state not in OPEN_DELIVERIES for row in rows):
        state = SeriesState.FAILED if dead else SeriesState.DELIVERED
    total = {**outcome.seconds, "deliver": outcome.seconds.get("deliver", 0.0) + seconds}
    values = {"state": state, "reason": "; ".join(dead), "seconds": total}
    connection.execute(update(OUTCOMES).where(of_task).values(**values))


def revive(connection: Connection, key: SeriesKey, condition: ColumnElement[bool], now: datetime) -> bool:
    """Make dead letters of a revision wait again; False when there are none."""
    dead = and_(of_key(key, DELIVERIES), DELIVERIES.c.state == DeliveryState.DEAD, condition)
    tasks = select(DELIVERIES.c.task_name).where(dead)
    names = [name for (name,) in connection.execute(tasks)]
    anew = {"state": DeliveryState.WAITING, "refusals": 0, "tries": 0, "out_of_reach": False, "queued": now}
    changed = connection.execute(update(DELIVERIES).where(dead).values(**anew, next_try=now, updated=now))
    if not changed.rowcount:
        return False
    of_tasks = and_(of_key(key, OUTCOMES), OUTCOMES.c.task_name.in_(names))
    connection.execute(update(OUTCOMES).where(of_tasks).values(state=SeriesState.DELIVERING, reason=""))
    failed = and_(of_key(key), SERIES.c.state == SeriesState.FAILED)
    change(connection, failed, {"state": SeriesState.DELIVERING, "reason": "", "updated": now})
    return True


def to_delivery(row: Row[Any]) -> Delivery:
    """Return a row as a record."""
    values = row._asdict()
    key = SeriesKey(values.pop("series_instance_uid"), values.pop("revision"))
    del values["claimed_by"], values["lease_until"]
    by = values["confirmed_by"]
    kept = {
        "instances": tuple(values["instances"]),
        "state": DeliveryState(values["state"]),
        "confirmed_by": None if by is None else Confirmation(by),
    }
    return Delivery(key=key, **{**values, **kept})
