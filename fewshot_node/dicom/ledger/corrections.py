"""The ledger's half that knows what results say, and which objects correct them."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, insert, or_, select
from sqlalchemy.engine import Row

from fewshot_node.dicom.ledger.deliveries import LedgerDeliveries
from fewshot_node.dicom.ledger.records import CorrectionLink, TaskOutcome, TrackedResult
from fewshot_node.dicom.ledger.schema import CORRECTIONS, TRACKED
from fewshot_node.records import SeriesKey, TrackedLabel

_AT_ONCE = 500
"""A foreign object may name any number of UIDs; a statement takes only so many."""


class LedgerCorrections(LedgerDeliveries):
    """Tracking UIDs of results and links to their corrections; `Ledger` adds the work on series.

    A tracking UID is kept for ever, also when its series is computed again: the object with it may come back
    from a PACS years later.
    """

    def tracked(self, tracking_uids: Collection[str]) -> tuple[TrackedResult, ...]:
        """Return the labels of this node's results that have one of these tracking UIDs."""
        wanted = sorted(set(tracking_uids))
        found: list[Row[Any]] = []
        with self._read() as connection:
            for start in range(0, len(wanted), _AT_ONCE):
                condition = TRACKED.c.tracking_uid.in_(wanted[start : start + _AT_ONCE])
                found += connection.execute(select(TRACKED).where(condition)).all()
        return tuple(_to_tracked(row) for row in sorted(found, key=lambda row: (row.label_value, row.instance_uid)))

    def tracked_in(self, instance_uid: str) -> tuple[TrackedResult, ...]:
        """Return all labels of the result that is this object, by value."""
        query = select(TRACKED).where(TRACKED.c.instance_uid == instance_uid).order_by(TRACKED.c.label_value)
        with self._read() as connection:
            return tuple(_to_tracked(row) for row in connection.execute(query))

    def note_correction(self, link: CorrectionLink) -> None:
        """Link a correcting object to what it corrects; the same object again changes nothing."""
        values = {
            "instance_uid": link.instance_uid,
            "series_instance_uid": link.series_instance_uid,
            "source_series_instance_uid": link.source.series_instance_uid,
            "source_revision": link.source.revision,
            "task_name": link.task_name,
            "task_revision": link.task_revision,
            "result_instance_uid": link.result_instance_uid,
            "labels": list(link.labels),
            "noted": self._clock(),
        }
        with self._write() as connection:
            known = select(CORRECTIONS.c.instance_uid).where(CORRECTIONS.c.instance_uid == link.instance_uid)
            if connection.execute(known).first() is None:
                connection.execute(insert(CORRECTIONS).values(**values))

    def corrections(self, series_uid: str) -> tuple[CorrectionLink, ...]:
        """Return the corrections that came in a series, and those of results on it, oldest first."""
        concerned = or_(
            CORRECTIONS.c.series_instance_uid == series_uid, CORRECTIONS.c.source_series_instance_uid == series_uid
        )
        query = select(CORRECTIONS).where(concerned).order_by(CORRECTIONS.c.noted, CORRECTIONS.c.instance_uid)
        with self._read() as connection:
            return tuple(_to_link(row) for row in connection.execute(query))


def keep_tracked(connection: Connection, key: SeriesKey, outcomes: Sequence[TaskOutcome]) -> None:
    """Keep what the results of a revision say; the same objects made again take their own place."""
    rows = [_tracked_values(key, outcome, label) for outcome in outcomes for label in outcome.tracked]
    for row in rows:
        connection.execute(delete(TRACKED).where(_same_label(row)))
    if rows:
        connection.execute(insert(TRACKED), rows)


def _same_label(row: dict[str, Any]) -> ColumnElement[bool]:
    return and_(TRACKED.c.tracking_uid == row["tracking_uid"], TRACKED.c.instance_uid == row["instance_uid"])


def _tracked_values(key: SeriesKey, outcome: TaskOutcome, label: TrackedLabel) -> dict[str, Any]:
    return {
        "tracking_uid": label.tracking_uid,
        "instance_uid": label.instance_uid,
        "series_instance_uid": key.series_instance_uid,
        "revision": key.revision,
        "task_name": outcome.task_name,
        "task_revision": outcome.task_revision,
        "label_value": label.label_value,
        "mask_digest": label.mask_digest,
        "point_mm": None if label.point_mm is None else list(label.point_mm),
    }


def _to_tracked(row: Row[Any]) -> TrackedResult:
    point_mm = None if row.point_mm is None else tuple(row.point_mm)
    label = TrackedLabel(row.tracking_uid, row.label_value, row.instance_uid, row.mask_digest, point_mm)
    return TrackedResult(label, SeriesKey(row.series_instance_uid, row.revision), row.task_name, row.task_revision)


def _to_link(row: Row[Any]) -> CorrectionLink:
    return CorrectionLink(
        instance_uid=row.instance_uid,
        series_instance_uid=row.series_instance_uid,
        source=SeriesKey(row.source_series_instance_uid, row.source_revision),
        task_name=row.task_name,
        task_revision=row.task_revision,
        result_instance_uid=row.result_instance_uid,
        labels=tuple(row.labels),
    )
