"""What the ledger says about a series."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from fewshot_node.records import MadeReport, SeriesKey, TrackedLabel


class SeriesState(StrEnum):
    """Where a revision of a series stands.

    ``receiving -> complete -> dispatched -> delivering -> delivered | no task | failed``; an operator's
    retry and a dead worker lead back to `complete`. In *delivering* the results are made and lie in the
    outbox, and not all destinations have confirmed them.
    """

    RECEIVING = "receiving"
    COMPLETE = "complete"
    DISPATCHED = "dispatched"
    DELIVERING = "delivering"
    DELIVERED = "delivered"
    NO_TASK = "no task"
    FAILED = "failed"


FINAL_STATES = frozenset({SeriesState.DELIVERED, SeriesState.NO_TASK, SeriesState.FAILED})
"""The states that work on a series ends in."""


@dataclass(frozen=True, slots=True)
class TaskOutcome:
    """What one task came to for one revision of a series; `state` is delivering, delivered or failed.

    `seconds` are the wall-clock seconds of each stage; `tracked` is what its objects say, by tracking UID, and
    `report` its report: these two are not read back with the series.
    """

    task_name: str
    task_revision: int
    state: SeriesState
    reason: str = ""
    segmentation_instance_uid: str | None = None
    report_instance_uid: str | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    tracked: tuple[TrackedLabel, ...] = ()
    report: MadeReport | None = None


class ShadowState(StrEnum):
    """Where a task revision that runs beside the live one, and sends nothing, stands with a series.

    ``running -> kept | failed``; one whose worker died before it ended is failed.
    """

    RUNNING = "running"
    KEPT = "kept"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ShadowOutcome:
    """What one shadow revision of a task came to for one revision of a series; nothing of it leaves."""

    task_name: str
    task_revision: int
    state: ShadowState
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
    shadows: tuple[ShadowOutcome, ...] = ()
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


@dataclass(frozen=True, slots=True)
class LostShadow:
    """A shadow whose worker died before it ended; `worker` is None where an earlier version noted it."""

    key: SeriesKey
    task_name: str
    worker: str | None


@dataclass(frozen=True, slots=True)
class TrackedResult:
    """A label of a result that this node made, and what it was made of."""

    label: TrackedLabel
    key: SeriesKey
    task_name: str
    task_revision: int


@dataclass(frozen=True, slots=True)
class CorrectionLink:
    """An object that came back and says something else than the result whose tracking UIDs it has.

    Attributes
    ----------
    instance_uid, series_instance_uid
        The correcting object.
    source
        The series that the result was made of.
    result_instance_uid
        The object that is corrected.
    labels
        Values of the labels that differ.
    """

    instance_uid: str
    series_instance_uid: str
    source: SeriesKey
    task_name: str
    task_revision: int
    result_instance_uid: str
    labels: tuple[int, ...]
