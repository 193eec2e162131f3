"""``series``: what came in and how it ended."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from fewshot_node.cli.deliveries import next_step
from fewshot_node.cli.printing import plain_console, print_table
from fewshot_node.cli.state import cli_state
from fewshot_node.dicom.deliver.parcels import result_folder
from fewshot_node.dicom.ledger import (
    CorrectionLink,
    Delivery,
    DeliveryState,
    Ledger,
    SeriesEntry,
    SeriesState,
    ShadowOutcome,
    ShadowState,
)
from fewshot_node.dicom.ledger.records import FINAL_STATES
from fewshot_node.dicom.objects.rejected import rejected_folder
from fewshot_node.errors import PermanentError
from fewshot_node.node import open_node
from fewshot_node.records import MadeReport

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
            _count(entry),
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
    _print_entry(entry, ledger.deliveries(key=entry.key), settings.outbox, ledger.reports(entry.key))
    _print_shadows(entry, settings.shadow)
    _print_corrections(ledger.corrections(series_instance_uid), series_instance_uid)


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


def _count(entry: SeriesEntry) -> str:
    return str(entry.instances) if entry.expected is None else f"{entry.instances}/{entry.expected}"


def _refusal(series_instance_uid: str, why: str) -> PermanentError:
    return PermanentError(f"series {series_instance_uid} {why}: see `fewshot-node series list`")


def _print_entry(
    entry: SeriesEntry, deliveries: Sequence[Delivery], outbox: Path, reports: Sequence[MadeReport]
) -> None:
    replaced = {
        one.reference.sop_instance_uid: one.predecessor.sop_instance_uid
        for one in reports
        if one.predecessor is not None
    }
    console = plain_console()
    console.print(f"series    {entry.key.series_instance_uid} revision {entry.key.revision}")
    console.print(f"study     {entry.study_instance_uid}")
    console.print(f"from      {entry.calling_ae_title}, {_count(entry)} instances")
    if entry.removed_at is not None:
        console.print(f"removed   {entry.removed_at:%Y-%m-%d %H:%M:%S}: its instances are no longer in the spool")
    console.print(f"state     {entry.state.value}{f': {entry.reason}' if entry.reason else ''}")
    for outcome in entry.outcomes:
        console.print(f"task      {outcome.task_name} revision {outcome.task_revision}: {outcome.state.value}")
        console.print(f"          SEG {outcome.segmentation_instance_uid or 'none'}")
        console.print(f"          SR  {outcome.report_instance_uid or 'none'}")
        if outcome.report_instance_uid in replaced:
            console.print(f"          it replaces SR {replaced[outcome.report_instance_uid]}")
        stages = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in outcome.seconds.items())
        console.print(f"          {stages}")
        kept = rejected_folder(result_folder(outbox, entry.key, outcome.task_name))
        if kept.is_dir():
            console.print(f"          not let out by the checks, kept for a look: {kept}")
        for one in (one for one in deliveries if one.task_name == outcome.task_name):
            details = ", ".join(filter(None, (next_step(one), one.reason)))
            console.print(f"          to {one.destination}: {one.state.value}, {one.tries} tries, {details}")
    for warning in entry.warnings:
        console.print(f"warning   {warning.time:%Y-%m-%d %H:%M:%S} {warning.text}")


def _print_shadows(entry: SeriesEntry, kept: Path) -> None:
    console = plain_console()
    for shadow in entry.shadows:
        console.print(f"shadow    {shadow.task_name} revision {shadow.task_revision}: {_shadow_text(shadow)}")
        console.print(f"          SEG {shadow.segmentation_instance_uid or 'none'}")
        console.print(f"          SR  {shadow.report_instance_uid or 'none'}")
        if shadow.state is ShadowState.KEPT:
            console.print(f"          not sent; kept in {result_folder(kept, entry.key, shadow.task_name)}")


def _shadow_text(shadow: ShadowOutcome) -> str:
    return f"{shadow.state.value}{f': {shadow.reason}' if shadow.reason else ''}"


def _print_corrections(links: Sequence[CorrectionLink], series_instance_uid: str) -> None:
    console = plain_console()
    for one in links:
        what = f"task {one.task_name} revision {one.task_revision}, labels {', '.join(map(str, one.labels))}"
        if one.series_instance_uid == series_instance_uid:
            console.print(f"corrects  {what} on series {one.source} ({one.result_instance_uid})")
        else:
            console.print(f"corrected {what} by series {one.series_instance_uid} ({one.instance_uid})")
