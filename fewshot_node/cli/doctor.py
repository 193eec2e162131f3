"""``doctor``: a self test of every part, up to a full loop through the configured PACS."""

from typing import Annotated

import typer
from rich.text import Text

from fewshot_node.cli.printing import plain_console
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
    """Check every part of the node and the PACS; the full loop leaves two test patients in the PACS."""
    from fewshot_node.selftest import checks

    settings = cli_state(context).settings
    console = plain_console()
    failed = 0
    for finding in checks(settings, loop=loop):
        mark = ("ok  ", "green") if finding.problem is None else ("FAIL", "red")
        console.print(Text.assemble(mark, f" {finding.name}: {finding.problem or finding.detail}"))
        failed += finding.problem is not None
    raise typer.Exit(1 if failed else 0)
