"""What the ledger says about a series."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from fewshot_node.records import SeriesKey


class SeriesState(StrEnum):
    """Where a revision of a series stands.

    ``receiving -> complete -> dispatched -> delivered | no task | failed``; an operator's retry and a
    dead worker lead back to `complete`.
    """

    RECEIVING = "receiving"
    COMPLETE = "complete"
    DISPATCHED = "dispatched"
    DELIVERED = "delivered"
    NO_TASK = "no task"
    FAILED = "failed"


FINAL_STATES = frozenset({SeriesState.DELIVERED, SeriesState.NO_TASK, SeriesState.FAILED})
"""The states that work on a series ends in."""


@dataclass(frozen=True, slots=True)
class TaskOutcome:
    """What one task came to for one revision of a series; `state` is delivered or failed.

    `seconds` are the wall-clock seconds of each stage.
    """

    task_name: str
    task_revision: int
    state: SeriesState
    reason: str = ""
    segmentation_instance_uid: str | None = None
    report_instance_uid: str | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SeriesWarning:
    """Something odd about a series that did not stop it."""

    text: str
    time: datetime


@dataclass(frozen=True, slots=True)
class SeriesEntry:
    """One revision of a series as the ledger has it; times are UTC.

    Attributes
    ----------
    instances, bytes
        Count and file size of everything spooled of the series: with earlier revisions, without what was
        removed.
    attempt
        1 at first; each return to `complete` adds one. With the key it names one submission.
    expected
        How many instances the series has, where somebody said so.
    removed_at
        When retention took the instances out of the spool.
    claimed_by, lease_until
        The worker that computes it now, and until when it is taken to be alive.
    """

    key: SeriesKey
    study_instance_uid: str
    calling_ae_title: str
    instances: int
    bytes: int
    first_received: datetime
    last_received: datetime
    state: SeriesState
    reason: str
    attempt: int
    submission_id: str | None
    claimed_by: str | None
    lease_until: datetime | None
    updated: datetime
    expected: int | None = None
    removed_at: datetime | None = None
    outcomes: tuple[TaskOutcome, ...] = ()
    warnings: tuple[SeriesWarning, ...] = ()


@dataclass(frozen=True, slots=True)
class SeriesNote:
    """Instances of one series that were stored and are to be counted; times are UTC.

    `stated` is the most instances that any of them says the series has.
    """

    series_instance_uid: str
    study_instance_uid: str
    calling_ae_title: str
    instances: int
    bytes: int
    first_received: datetime
    last_received: datetime
    stated: int | None = None

    @classmethod
    def of_one(
        cls,
        series_uid: str,
        study_uid: str,
        calling_ae_title: str,
        size: int,
        when: datetime,
        stated: int | None = None,
    ) -> "SeriesNote":
        """Return the note of one instance."""
        return cls(series_uid, study_uid, calling_ae_title, 1, size, when, when, stated)

    def plus(self, later: "SeriesNote") -> "SeriesNote":
        """Return both notes as one."""
        return replace(
            self,
            instances=self.instances + later.instances,
            bytes=self.bytes + later.bytes,
            last_received=max(self.last_received, later.last_received),
            stated=max((one for one in (self.stated, later.stated) if one is not None), default=None),
        )


@dataclass(frozen=True, slots=True)
class ExpiredClaim:
    """A claim whose worker died: `state` is complete (to be tried again) or failed."""

    key: SeriesKey
    worker: str
    deaths: int
    state: SeriesState
