"""``series``: what came in and how it ended."""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from fewshot_node.cli.state import cli_state
from fewshot_node.dicom.ledger import SeriesEntry, SeriesState
from fewshot_node.errors import PermanentError
from fewshot_node.node import open_node

app = typer.Typer(no_args_is_help=True)

SeriesUid = Annotated[str, typer.Argument(metavar="SERIES_UID", help="Series Instance UID.")]


@app.command(name="list")
def list_series(
    context: typer.Context,
    state: Annotated[SeriesState | None, typer.Option(help="Only series in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 50,
) -> None:
    """List series with their state and reason."""
    entries = open_node(cli_state(context).settings).ledger.series(state, limit)
    table = Table("series", "rev", "from", "instances", "state", "last received", "reason")
    for entry in entries:
        table.add_row(
            entry.key.series_instance_uid,
            str(entry.key.revision),
            entry.calling_ae_title,
            str(entry.instances),
            entry.state.value,
            f"{entry.last_received:%Y-%m-%d %H:%M:%S}",
            entry.reason or "",
        )
    Console().print(table if entries else "no series")


@app.command()
def show(context: typer.Context, series_instance_uid: SeriesUid) -> None:
    """Show one series: its state, its results by task, and its warnings."""
    entry = open_node(cli_state(context).settings).ledger.get(series_instance_uid)
    if entry is None:
        raise _unknown(series_instance_uid)
    _print_entry(entry)


@app.command()
def close(context: typer.Context, series_instance_uid: SeriesUid) -> None:
    """Declare a series complete now, without waiting for its quiet period."""
    key = open_node(cli_state(context).settings).ledger.close(series_instance_uid)
    if key is None:
        raise _unknown(series_instance_uid, "is not being received")
    typer.echo(f"{key} is complete")


@app.command()
def retry(context: typer.Context, series_instance_uid: SeriesUid) -> None:
    """Queue a series that has ended once more."""
    key = open_node(cli_state(context).settings).ledger.retry(series_instance_uid)
    if key is None:
        raise _unknown(series_instance_uid, "has not ended yet")
    typer.echo(f"{key} is queued again")


def _unknown(series_instance_uid: str, why: str = "is not in the ledger") -> PermanentError:
    return PermanentError(f"series {series_instance_uid} {why}: see `fewshot-node series list`")


def _print_entry(entry: SeriesEntry) -> None:
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"series    {entry.key.series_instance_uid} revision {entry.key.revision}")
    console.print(f"study     {entry.study_instance_uid}")
    console.print(f"from      {entry.calling_ae_title}, {entry.instances} instances")
    console.print(f"state     {entry.state.value}{f': {entry.reason}' if entry.reason else ''}")
    for outcome in entry.outcomes:
        console.print(f"task      {outcome.task_name} revision {outcome.task_revision}: {outcome.state.value}")
        console.print(f"          SEG {outcome.segmentation_instance_uid or 'none'}")
        console.print(f"          SR  {outcome.report_instance_uid or 'none'}")
        stages = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in outcome.seconds.items())
        console.print(f"          {stages}")
    for warning in entry.warnings:
        console.print(f"warning   {warning}")
