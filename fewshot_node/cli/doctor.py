"""``doctor``: a self test of every part, up to a full loop through the configured PACS."""

from typing import Annotated

import typer
from rich.console import Console

from fewshot_node.cli.state import cli_state


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(doctor)


def doctor(
    context: typer.Context,
    loop: Annotated[
        bool, typer.Option("--loop/--no-loop", help="Also send a phantom's results to the PACS and fetch them.")
    ] = True,
) -> None:
    """Check settings, disk, models, Prefect and PACS; the full loop leaves a test patient in the PACS."""
    from fewshot_node.selftest import checks

    settings = cli_state(context).settings
    console = Console(highlight=False, soft_wrap=True)
    failed = 0
    for finding in checks(settings, loop=loop):
        mark = "[green]ok  [/green]" if finding.problem is None else "[red]FAIL[/red]"
        console.print(f"{mark} {finding.name}: ", end="")
        console.print(finding.problem or finding.detail, markup=False)
        failed += finding.problem is not None
    raise typer.Exit(1 if failed else 0)
