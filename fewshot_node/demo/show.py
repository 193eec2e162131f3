"""The demonstration from beginning to end, as a person sees it."""

import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from fewshot_node.demo.cases import Case, Lesson, phantom_lessons
from fewshot_node.demo.own_data import OwnData, own_lesson
from fewshot_node.demo.scores import SeriesScore, all_succeeded, score_series
from fewshot_node.demo.site import Site, running_site, wait_until_up
from fewshot_node.demo.tables import print_scores
from fewshot_node.demo.teach import as_commands, teach
from fewshot_node.dicom.ledger import Ledger
from fewshot_node.dicom.ledger.records import FINAL_STATES, SeriesEntry, SeriesState
from fewshot_node.dicom.send import store
from fewshot_node.errors import PermanentError
from fewshot_node.models import Models, load_models
from fewshot_node.tasks.registry import Registry

_PATIENCE_S = 600.0
_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the command line asks for; `own_data` replaces the phantoms."""

    folder: Path
    keep: bool = False
    own_data: OwnData | None = None


def run_demo(options: DemoOptions, console: Console, stop: threading.Event) -> bool:
    """Run the demonstration; True when every result is in the PACS and beats its bar."""
    options.folder.mkdir(parents=True)
    with running_site(options.folder) as site:
        console.print(f"PACS      {site.archive.description}")
        console.print(f"Prefect   {site.settings.prefect.api_url.removesuffix('/api')}")
        console.print(f"folder    {site.folder}")
        lessons = _prepare(options, console)
        models = load_models(site.settings.worker)
        for lesson in lessons:
            _teach_aloud(lesson, site, models, console)
        wait_until_up(site)
        entries = _push_and_wait(lessons, site, console)
        scores = _score(lessons, entries, site)
        print_scores(scores, console)
        succeeded = all_succeeded(scores)
        ui = site.settings.prefect.api_url.removesuffix("/api")
        console.print(f"Prefect UI  {ui}{'' if options.keep else ' (ends with the demo; ARGS=--keep leaves it)'}")
        if options.keep:
            console.print("everything is left running; Ctrl-C ends it")
            stop.wait()
    return succeeded


def _prepare(options: DemoOptions, console: Console) -> tuple[Lesson, ...]:
    with console.status("writing the series"):
        if options.own_data is not None:
            return (own_lesson(options.own_data),)
        return phantom_lessons(options.folder / "series", salt=uuid.uuid4().hex)


def _teach_aloud(lesson: Lesson, site: Site, models: Models, console: Console) -> None:
    console.print("the same by hand:", style="dim")
    for command in as_commands(lesson, site.config):
        console.print(f"  $ {command}", style="dim", markup=False, highlight=False, soft_wrap=True)
    with console.status(f"teaching {lesson.task}"):
        seconds = teach(lesson, Registry(site.settings.tasks), models)
    console.print(f"task {lesson.task} is live: learnt from {len(lesson.templates)} series in {seconds:.1f} s")
    if lesson.templates == lesson.pushed:
        console.print("slices of the series that is pushed have taught it, and they count in its score")


def _push_and_wait(lessons: Sequence[Lesson], site: Site, console: Console) -> dict[str, SeriesEntry]:
    cases = [case for lesson in lessons for case in lesson.pushed]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        sending = progress.add_task("instances pushed", total=sum(len(case.files) for case in cases))
        ended = progress.add_task("series ended", total=len(cases))
        for case in cases:
            store(case.files, site.archive.settings)
            store(case.files, site.scanner)
            progress.advance(sending, len(case.files))
        ledger = Ledger(site.settings.ledger_url)
        return _await_end(cases, ledger, _Announcer(progress, ended))


class _Announcer:
    """Says in the progress display where each series stands, once for each change."""

    def __init__(self, progress: Progress, ended: TaskID) -> None:
        self._progress = progress
        self._ended = ended
        self._told: dict[str, str] = {}

    def __call__(self, case: Case, entry: SeriesEntry | None) -> None:
        """Tell of a change; an ended series moves the bar."""
        if entry is None or self._told.get(case.series_instance_uid) == entry.state:
            return
        self._told[case.series_instance_uid] = entry.state
        self._progress.console.print(f"{case.name}: {entry.state}", highlight=False)
        if entry.state in FINAL_STATES:
            self._progress.advance(self._ended)


def _await_end(
    cases: Sequence[Case], ledger: Ledger, announce: Callable[[Case, SeriesEntry | None], None]
) -> dict[str, SeriesEntry]:
    deadline = time.monotonic() + _PATIENCE_S
    ended: dict[str, SeriesEntry] = {}
    while time.monotonic() < deadline:
        for case in cases:
            entry = ledger.get(case.series_instance_uid)
            announce(case, entry)
            if entry and entry.state in FINAL_STATES:
                ended[case.series_instance_uid] = entry
        if len(ended) == len(cases):
            return ended
        time.sleep(_POLL_S)
    raise PermanentError(f"not every series ended within {_PATIENCE_S:g} s: see node.log in the demo's folder")


def _score(lessons: Sequence[Lesson], entries: Mapping[str, SeriesEntry], site: Site) -> list[SeriesScore]:
    overlays = site.folder / "overlays"
    overlays.mkdir()
    scores = []
    for lesson in lessons:
        for case in lesson.pushed:
            entry = entries[case.series_instance_uid]
            if entry.state is not SeriesState.DELIVERED:
                raise PermanentError(f"series {entry.key} ended as {entry.state}: {entry.reason}")
            scores.append(score_series(case, lesson, entry, site.archive.settings, overlays))
    return scores
