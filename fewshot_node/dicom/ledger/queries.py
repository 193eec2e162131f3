"""Conditions, changes and rows of the ledger's tables."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, and_, case, delete, func, insert, or_, select, update
from sqlalchemy.engine import Row

from fewshot_node.dicom.ledger.records import (
    FINAL_STATES,
    ExpiredClaim,
    SeriesEntry,
    SeriesNote,
    SeriesState,
    SeriesWarning,
    ShadowOutcome,
    ShadowState,
    TaskOutcome,
)
from fewshot_node.dicom.ledger.schema import OUTCOMES, SERIES, SHADOWS, WARNINGS
from fewshot_node.records import SeriesKey

_ENTRY_COLUMNS = [
    column for column in SERIES.c if not column.primary_key and column.name not in {"deaths", "dispatched_at"}
]
_OUTCOME_COLUMNS = [column for column in OUTCOMES.c if column.name not in {"series_instance_uid", "revision"}]
_SHADOW_COLUMNS = [SHADOWS.c[column.name] for column in _OUTCOME_COLUMNS]


def of_key(key: SeriesKey, table: Table = SERIES) -> ColumnElement[bool]:
    """Rows of one revision of a series."""
    return and_(table.c.series_instance_uid == key.series_instance_uid, table.c.revision == key.revision)


def is_newest() -> ColumnElement[bool]:
    """The newest revision of each series."""
    other = SERIES.alias()
    same_series = other.c.series_instance_uid == SERIES.c.series_instance_uid
    return SERIES.c.revision == select(func.max(other.c.revision)).where(same_series).scalar_subquery()


def is_receiving(series_uid: str) -> ColumnElement[bool]:
    """The revision of a series that is receiving: its newest or none."""
    return and_(SERIES.c.series_instance_uid == series_uid, SERIES.c.state == SeriesState.RECEIVING)


def is_held_by(key: SeriesKey, worker: str) -> ColumnElement[bool]:
    """The revision, as long as the worker has it."""
    return and_(of_key(key), SERIES.c.state == SeriesState.DISPATCHED, SERIES.c.claimed_by == worker)


def is_overtaken() -> ColumnElement[bool]:
    """Revisions whose submission no worker took, although one took a later one: the queue is in order."""
    other = SERIES.alias()
    taken = or_(other.c.claimed_by.is_not(None), other.c.state.in_(list(FINAL_STATES)))
    return SERIES.c.dispatched_at < select(func.max(other.c.dispatched_at)).where(taken).scalar_subquery()


def somebody_works(now: datetime) -> ColumnElement[bool]:
    """Whether any revision of any series is being worked on."""
    other = SERIES.alias()
    return select(other).where(other.c.state == SeriesState.DISPATCHED, other.c.lease_until > now).exists()


def again(now: datetime) -> dict[str, Any]:
    """Values that make a revision complete as its next attempt."""
    unclaimed = {"submission_id": None, "dispatched_at": None, "claimed_by": None, "lease_until": None}
    return {"state": SeriesState.COMPLETE, "attempt": SERIES.c.attempt + 1, "updated": now, **unclaimed}


def after_death(claim: ExpiredClaim, now: datetime) -> dict[str, Any]:
    """Values that a revision takes when its worker died."""
    reason = f"worker died {claim.deaths} times: look at its log and at the machine's memory, then retry the series"
    if claim.state == SeriesState.COMPLETE:
        return again(now) | {"deaths": claim.deaths}
    ended = {"state": claim.state, "reason": reason, "deaths": claim.deaths, "updated": now}
    return {**ended, "claimed_by": None, "lease_until": None}


def change(connection: Connection, condition: ColumnElement[bool], values: Mapping[str, Any]) -> bool:
    """Change the one row that meets a condition; tell whether there was one."""
    return connection.execute(update(SERIES).where(condition).values(**values)).rowcount == 1


def newest_row(connection: Connection, series_uid: str) -> Row[Any] | None:
    """Return the newest revision's row of a series."""
    query = select(SERIES).where(SERIES.c.series_instance_uid == series_uid)
    return connection.execute(query.order_by(SERIES.c.revision.desc()).limit(1)).first()


def open_revision(connection: Connection, series_uid: str, known: Row[Any] | None, values: Mapping[str, Any]) -> None:
    """Insert the revision after the known one, receiving; IntegrityError when another was quicker."""
    revision = 1 if known is None else known.revision + 1
    key = {"series_instance_uid": series_uid, "revision": revision}
    connection.execute(insert(SERIES).values(**key, state=SeriesState.RECEIVING, **values))


def held_already(known: Row[Any] | None) -> tuple[int, int]:
    """Return the instances and bytes that a series' newest revision counts; none when they were removed."""
    return (0, 0) if known is None or known.removed_at is not None else (known.instances, known.bytes)


def larger(column: ColumnElement[Any], value: object) -> ColumnElement[Any]:
    """The larger of a column and a value; the value where the column is null."""
    return case((column >= value, column), else_=value)


def count_instances(connection: Connection, note: SeriesNote) -> None:
    """Count into the revision that is receiving, or open the next one; IntegrityError when another did."""
    seen = {"last_received": note.last_received, "updated": note.last_received}
    counted = {"instances": SERIES.c.instances + note.instances, "bytes": SERIES.c.bytes + note.bytes}
    stated = {} if note.stated is None else {"expected": larger(SERIES.c.expected, note.stated)}
    if change(connection, is_receiving(note.series_instance_uid), counted | seen | stated):
        return
    known = newest_row(connection, note.series_instance_uid)
    instances, size = held_already(known)
    first = {
        "study_instance_uid": note.study_instance_uid,
        "calling_ae_title": note.calling_ae_title,
        "first_received": note.first_received,
        "instances": instances + note.instances,
        "bytes": size + note.bytes,
        "expected": note.stated,
    }
    open_revision(connection, note.series_instance_uid, known, seen | first)
    if known is not None and known.removed_at is not None:
        keep_warning(connection, note.series_instance_uid, removal_warning(known), note.first_received)


def removal_warning(known: Row[Any]) -> str:
    """Say that what comes after a removed revision is all that there is."""
    earlier = f"{known.instances} earlier instances were removed after they were done with (revision {known.revision})"
    return f"{earlier}; the later ones stand alone"


def take_removal_back(connection: Connection, key: SeriesKey) -> None:
    """Note that the instances of a revision are in the spool after all.

    A late instance that was counted meanwhile has opened the next revision without them.
    """
    known = newest_row(connection, key.series_instance_uid)
    if known is None or not change(connection, of_key(key), {"removed_at": None}) or known.revision == key.revision:
        return
    row = connection.execute(select(SERIES).where(of_key(key))).one()
    later = of_key(SeriesKey(key.series_instance_uid, key.revision + 1))
    counted = {"instances": SERIES.c.instances + row.instances, "bytes": SERIES.c.bytes + row.bytes}
    change(connection, later, counted)
    same_series = WARNINGS.c.series_instance_uid == key.series_instance_uid
    connection.execute(delete(WARNINGS).where(same_series, WARNINGS.c.text == removal_warning(row)))


def keep_warning(connection: Connection, series_uid: str, text: str, when: datetime) -> None:
    """Keep a remark about a series, once."""
    known = select(WARNINGS.c.id).where(WARNINGS.c.series_instance_uid == series_uid, WARNINGS.c.text == text)
    if connection.execute(known.limit(1)).first() is None:
        connection.execute(insert(WARNINGS).values(series_instance_uid=series_uid, text=text, time=when))


def outcome_values(key: SeriesKey, outcome: TaskOutcome | ShadowOutcome) -> dict[str, Any]:
    """Return the row of an outcome."""
    values = {column.name: getattr(outcome, column.name) for column in _OUTCOME_COLUMNS}
    key_values = {"series_instance_uid": key.series_instance_uid, "revision": key.revision}
    return {**values, **key_values, "seconds": dict(outcome.seconds)}


def to_entry(connection: Connection, row: Row[Any]) -> SeriesEntry:
    """Return a series row as a record, with its outcomes and the warnings of its series."""
    key = SeriesKey(row.series_instance_uid, row.revision)
    values = {column.name: getattr(row, column.name) for column in _ENTRY_COLUMNS}
    outcomes = select(*_OUTCOME_COLUMNS).where(of_key(key, OUTCOMES)).order_by(OUTCOMES.c.task_name)
    shadows = select(*_SHADOW_COLUMNS).where(of_key(key, SHADOWS)).order_by(SHADOWS.c.task_name)
    same_series = WARNINGS.c.series_instance_uid == key.series_instance_uid
    warnings = select(WARNINGS.c.text, WARNINGS.c.time).where(same_series).order_by(WARNINGS.c.id)
    return SeriesEntry(
        **{**values, "state": SeriesState(row.state)},
        key=key,
        outcomes=tuple(_to_outcome(found) for found in connection.execute(outcomes)),
        shadows=tuple(_to_shadow(found) for found in connection.execute(shadows)),
        warnings=tuple(SeriesWarning(found.text, found.time) for found in connection.execute(warnings)),
    )


def _to_outcome(row: Row[Any]) -> TaskOutcome:
    values = row._asdict()
    return TaskOutcome(**{**values, "state": SeriesState(row.state)})


def _to_shadow(row: Row[Any]) -> ShadowOutcome:
    values = row._asdict()
    return ShadowOutcome(**{**values, "state": ShadowState(row.state)})
