"""``series``: what came in and how it ended."""

from typing import Annotated

import typer
from rich.table import Column, Table

from fewshot_node.cli.printing import print_table
from fewshot_node.cli.series_view import counted, print_corrections, print_entry, print_shadows
from fewshot_node.cli.state import cli_state
from fewshot_node.dicom.ledger import DeliveryState, Ledger, SeriesEntry, SeriesState
from fewshot_node.dicom.ledger.records import FINAL_STATES
from fewshot_node.errors import PermanentError
from fewshot_node.node import open_node

app = typer.Typer(no_args_is_help=True)

_UNKNOWN = "is not in the ledger"

SeriesUid = Annotated[str, typer.Argument(metavar="SERIES_UID", help="Series Instance UID.")]


@app.command(name="list")
def list_series(
    context: typer.Context,
    state: Annotated[SeriesState | None, typer.Option(help="Only series in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 50,
) -> None:
    """List series with their state and reason."""
    entries = open_node(cli_state(context).settings).ledger.series(state, limit)
    table = Table(
        Column("series", overflow="fold"),
        "rev",
        "from",
        "instances",
        "state",
        "last received",
        Column("reason", overflow="fold"),
    )
    for entry in entries:
        table.add_row(
            entry.key.series_instance_uid,
            str(entry.key.revision),
            entry.calling_ae_title,
            counted(entry),
            entry.state.value,
            f"{entry.last_received:%Y-%m-%d %H:%M:%S}",
            entry.reason or "",
        )
    print_table(table, otherwise="no series")


@app.command()
def summary(context: typer.Context) -> None:
    """Count the series in each state, and tell since when the oldest unfinished one has been here."""
    ledger = open_node(cli_state(context).settings).ledger
    table = Table("state", Column("series", justify="right"))
    for state, count in ledger.counts().items():
        table.add_row(state.value, str(count))
    print_table(table, otherwise="no series")
    oldest = ledger.oldest_open()
    typer.echo("nothing is unfinished" if oldest is None else f"oldest unfinished: since {oldest:%Y-%m-%d %H:%M:%S}")


@app.command()
def show(context: typer.Context, series_instance_uid: SeriesUid) -> None:
    """Show one series: its state, its results by task, and its warnings."""
    settings = cli_state(context).settings
    ledger = open_node(settings).ledger
    entry = ledger.get(series_instance_uid)
    if entry is None:
        raise _refusal(series_instance_uid, _UNKNOWN)
    print_entry(entry, ledger.deliveries(key=entry.key), settings.outbox, ledger.reports(entry.key))
    print_shadows(entry, settings.shadow)
    print_corrections(ledger.corrections(series_instance_uid), series_instance_uid)


@app.command()
def close(context: typer.Context, series_instance_uid: SeriesUid) -> None:
    """Declare a series complete now, without waiting for its quiet period."""
    ledger = open_node(cli_state(context).settings).ledger
    key = ledger.close(series_instance_uid)
    if key is None:
        known = ledger.get(series_instance_uid) is not None
        raise _refusal(series_instance_uid, "is not being received" if known else _UNKNOWN)
    typer.echo(f"{key} is complete")


@app.command()
def retry(
    context: typer.Context,
    series_instance_uid: Annotated[
        str | None, typer.Argument(metavar="SERIES_UID", help="Series Instance UID.", show_default=False)
    ] = None,
    state: Annotated[
        SeriesState | None, typer.Option(help='Instead: all that ended so: failed, "no task" or delivered.')
    ] = None,
    recompute: Annotated[bool, typer.Option(help="Compute it again even if only a delivery has failed.")] = False,
) -> None:
    """Start a series that has ended once more, or all that ended in one way.

    Where only deliveries have failed, the same objects are sent again; everything else is computed again.
    """
    ledger = open_node(cli_state(context).settings).ledger
    if series_instance_uid is not None and state is None:
        _retry_one(ledger, series_instance_uid, recompute=recompute)
    elif state is not None and series_instance_uid is None:
        _retry_all(ledger, state, recompute=recompute)
    else:
        raise typer.BadParameter("give either a SERIES_UID or --state")


def _retry_one(ledger: Ledger, series_instance_uid: str, *, recompute: bool) -> None:
    entry = ledger.get(series_instance_uid)
    if entry is not None and not recompute and _sent_again(ledger, entry):
        typer.echo(f"results of {entry.key} are sent again")
        return
    key = ledger.retry(series_instance_uid)
    if key is None:
        if entry is not None and entry.removed_at is not None:
            message = f"instances of series {series_instance_uid} were removed (retention): send or pull it again"
            raise PermanentError(message)
        raise _refusal(series_instance_uid, "has not ended yet" if entry is not None else _UNKNOWN)
    typer.echo(f"{key} is queued again")


def _sent_again(ledger: Ledger, entry: SeriesEntry) -> bool:
    """Send the dead letters of a series again; False when it failed, or one of its tasks, for another reason."""
    dead = {one.task_name for one in ledger.deliveries(DeliveryState.DEAD, key=entry.key)}
    failed = {one.task_name for one in entry.outcomes if one.state is SeriesState.FAILED}
    only_deliveries = entry.state is SeriesState.FAILED and bool(dead) and failed <= dead
    return only_deliveries and ledger.redeliver(entry.key.series_instance_uid) is not None


def _retry_all(ledger: Ledger, state: SeriesState, *, recompute: bool) -> None:
    if state not in FINAL_STATES:
        raise typer.BadParameter(f"series that are {state} have not ended: wait for them")
    entries = ledger.series(state)
    for entry in entries:
        if not recompute and _sent_again(ledger, entry):
            typer.echo(f"results of {entry.key} are sent again")
            continue
        queued = ledger.retry(entry.key.series_instance_uid) is not None
        typer.echo(f"{entry.key} {'is queued again' if queued else 'was queued meanwhile, or its instances are gone'}")
    if not entries:
        typer.echo(f"no series is {state}")


def _refusal(series_instance_uid: str, why: str) -> PermanentError:
    return PermanentError(f"series {series_instance_uid} {why}: see `fewshot-node series list`")
