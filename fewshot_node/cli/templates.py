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
