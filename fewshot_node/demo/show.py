"""The demonstration from beginning to end, as a person sees it."""

import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from fewshot_node.demo.cases import Case, Lesson, phantom_lessons
from fewshot_node.demo.own_data import OwnData, own_lesson
from fewshot_node.demo.scores import SeriesScore, all_succeeded, score_series
from fewshot_node.demo.site import Site, running_site, wait_until_up
from fewshot_node.demo.teach import as_commands, teach
from fewshot_node.dicom.ledger import Ledger
from fewshot_node.dicom.ledger_records import FINAL_STATES, SeriesEntry, SeriesState
from fewshot_node.dicom.send import store
from fewshot_node.errors import PermanentError
from fewshot_node.models import Models, load_models
from fewshot_node.records import TaskKind
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
        _print_scores(scores, console)
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
    for command in as_commands(lesson):
        console.print(f"  $ {command}", style="dim", markup=False, highlight=False, soft_wrap=True)
    with console.status(f"teaching {lesson.task}"):
        seconds = teach(lesson, Registry(site.settings.tasks), models)
    console.print(f"task {lesson.task} is live: learnt from {len(lesson.templates)} series in {seconds:.1f} s")


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
        return _await_end(cases, ledger, lambda count: progress.update(ended, completed=count))


def _await_end(cases: Sequence[Case], ledger: Ledger, on_progress: Callable[[int], None]) -> dict[str, SeriesEntry]:
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        found = {case.series_instance_uid: ledger.get(case.series_instance_uid) for case in cases}
        ended = {uid: entry for uid, entry in found.items() if entry and entry.state in FINAL_STATES}
        on_progress(len(ended))
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


def _print_scores(scores: Sequence[SeriesScore], console: Console) -> None:
    table = Table("series", "task", "structure", "volume or position", "IoU or distance", "bar")
    for score in scores:
        for structure in score.structures:
            row = (score.case.name, score.lesson.task, structure.name, structure.measured)
            table.add_row(*row, _format(structure.score, score.lesson.kind), "")
        verdict = "ok" if score.succeeded else "short"
        table.add_row("", "", "mean", "", _format(score.mean, score.lesson.kind), f"{_bar(score.lesson)} {verdict}")
        table.add_section()
    console.print(table)
    stages = list(dict.fromkeys(name for score in scores for name in score.seconds))
    seconds = Table("seconds per stage", *stages)
    for score in scores:
        seconds.add_row(score.case.name, *(f"{score.seconds.get(stage, 0.0):.1f}" for stage in stages))
    console.print(seconds)
    for score in scores:
        console.print(f"overlay  {score.overlay}", soft_wrap=True)


def _format(score: float | None, kind: TaskKind) -> str:
    if score is None:
        return "missed"
    return f"{score:.2f}" if kind is TaskKind.SEGMENTATION else f"{score:.1f} mm"


def _bar(lesson: Lesson) -> str:
    return f">= {lesson.bar:.2f}" if lesson.kind is TaskKind.SEGMENTATION else f"<= {lesson.bar:.1f} mm"
