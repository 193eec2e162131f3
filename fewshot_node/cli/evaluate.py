"""``fewshot-node evaluate``: the methods of the paper and ours on suites of annotated patients."""

import json
import logging
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from fewshot_node.evaluation.compare import Outcome

_METRICS = ("iou", "accuracy@10px", "dice", "nsd", "hd95", "tnr", "tpr", "mre", "seconds")
_TABLE_WIDTH = 160


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(evaluate)


def evaluate(
    suites: Annotated[list[Path], typer.Argument(help="Folders with a suite.toml, or of TotalSegmentator or HaN-Seg.")],
    methods: Annotated[str, typer.Option(help="Rows, separated by commas.")] = "default",
    encoder: Annotated[str, typer.Option(help="Folder or hub name; 'embedded' is the packaged one.")] = "embedded",
    refine: Annotated[str, typer.Option(help="none, walker, sam, by commas; each row's default without it.")] = "",
    sam: Annotated[
        str, typer.Option(help="Folder, .pth or hub name of SAM, for --refine sam and PerSAM.")
    ] = "embedded",
    universeg: Annotated[str, typer.Option(help="Published .pt file of UniverSeg, or a folder.")] = "embedded",
    prompts: Annotated[str, typer.Option(help="random, box, ours, by commas: how a refinement is asked.")] = "",
    shots: Annotated[str, typer.Option(help="Teaching patients, by commas.")] = "5",
    draws: Annotated[int, typer.Option(min=1, help="Random choices of the teaching patients.")] = 10,
    unit: Annotated[str, typer.Option(help="What a teaching patient gives: slice (one) or volume (all).")] = "slice",
    ceiling: Annotated[bool, typer.Option(help="Add rows with all slices of half the patients as templates.")] = False,
    html_file: Annotated[Path | None, typer.Option("--html", help="Write tables, curves and pictures here.")] = None,
    labels: Annotated[str, typer.Option(help="Structures that count, by commas; all without it.")] = "",
    paper_tables: Annotated[bool, typer.Option(help="Print the paper's tables: methods by structures.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write every row here.")] = None,
) -> None:
    """Compare methods: every one learns from the same templates and answers for the same other patients."""
    from fewshot_node.evaluation.compare import Protocol, compare, paired_tests, rows_as_data
    from fewshot_node.evaluation.folders import read_source
    from fewshot_node.evaluation.rows import Models, entries

    if unit not in ("slice", "volume"):
        raise typer.BadParameter(f"{unit!r}: give slice or volume", param_hint="--unit")
    protocol = Protocol(_numbers(shots), draws, "slice" if unit == "slice" else "volume", ceiling)
    rows = entries(_names(methods), _names(refine), Models(encoder, sam, universeg), _names(prompts))
    read = [read_source(folder, _names(labels)) for folder in suites]
    # A line a stage is for a node's log: here it would come some thousand times.
    logging.getLogger("fewshot_node").setLevel(logging.WARNING)
    # A narrower table would cut its figures off.
    console = Console(width=max(Console().width, _TABLE_WIDTH))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    outcomes: list[Outcome] = []
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        for suite in read:
            bar = progress.add_task(suite.name, total=len(rows) * protocol.fits)
            outcomes += compare(suite, rows, protocol, partial(progress.advance, bar))
    for suite in read:
        own = [outcome for outcome in outcomes if outcome.suite is suite]
        console.print(_table(suite.name, own))
        for line in paired_tests(own):
            console.print(line)
    if paper_tables:
        for table in _paper_tables(outcomes):
            console.print(table)
    if html_file is not None:
        from fewshot_node.evaluation.page import write_comparison

        write_comparison(html_file, outcomes)
    if json_file is not None:
        json_file.write_text(json.dumps(rows_as_data(outcomes), indent=1) + "\n")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(name) for name in _names(text))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r}: give whole numbers, as 1,2,5", param_hint="--shots") from error


def _table(name: str, outcomes: Sequence["Outcome"]) -> Table:
    """Rows of methods; the main score with its interval over patients and its spread over draws, else means."""
    metrics = [metric for metric in _METRICS if any(one.estimate(metric) for one in outcomes)]
    main = next(metric for metric in _METRICS if metric in metrics)
    costs = ("register s", "peak MiB")
    table = Table("method", "refine", "shots", main, "95 %", "spread", "worst draw", *metrics[1:], *costs, title=name)
    for outcome in outcomes:
        first = outcome.estimate(main)
        spread = ("-",) * 3
        if first:
            spread = (f"{first.low:.3f}-{first.high:.3f}", f"{first.draw_spread:.3f}", f"{first.worst_draw:.3f}")
        means = [f"{found.mean:.3f}" if found else "-" for found in map(outcome.estimate, metrics)]
        shots = f"{outcome.shots} {outcome.unit}"
        cost = (f"{outcome.cost.register_s:.2f}", f"{outcome.cost.peak_mib:.0f}")
        table.add_row(outcome.method, outcome.entry.refine, shots, means[0], *spread, *means[1:], *cost)
    return table


def _paper_tables(outcomes: Sequence["Outcome"]) -> Iterator[Table]:
    """Methods by structures, in percent: accuracy of landmarks (paper, Table 1), overlap of masks (Table 2)."""
    for number, metric, what in ((1, "accuracy@10px", "Accuracy of landmarks"), (2, "iou", "IoU of segmentations")):
        shown = [outcome for outcome in outcomes if outcome.estimate(metric)]
        structures = list(dict.fromkeys((one.suite.name, label.name) for one in shown for label in one.suite.labels))
        if not structures:
            continue
        heads = [f"{suite}: {name}" for suite, name in structures]
        table = Table("method", *heads, title=f"{what}, % (as Table {number} of the paper)")
        for row in dict.fromkeys(_row_name(outcome) for outcome in shown):
            own = {one.suite.name: one for one in shown if _row_name(one) == row}
            table.add_row(row, *(_percent(own.get(suite), metric, name) for suite, name in structures))
        yield table


def _row_name(outcome: "Outcome") -> str:
    return f"{outcome.method} ({outcome.entry.refine}), {outcome.shots}"


def _percent(outcome: "Outcome | None", metric: str, label: str) -> str:
    found = outcome.estimate(metric, label) if outcome else None
    return f"{100 * found.mean:.1f}" if found else "-"
