"""How a pull shows where it stands: a bar on a terminal, a line for each series elsewhere."""

import sys
from time import monotonic
from types import TracebackType
from typing import Protocol

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from fewshot_node.cli.printing import plain_console
from fewshot_node.dicom.pull.plan import PlannedSeries
from fewshot_node.dicom.pull.progress import PullOutcome, PullView


class ShownPull(PullView, Protocol):
    """A view that is opened and closed, and also shows the planning."""

    def planned(self, done: int, studies: int) -> None:
        """Tell about how many of the studies the PACS was asked."""

    def __enter__(self) -> "ShownPull": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def pull_view() -> ShownPull:
    """Return a view for what the standard output is."""
    return _Bar() if sys.stdout.isatty() else _Lines()


class _Bar:
    """A progress bar that counts series; failures are printed above it."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=24), MofNCompleteColumn())
        self._console = plain_console()
        self._progress = Progress(*columns, TimeElapsedColumn(), console=self._console)
        self._task = self._progress.add_task("asking the PACS", total=None)
        self._label = ""

    def __enter__(self) -> "_Bar":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def planned(self, done: int, studies: int) -> None:
        """Show about how many of the studies the PACS was asked."""
        self._progress.update(self._task, description="asking the PACS, studies", completed=done, total=studies)

    def starts(self, planned: int) -> None:
        """Begin to count series."""
        self._progress.update(self._task, description="series", completed=0, total=planned)

    def began(self, series: PlannedSeries) -> None:
        """Name the series that comes next."""
        self._label = f"{series.modality} ...{series.series_instance_uid[-12:]}"
        self._progress.update(self._task, description=self._label)

    def waits(self, reason: str) -> None:
        """Say why nothing comes; the series again when that is over."""
        self._progress.update(self._task, description=f"waits: {reason}" if reason else self._label)

    def arrived(self, instances: int) -> None:
        """Count the instances of the series."""
        self._progress.update(self._task, description=f"{self._label}, {instances} instances")

    def ended(self, series: PlannedSeries, outcome: PullOutcome, reason: str) -> None:
        """Move on, and keep what failed in sight."""
        self._progress.advance(self._task)
        if reason:
            self._console.print(f"{series.series_instance_uid} {outcome}: {reason}")


class _Lines:
    """A line for each series that ended, and for each wait that is not the usual pace."""

    def __init__(self) -> None:
        self._console = plain_console()
        self._total = self._done = self._instances = 0
        self._started = monotonic()

    def __enter__(self) -> "_Lines":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held open."""

    def planned(self, done: int, studies: int) -> None:
        """Say how many studies there are, once all were asked about."""
        if done == studies:
            self._console.print(f"{studies} studies at the PACS")

    def starts(self, planned: int) -> None:
        """Note how many series there will be."""
        self._total = planned

    def began(self, series: PlannedSeries) -> None:
        """Start the time of a series."""
        self._started, self._instances = monotonic(), 0

    def waits(self, reason: str) -> None:
        """Say why nothing comes, unless that is the pace."""
        if reason and not reason.startswith("pace"):
            self._console.print(f"waits: {reason}")

    def arrived(self, instances: int) -> None:
        """Note how many instances of the series are here."""
        self._instances = instances

    def ended(self, series: PlannedSeries, outcome: PullOutcome, reason: str) -> None:
        """Print the line of a series."""
        self._done += 1
        came = f": {reason}" if reason else ""
        if outcome == PullOutcome.RETRIEVED:
            came = f", {self._instances} instances, {monotonic() - self._started:.1f} s"
        series_uid = series.series_instance_uid
        self._console.print(f"{self._done}/{self._total} {series.modality} {series_uid} {outcome}{came}")
