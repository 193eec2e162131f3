"""How a pull goes on and what has come of it."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from fewshot_node.dicom.pull.plan import PlannedSeries


class PullOutcome(StrEnum):
    """How the pull of one series ended."""

    RETRIEVED = "retrieved"
    SKIPPED = "skipped"
    FAILED = "failed"


class PullView(Protocol):
    """Who is told how a pull goes on."""

    def starts(self, planned: int) -> None:
        """Tell how many series are planned."""

    def began(self, series: PlannedSeries) -> None:
        """Tell that a series comes next."""

    def waits(self, reason: str) -> None:
        """Tell why nothing is fetched at the moment; empty when that is over."""

    def arrived(self, instances: int) -> None:
        """Tell how many instances of the series are here."""

    def ended(self, series: PlannedSeries, outcome: PullOutcome, reason: str) -> None:
        """Tell how a series ended; `reason` says why it failed."""


@dataclass(slots=True)
class Tally:
    """What has come of a pull so far; `failures` are reasons by Series Instance UID."""

    planned: int
    retrieved: int = 0
    skipped: int = 0
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def left(self) -> int:
        """How many series were not come to."""
        return self.planned - self.retrieved - self.skipped - len(self.failures)
