"""Tables of the ledger, and opening the database that holds them."""

import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    DateTime,
    Dialect,
    Engine,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
    insert,
    inspect,
    select,
    update,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.types import TypeDecorator

from fewshot_node.errors import ConfigurationError

SCHEMA_VERSION = 7
BUSY_TIMEOUT_S = 30.0
WRITE = "ledger_write"
"""Execution option of connections that are going to write."""


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime, kept as UTC on databases that know no time zone as well."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Bring an aware datetime to UTC; a naive one is a fault of the program."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("the ledger takes datetimes with a time zone only")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give the time zone back that SQLite drops."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


METADATA = MetaData()

VERSION = Table("ledger_version", METADATA, Column("version", Integer, primary_key=True, autoincrement=False))

SERIES = Table(
    "series",
    METADATA,
    Column("series_instance_uid", String(64), primary_key=True),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    Column("study_instance_uid", String(64), nullable=False),
    Column("calling_ae_title", String(16), nullable=False),
    Column("instances", Integer, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("first_received", UtcDateTime, nullable=False),
    Column("last_received", UtcDateTime, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False, default=""),
    Column("attempt", Integer, nullable=False, default=1),
    Column("deaths", Integer, nullable=False, default=0),
    Column("submission_id", String(64)),
    Column("dispatched_at", UtcDateTime),
    Column("claimed_by", String(255)),
    Column("lease_until", UtcDateTime),
    Column("updated", UtcDateTime, nullable=False),
    Column("expected", Integer),
    Column("removed_at", UtcDateTime),
    Index("series_by_state", "state", "last_received"),
)


def _outcome_table(name: str, *more: Column[Any]) -> Table:
    return Table(
        name,
        METADATA,
        Column("series_instance_uid", String(64), primary_key=True),
        Column("revision", Integer, primary_key=True, autoincrement=False),
        Column("task_name", String(255), primary_key=True),
        Column("task_revision", Integer, nullable=False),
        Column("state", String(16), nullable=False),
        Column("reason", Text, nullable=False),
        Column("segmentation_instance_uid", String(64)),
        Column("report_instance_uid", String(64)),
        Column("seconds", JSON, nullable=False),
        *more,
    )


OUTCOMES = _outcome_table("outcomes")

WARNINGS = Table(
    "warnings",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("series_instance_uid", String(64), nullable=False, index=True),
    Column("text", Text, nullable=False),
    Column("time", UtcDateTime, nullable=False),
)

DELIVERIES = Table(
    "deliveries",
    METADATA,
    Column("series_instance_uid", String(64), primary_key=True),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    Column("task_name", String(255), primary_key=True),
    Column("destination", String(64), primary_key=True),
    Column("instances", JSON, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False, default=""),
    Column("tries", Integer, nullable=False, default=0),
    Column("refusals", Integer, nullable=False, default=0),
    Column("out_of_reach", Boolean, nullable=False, default=False),
    Column("queued", UtcDateTime, nullable=False),
    Column("next_try", UtcDateTime, nullable=False),
    Column("updated", UtcDateTime, nullable=False),
    Column("confirmed_by", String(32)),
    Column("transaction_uid", String(64), index=True),
    Column("claimed_by", String(255)),
    Column("lease_until", UtcDateTime),
    Index("deliveries_due", "state", "next_try"),
)

SHADOWS = _outcome_table("shadows", Column("claimed_by", String(255)), Column("lease_until", UtcDateTime))
"""Outcomes of what sends nothing: apart from the others, since the end of a series does not depend on them.

`claimed_by` runs them, and is taken to be alive until `lease_until`.
"""

TRACKED = Table(
    "tracked",
    METADATA,
    Column("tracking_uid", String(64), primary_key=True),
    Column("instance_uid", String(64), primary_key=True, index=True),
    Column("series_instance_uid", String(64), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("task_name", String(255), nullable=False),
    Column("task_revision", Integer, nullable=False),
    Column("label_value", Integer, nullable=False),
    Column("mask_digest", String(64)),
    Column("point_mm", JSON),
)

CORRECTIONS = Table(
    "corrections",
    METADATA,
    Column("instance_uid", String(64), primary_key=True),
    Column("series_instance_uid", String(64), nullable=False, index=True),
    Column("source_series_instance_uid", String(64), nullable=False, index=True),
    Column("source_revision", Integer, nullable=False),
    Column("task_name", String(255), nullable=False),
    Column("task_revision", Integer, nullable=False),
    Column("result_instance_uid", String(64), nullable=False),
    Column("labels", JSON, nullable=False),
    Column("noted", UtcDateTime, nullable=False),
)

REPORTS = Table(
    "reports",
    METADATA,
    Column("series_instance_uid", String(64), primary_key=True),
    Column("task_name", String(255), primary_key=True),
    Column("content_uid", String(64), primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("study_instance_uid", String(64), nullable=False),
    Column("report_series_uid", String(64), nullable=False),
    Column("report_instance_uid", String(64), nullable=False),
    Column("predecessor_uid", String(64)),
    Column("made", UtcDateTime, nullable=False),
    Column("delivered", Boolean, nullable=False),
)
"""Reports that were made of a series, kept when it is computed again: the next one refers to the last of them.

`revision` is that of the series at first, `made` when it was made last.
"""

_MIGRATIONS: dict[int, tuple[Column[Any] | Table, ...]] = {
    1: (SERIES.c.expected, SERIES.c.removed_at),
    2: (DELIVERIES,),
    3: (SHADOWS,),
    4: (TRACKED, CORRECTIONS),
    5: (REPORTS,),
    6: (SHADOWS.c.claimed_by, SHADOWS.c.lease_until),
}
"""Columns and tables that the version after the named one has added."""


def open_engine(url: str) -> Engine:
    """Open the ledger's database and make its tables where there are none.

    Raises
    ------
    ConfigurationError
        The URL is none, the database cannot be opened, is damaged, or is of another version.
    """
    try:
        parsed = make_url(url)
        engine = create_engine(parsed, **_engine_options(parsed))
    except (ArgumentError, ImportError, OSError) as error:
        raise ConfigurationError(f"ledger URL cannot be used: {error}") from error
    if parsed.get_backend_name() == "sqlite":
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    try:
        with engine.execution_options(**{WRITE: True}).begin() as connection:
            _ensure_tables(connection)
    except DBAPIError as error:
        engine.dispose()
        raise ConfigurationError(unusable(parsed, str(error.orig))) from error
    except ConfigurationError:
        engine.dispose()
        raise
    return engine


def unusable(url: URL, reason: str) -> str:
    """Say that a ledger cannot be used, and what to do about it."""
    name = url.database if url.get_backend_name() == "sqlite" else url.render_as_string(hide_password=True)
    return (
        f"ledger {name} cannot be used ({reason}): it is only an index of the spool; "
        "move it away and start again, and it is rebuilt from the spool"
    )


def _engine_options(url: URL) -> dict[str, Any]:
    if url.get_backend_name() != "sqlite" or not url.database:
        return {}
    Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    return {"connect_args": {"timeout": BUSY_TIMEOUT_S}}


def _set_up_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # The driver would open transactions by itself, and too late: `_begin_sqlite` does it.
    connection.isolation_level = None
    # The spool is the truth: losing the last commits in a power cut costs a rebuild, not an image.
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")


def _begin_sqlite(connection: Connection) -> None:
    """Take the write lock at once when going to write: a lock taken later cannot be waited for."""
    writing = connection.get_execution_options().get(WRITE, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


def _ensure_tables(connection: Connection) -> None:
    tables = set(inspect(connection).get_table_names())
    if not tables & set(METADATA.tables):
        METADATA.create_all(connection)
        connection.execute(insert(VERSION).values(version=SCHEMA_VERSION))
        return
    found = connection.execute(select(VERSION.c.version)).scalar() if VERSION.name in tables else None
    while found in _MIGRATIONS:
        for added in _MIGRATIONS[found]:
            _add(connection, added)
        found += 1
        connection.execute(update(VERSION).values(version=found))
    if found != SCHEMA_VERSION:
        reason = f"its tables are of version {found}, this program's of version {SCHEMA_VERSION}"
        raise ConfigurationError(unusable(connection.engine.url, reason))


def _add(connection: Connection, added: Column[Any] | Table) -> None:
    if isinstance(added, Table):
        added.create(connection)
        return
    if added.name in {column["name"] for column in inspect(connection).get_columns(added.table.name)}:
        return  # an earlier step has made the table as it is now
    kind = added.type.compile(connection.dialect)
    connection.exec_driver_sql(f"ALTER TABLE {added.table.name} ADD COLUMN {added.name} {kind}")
