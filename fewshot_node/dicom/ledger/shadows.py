"""The ledger's half that knows what runs in shadow.

A worker has the shadows of a series as it has the series: by a claim that it renews. One that nobody renews any more
was lost with its worker; it ends as failed, and the series, which ended before, is not computed again for it.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, and_, delete, insert, or_, select, update

from fewshot_node.dicom.ledger.corrections import LedgerCorrections
from fewshot_node.dicom.ledger.queries import of_key, outcome_values
from fewshot_node.dicom.ledger.records import LostShadow, ShadowOutcome, ShadowState
from fewshot_node.dicom.ledger.schema import SHADOWS
from fewshot_node.records import SeriesKey

_LOST = (
    "its worker died or was stopped before it ended: look at the worker's log and at the machine's memory; "
    "series retry --recompute runs it again"
)


class LedgerShadows(LedgerCorrections):
    """Outcomes of shadow revisions; `Ledger` adds the work on series."""

    def note_shadow(self, key: SeriesKey, worker: str, outcome: ShadowOutcome) -> bool:
        """Note what a shadow came to; False, and nothing noted, when the worker has lost its claim."""
        of_task = and_(_is_run_by(key, worker), SHADOWS.c.task_name == outcome.task_name)
        ended = {**outcome_values(key, outcome), "claimed_by": None, "lease_until": None}
        with self._write() as connection:
            return connection.execute(update(SHADOWS).where(of_task).values(**ended)).rowcount == 1

    def renew_shadows(self, key: SeriesKey, worker: str, lease_s: float) -> bool:
        """Prolong a worker's claim to the shadows of a series; False when none is left to it."""
        until = self._clock() + timedelta(seconds=lease_s)
        with self._write() as connection:
            renewed = update(SHADOWS).where(_is_run_by(key, worker)).values(lease_until=until)
            return connection.execute(renewed).rowcount > 0

    def fail_lost_shadows(self, now: datetime) -> list[LostShadow]:
        """End the shadows that dead workers left running; those of an earlier version, without a claim, as well."""
        lost = and_(
            SHADOWS.c.state == ShadowState.RUNNING,
            or_(SHADOWS.c.lease_until.is_(None), SHADOWS.c.lease_until < now),
        )
        with self._read() as connection:
            if connection.execute(select(SHADOWS.c.task_name).where(lost).limit(1)).first() is None:
                return []
        ended = {"state": ShadowState.FAILED, "reason": _LOST, "claimed_by": None, "lease_until": None}
        with self._write() as connection:
            rows = connection.execute(select(SHADOWS).where(lost)).all()
            connection.execute(update(SHADOWS).where(lost).values(**ended))
        return [
            LostShadow(SeriesKey(row.series_instance_uid, row.revision), row.task_name, row.claimed_by) for row in rows
        ]


def begin_shadows(
    connection: Connection, key: SeriesKey, worker: str, outcomes: Sequence[ShadowOutcome], lease_until: datetime
) -> None:
    """Put what a worker runs in shadow now in the place of what was noted for a revision before."""
    connection.execute(delete(SHADOWS).where(of_key(key, SHADOWS)))
    claim = {"claimed_by": worker, "lease_until": lease_until}
    if outcomes:
        connection.execute(insert(SHADOWS), [{**outcome_values(key, outcome), **claim} for outcome in outcomes])


def _is_run_by(key: SeriesKey, worker: str) -> ColumnElement[bool]:
    return and_(of_key(key, SHADOWS), SHADOWS.c.state == ShadowState.RUNNING, SHADOWS.c.claimed_by == worker)
