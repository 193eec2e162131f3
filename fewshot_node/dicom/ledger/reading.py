"""The reading half of the ledger."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from sqlalchemy import ColumnElement, Connection, and_, exc, func, select

from fewshot_node.dicom.ledger.queries import is_newest, of_key, to_entry
from fewshot_node.dicom.ledger.records import FINAL_STATES, SeriesEntry, SeriesState
from fewshot_node.dicom.ledger.report_rows import made_reports
from fewshot_node.dicom.ledger.schema import SERIES, WRITE, open_engine, unusable
from fewshot_node.dicom.spool import Spool
from fewshot_node.errors import ConfigurationError, RetryableError, SeriesError
from fewshot_node.records import MadeReport, ReceivedSeries, SeriesKey


def utc_now() -> datetime:
    """Return the time with its zone, as the ledger wants it."""
    return datetime.now(UTC)


class LedgerReading:
    """Opens the ledger's database and reads it; `Ledger` adds the transitions."""

    def __init__(self, url: str, clock: Callable[[], datetime] = utc_now) -> None:
        self._engine = open_engine(url)
        self._writing_engine = self._engine.execution_options(**{WRITE: True})
        self._clock = clock

    def dispose(self) -> None:
        """Close the connections to the database."""
        self._engine.dispose()

    def get(self, series_uid: str) -> SeriesEntry | None:
        """Return the newest revision of a series."""
        condition = and_(SERIES.c.series_instance_uid == series_uid, is_newest())
        return next(iter(self._select(condition, limit=1)), None)

    def entry(self, key: SeriesKey) -> SeriesEntry | None:
        """Return one revision of a series."""
        return next(iter(self._select(of_key(key), limit=1)), None)

    def series(self, state: SeriesState | None = None, limit: int | None = None) -> tuple[SeriesEntry, ...]:
        """Return the newest revision of each series, those heard of last first."""
        condition = is_newest() if state is None else and_(is_newest(), SERIES.c.state == state)
        return self._select(condition, limit, newest_first=True)

    def counts(self) -> dict[SeriesState, int]:
        """Return how many series have their newest revision in each state."""
        query = select(SERIES.c.state, func.count()).where(is_newest()).group_by(SERIES.c.state)
        with self._read() as connection:
            found = {SeriesState(state): int(count) for state, count in connection.execute(query)}
        return {state: found.get(state, 0) for state in SeriesState}

    def oldest_open(self) -> datetime | None:
        """Return when the series that has been open longest began to come in; None when none is open.

        Open is what work has not ended on: receiving, complete or dispatched.
        """
        is_open = SERIES.c.state.in_([state for state in SeriesState if state not in FINAL_STATES])
        with self._read() as connection:
            return connection.execute(select(func.min(SERIES.c.first_received)).where(is_newest(), is_open)).scalar()

    def received(self, key: SeriesKey, spool: Spool) -> ReceivedSeries:
        """Return a revision with all files that the spool now holds of its series, and its earlier reports.

        Raises
        ------
        SeriesError
            The ledger does not know the revision, or the spool has no file of it.
        """
        entry = self.entry(key)
        files = spool.series_files(key.series_instance_uid)
        if entry is None or not files:
            missing = "ledger" if entry is None else f"spool {spool.root}"
            raise SeriesError(f"series {key} is not in the {missing}: send it again")
        return ReceivedSeries(key, entry.study_instance_uid, entry.calling_ae_title, files, self.reports(key))

    def reports(self, key: SeriesKey) -> tuple[MadeReport, ...]:
        """Return the reports that were made of a series up to a revision, the newest first."""
        with self._read() as connection:
            return made_reports(connection, key)

    def _select(
        self, condition: ColumnElement[bool], limit: int | None, newest_first: bool = False
    ) -> tuple[SeriesEntry, ...]:
        time = SERIES.c.last_received
        order = (time.desc() if newest_first else time, SERIES.c.series_instance_uid)
        with self._read() as connection:
            rows = connection.execute(select(SERIES).where(condition).order_by(*order).limit(limit)).all()
            return tuple(to_entry(connection, row) for row in rows)

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with self._own_errors(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        with self._own_errors(), self._writing_engine.begin() as connection:
            yield connection

    @contextmanager
    def _own_errors(self) -> Iterator[None]:
        try:
            yield
        except exc.IntegrityError:
            raise  # part of the compare and set: the caller knows what it means
        except (exc.OperationalError, exc.TimeoutError) as error:
            reason = error.orig if isinstance(error, exc.DBAPIError) else "no free connection"
            raise RetryableError(f"ledger is busy or out of reach ({reason}): tried again later") from error
        except exc.DatabaseError as error:
            raise ConfigurationError(unusable(self._engine.url, str(error.orig))) from error
