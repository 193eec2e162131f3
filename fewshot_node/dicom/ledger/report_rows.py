"""The ledger's memory of the reports that were made of each series."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, insert, select, update
from sqlalchemy.engine import Row

from fewshot_node.dicom.ledger.records import TaskOutcome
from fewshot_node.dicom.ledger.schema import REPORTS
from fewshot_node.records import MadeReport, ReportReference, SeriesKey


def keep_reports(connection: Connection, key: SeriesKey, outcomes: Sequence[TaskOutcome], now: datetime) -> None:
    """Keep the reports of a revision; one that was made before is only the newest again."""
    for report in (outcome.report for outcome in outcomes if outcome.report is not None):
        if connection.execute(update(REPORTS).where(_is_same(key, report)).values(made=now)).rowcount == 0:
            connection.execute(insert(REPORTS).values(**_values(key, report), made=now))


def mark_delivered(connection: Connection, series_uid: str, task_name: str, instances: Collection[str]) -> None:
    """Note that a destination has the report among these instances."""
    concerned = and_(REPORTS.c.series_instance_uid == series_uid, REPORTS.c.task_name == task_name)
    delivered = and_(concerned, REPORTS.c.report_instance_uid.in_(sorted(instances)))
    connection.execute(update(REPORTS).where(delivered).values(delivered=True))


def made_reports(connection: Connection, key: SeriesKey) -> tuple[MadeReport, ...]:
    """Return the reports that were made of a series up to a revision, the newest first."""
    up_to = and_(REPORTS.c.series_instance_uid == key.series_instance_uid, REPORTS.c.revision <= key.revision)
    newest_first = (REPORTS.c.made.desc(), REPORTS.c.revision.desc(), REPORTS.c.report_instance_uid)
    rows = connection.execute(select(REPORTS).where(up_to).order_by(*newest_first)).all()
    references = {row.report_instance_uid: _reference(row) for row in rows}
    return tuple(
        MadeReport(
            task_name=row.task_name,
            reference=references[row.report_instance_uid],
            content_uid=row.content_uid,
            predecessor=references.get(row.predecessor_uid),
            delivered=row.delivered,
        )
        for row in rows
    )


def _is_same(key: SeriesKey, report: MadeReport) -> ColumnElement[bool]:
    of_task = and_(REPORTS.c.series_instance_uid == key.series_instance_uid, REPORTS.c.task_name == report.task_name)
    return and_(of_task, REPORTS.c.content_uid == report.content_uid)


def _values(key: SeriesKey, report: MadeReport) -> dict[str, Any]:
    return {
        "series_instance_uid": key.series_instance_uid,
        "task_name": report.task_name,
        "content_uid": report.content_uid,
        "revision": key.revision,
        "study_instance_uid": report.reference.study_instance_uid,
        "report_series_uid": report.reference.series_instance_uid,
        "report_instance_uid": report.reference.sop_instance_uid,
        "predecessor_uid": None if report.predecessor is None else report.predecessor.sop_instance_uid,
        "delivered": False,
    }


def _reference(row: Row[Any]) -> ReportReference:
    return ReportReference(row.study_instance_uid, row.report_series_uid, row.report_instance_uid)
