"""``delivery``: where results go, how that stands, and sending dead letters once more."""

from typing import Annotated

import typer
from rich.table import Column, Table

from fewshot_node.cli.printing import print_table
from fewshot_node.cli.state import cli_state
from fewshot_node.dicom.ledger import Delivery, DeliveryState
from fewshot_node.errors import PermanentError
from fewshot_node.node import open_node

app = typer.Typer(no_args_is_help=True)

Destination = Annotated[
    str | None, typer.Option(help="Only to this destination, as `delivery list` names it.", show_default=False)
]


@app.command(name="list")
def list_deliveries(
    context: typer.Context,
    state: Annotated[DeliveryState | None, typer.Option(help="Only deliveries in this state.")] = None,
    destination: Destination = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 50,
) -> None:
    """List deliveries with their state, tries, and when the next one is."""
    found = open_node(cli_state(context).settings).ledger.deliveries(state, destination, limit=limit)
    table = Table(
        Column("series", overflow="fold"),
        "rev",
        "task",
        "destination",
        "state",
        "tries",
        Column("next try (UTC) or confirmation", overflow="fold"),
        Column("reason", overflow="fold"),
    )
    for one in found:
        table.add_row(
            one.key.series_instance_uid,
            str(one.key.revision),
            one.task_name,
            one.destination,
            one.state.value,
            str(one.tries),
            next_step(one),
            one.reason,
        )
    print_table(table, otherwise="no deliveries")


@app.command()
def summary(context: typer.Context) -> None:
    """Count the deliveries to each destination in each state."""
    table = Table("destination", "state", Column("deliveries", justify="right"))
    counts = open_node(cli_state(context).settings).ledger.delivery_counts()
    for (destination, state), count in sorted(counts.items()):
        table.add_row(destination, state.value, str(count))
    print_table(table, otherwise="no deliveries")


@app.command()
def retry(
    context: typer.Context,
    series_instance_uid: Annotated[
        str | None, typer.Argument(metavar="SERIES_UID", help="Only of this series.", show_default=False)
    ] = None,
    destination: Destination = None,
) -> None:
    """Send dead letters once more: the same bytes, to those destinations that have not confirmed them."""
    ledger = open_node(cli_state(context).settings).ledger
    dead = {one.key.series_instance_uid for one in ledger.deliveries(DeliveryState.DEAD, destination)}
    series = sorted(dead if series_instance_uid is None else dead & {series_instance_uid})
    revived = [key for uid in series if (key := ledger.redeliver(uid, destination)) is not None]
    if not revived:
        raise PermanentError("no delivery of that kind is a dead letter: see `fewshot-node delivery list`")
    for key in revived:
        typer.echo(f"results of {key} are sent again")


def next_step(delivery: Delivery) -> str:
    """Say when a delivery is tried next, or by what it is known to have arrived."""
    if delivery.state is DeliveryState.CONFIRMED:
        return str(delivery.confirmed_by)
    return "" if delivery.state is DeliveryState.DEAD else f"{delivery.next_try:%Y-%m-%d %H:%M:%S}"
