"""``route``: which task a series goes to, and why."""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from fewshot_node.cli.printing import plain_console
from fewshot_node.cli.state import cli_state

app = typer.Typer(no_args_is_help=True)


@app.callback()
def group() -> None:
    """See which task a series goes to, and why."""


@app.command()
def explain(
    context: typer.Context,
    series: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with the images of one series.")],
    calling_ae_title: Annotated[str, typer.Option(help="AE title that would have sent it.")] = "",
) -> None:
    """Print the verdict of every rule of every published task."""
    from fewshot_node.cli.folder import series_from_folder
    from fewshot_node.dicom.objects.headers import read_header
    from fewshot_node.tasks.attributes import SeriesFacts
    from fewshot_node.tasks.registry import Registry
    from fewshot_node.tasks.rule_groups import evaluate

    header = read_header(series_from_folder(series).files)
    tasks = Registry(cli_state(context).settings.tasks).candidates()
    console = plain_console()
    if not tasks:
        console.print("no task is published: register one with `fewshot-node task add`")
    for task in tasks:
        verdict = evaluate(task.rules or (), SeriesFacts(header, calling_ae_title))
        taken = ("takes it", "green") if verdict.matches else ("does not take it", "red")
        console.print(Text.assemble(f"{task.name} revision {task.revision} ", taken))
        for rule in verdict.rules:
            console.print(f"  {'yes' if rule.holds else 'no ':3}  {rule.rule}   seen: {rule.seen}")
        if not verdict.rules:
            console.print("  it has no rules, so it takes no series by itself")
