"""``template``: add, list and remove annotated examples of a task."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from fewshot_node.cli.printing import print_table
from fewshot_node.cli.state import cli_state

app = typer.Typer(no_args_is_help=True)

TaskName = Annotated[str, typer.Argument(metavar="TASK", help="Name of the task.")]


@app.callback()
def group() -> None:
    """Add, list and remove annotated examples of a task."""


@app.command()
def add(
    context: typer.Context,
    task: TaskName,
    series: Annotated[Path, typer.Option(help="Folder with the images of one series.")],
    labels: Annotated[Path, typer.Option(help="DICOM SEG, NIfTI labels, or JSON points.")],
    slices: Annotated[
        str, typer.Option(help="Exactly these slices of the sorted volume, from 0: 10,40,77. Chosen if absent.")
    ] = "",
    map_: Annotated[
        list[str] | None,
        typer.Option("--map", help='Label value in the file = label value of the task, "2=1"; 2=0 drops it; repeat.'),
    ] = None,
    ignore_others: Annotated[
        bool, typer.Option("--ignore-others", help="Drop label values that the task does not have.")
    ] = False,
    name: Annotated[str, typer.Option(help="Name of the template; derived from its content if absent.")] = "",
) -> None:
    """Add one annotated series as a template."""
    from fewshot_node.cli.folder import series_from_folder
    from fewshot_node.tasks.registry import Registry
    from fewshot_node.tasks.selection import TemplateSelection
    from fewshot_node.tasks.templates import read_template

    registry = Registry(cli_state(context).settings.tasks)
    selection = TemplateSelection(
        name=name, indices=_parse_indices(slices), value_map=_parse_map(map_ or []), ignore_others=ignore_others
    )
    template = read_template(series_from_folder(series).files, labels, registry.definition(task), selection)
    registry.add_template(task, template)
    typer.echo(
        f"task {task}: template {template.name} with {len(template.array)} slices; next: fewshot-node task fit {task}"
    )


@app.command(name="list")
def list_templates(context: typer.Context, task: TaskName) -> None:
    """List the templates of a task's draft."""
    from fewshot_node.tasks.registry import Registry

    registry = Registry(cli_state(context).settings.tasks)
    names = {label.value: label.name for label in registry.definition(task).labels}
    table = Table("template", "modality", "slices", "labels", Column("series", overflow="fold"))
    for template in registry.templates(task):
        labels = ", ".join(names.get(value, str(value)) for value in template.label_values)
        table.add_row(template.name, template.modality, str(len(template.array)), labels, template.series_instance_uid)
    remedy = f"fewshot-node template add {task} --series DIR --labels FILE"
    print_table(table, otherwise=f"task {task} has no template; add one with: {remedy}")


@app.command()
def remove(
    context: typer.Context,
    task: TaskName,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the template, as `template list` shows it.")],
) -> None:
    """Remove a template from a task's draft; published revisions keep theirs."""
    from fewshot_node.tasks.registry import Registry

    Registry(cli_state(context).settings.tasks).remove_template(task, name)
    typer.echo(f"task {task}: template {name} is removed; fit and publish it again (task fit, task publish)")


def _parse_indices(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no list of slice numbers such as 10,40,77") from error


def _parse_map(pairs: list[str]) -> dict[int, int]:
    try:
        return {int(source): int(target) for source, target in (pair.split("=") for pair in pairs)}
    except ValueError as error:
        raise typer.BadParameter(f"{' '.join(pairs)!r} is no list of pairs such as 2=1") from error
