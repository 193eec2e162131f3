"""The demonstration's results as tables."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

from fewshot_node.demo.cases import Lesson
from fewshot_node.demo.scores import SeriesScore
from fewshot_node.records import TaskKind

_MEANING = "ok: fetched from the PACS, every structure of the truth found, and the mean reaches the bar"


def print_scores(scores: Sequence[SeriesScore], console: Console) -> None:
    """Print every structure with its score, the seconds of each stage, and where the pictures lie."""
    console.print(_score_table(scores))
    console.print(_seconds_table(scores))
    for score in scores:
        console.print(f"overlay  {score.overlay}", soft_wrap=True, highlight=False)


def stages_in_order(runs: Iterable[Iterable[str]]) -> list[str]:
    """Merge the stages of several runs, each in its order: one that only some have stands after its predecessor."""
    merged: list[str] = []
    for run in runs:
        place = 0
        for stage in run:
            if stage not in merged:
                merged.insert(place, stage)
            place = merged.index(stage) + 1
    return merged


def _score_table(scores: Sequence[SeriesScore]) -> Table:
    table = Table(
        "series",
        "task",
        "structure",
        "volume or position",
        "IoU or distance",
        "bar",
        caption=_MEANING,
        caption_justify="left",
    )
    for score in scores:
        for structure in score.structures:
            row = (score.case.name, score.lesson.task, structure.name, structure.measured)
            table.add_row(*row, _format(structure.score, score.lesson.kind), "")
        verdict = "ok" if score.succeeded else "short"
        table.add_row("", "", "mean", "", _format(score.mean, score.lesson.kind), f"{_bar(score.lesson)} {verdict}")
        table.add_section()
    return table


def _seconds_table(scores: Sequence[SeriesScore]) -> Table:
    table = Table("seconds per stage", *(score.case.name for score in scores))
    for stage in stages_in_order(score.seconds for score in scores):
        taken = (score.seconds.get(stage) for score in scores)
        table.add_row(stage, *("" if seconds is None else f"{seconds:.1f}" for seconds in taken))
    return table


def _format(score: float | None, kind: TaskKind) -> str:
    if score is None:
        return "missed"
    return f"{score:.2f}" if kind is TaskKind.SEGMENTATION else f"{score:.1f} mm"


def _bar(lesson: Lesson) -> str:
    return f">= {lesson.bar:.2f}" if lesson.kind is TaskKind.SEGMENTATION else f"<= {lesson.bar:.1f} mm"
