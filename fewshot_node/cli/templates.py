"""``template``: add annotated examples to a task."""

from pathlib import Path
from typing import Annotated

import typer

from fewshot_node.cli.state import cli_state

app = typer.Typer(no_args_is_help=True)


@app.callback()
def group() -> None:
    """Add annotated examples to a task."""


@app.command()
def add(
    context: typer.Context,
    task: Annotated[str, typer.Argument(metavar="TASK", help="Name of the task.")],
    series: Annotated[Path, typer.Option(help="Folder with the images of one series.")],
    labels: Annotated[Path, typer.Option(help="DICOM SEG, NIfTI labels, or JSON points.")],
    slices: Annotated[
        str, typer.Option(help="Exactly these slices of the sorted volume, from 0: 10,40,77. Chosen if absent.")
    ] = "",
    name: Annotated[str, typer.Option(help="Name of the template; derived from its content if absent.")] = "",
) -> None:
    """Add one annotated series as a template."""
    from fewshot_node.dicom.headers import series_files
    from fewshot_node.tasks.registry import Registry
    from fewshot_node.tasks.selection import TemplateSelection, parse_indices
    from fewshot_node.tasks.templates import read_template

    registry = Registry(cli_state(context).settings.tasks)
    selection = TemplateSelection(name=name, indices=parse_indices(slices))
    template = read_template(series_files(series), labels, registry.definition(task), selection)
    registry.add_template(task, template)
    typer.echo(
        f"task {task}: template {template.name} with {len(template.images)} slices; next: fewshot-node task fit {task}"
    )
