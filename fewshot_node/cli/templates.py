"""``template``: add, list, show and remove annotated examples of a task."""

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Column, Table
from rich.text import Text

from fewshot_node.cli.arguments import TaskName
from fewshot_node.cli.printing import plain_console, print_table
from fewshot_node.cli.state import cli_state

if TYPE_CHECKING:
    from fewshot_node.config import NodeSettings
    from fewshot_node.tasks.origin import TemplateOrigin
    from fewshot_node.tasks.templates import Template
    from fewshot_node.vision.backbone import DenseEncoder

app = typer.Typer(no_args_is_help=True)

TemplateName = Annotated[str, typer.Argument(metavar="NAME", help="Name of the template, as `template list` shows it.")]

_MAP_HELP = (
    'What the file calls it = label value of the task: by value "2=1" or by name "Leber=1"; 2=0 drops it; repeat.'
)


class _Choice(StrEnum):
    """How slices are chosen."""

    SPREAD = "spread"
    DIVERSITY = "diversity"


@app.callback()
def group() -> None:
    """Add, list, show and remove annotated examples of a task."""


@app.command()
def add(
    context: typer.Context,
    task: TaskName,
    series: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder with the images of one series.", show_default=False)
    ] = None,
    series_uid: Annotated[
        str,
        typer.Option(metavar="UID", help="Series in the node's own spool, or which one of --series or --study."),
    ] = "",
    study: Annotated[str, typer.Option(metavar="UID", help="Study to fetch the images of from the PACS.")] = "",
    via: Annotated[
        str,
        typer.Option(help="How to fetch: get, move, or a DICOMweb destination of the settings; pull.by if absent."),
    ] = "",
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            show_default=False,
            help="DICOM SEG, RTSTRUCT, TID 1500 SR, NIfTI, NRRD, PNG (+ JSON), 3D Slicer markups, JSON or CSV points.",
        ),
    ] = None,
    negative: Annotated[
        bool, typer.Option("--negative", help="The series shows none of the labels: an example of absence.")
    ] = False,
    slices: Annotated[
        str, typer.Option(help="Exactly these slices of the sorted volume, from 0: 10,40-44. Chosen if absent.")
    ] = "",
    choose: Annotated[
        _Choice, typer.Option(help="How to choose: spread over the labelled content, or differing in encoder features.")
    ] = _Choice.SPREAD,
    count: Annotated[int, typer.Option(min=1, help="How many annotated slices to choose.")] = 5,
    map_: Annotated[list[str] | None, typer.Option("--map", help=_MAP_HELP)] = None,
    ignore_others: Annotated[
        bool, typer.Option("--ignore-others", help="Drop what the file marks and the task does not have.")
    ] = False,
    resample: Annotated[
        bool, typer.Option("--resample", help="Bring labels of another grid onto the series (nearest neighbour).")
    ] = False,
    deidentify: Annotated[
        bool, typer.Option("--deidentify", help="Store other UIDs, which only this site can trace (PS3.15).")
    ] = False,
    name: Annotated[str, typer.Option(help="Name of the template; derived from its content if absent.")] = "",
    by: Annotated[str, typer.Option(help="Who made the annotation; the account that runs this if absent.")] = "",
) -> None:
    """Add one annotated series as a template."""
    from fewshot_node.cli.images import WantedImages, images
    from fewshot_node.tasks.deidentify import deidentified, require_clean_pixels, site_key
    from fewshot_node.tasks.registry import Registry
    from fewshot_node.tasks.selection import TemplateSelection
    from fewshot_node.tasks.templates import read_template

    if negative is (labels is not None):
        raise typer.BadParameter("give --labels FILE, or --negative for a series that shows none of the labels")
    settings = cli_state(context).settings
    registry = Registry(settings.tasks)
    definition = registry.definition(task)
    values, names = _parse_map(map_ or [])
    selection = TemplateSelection(
        name=name,
        indices=_parse_indices(slices),
        annotated=count,
        value_map=values,
        name_map=names,
        ignore_others=ignore_others,
        resample=resample,
    )
    with images(WantedImages(series, study, series_uid, via), settings) as found:
        if deidentify:
            require_clean_pixels(found.files)
        encoder = _encoder(settings) if choose is _Choice.DIVERSITY else None
        template = read_template(found.files, labels, definition, selection, encoder)
    template = _signed(template, by, found.how)
    if deidentify:
        template = deidentified(template, site_key(settings.tasks))
    registry.add_template(task, template)
    _tell(task, template)


def _signed(template: "Template", by: str, how: str) -> "Template":
    origin = template.origin
    return template if origin is None else replace(template, origin=replace(origin, by=by or origin.by, images=how))


def _encoder(settings: "NodeSettings") -> "DenseEncoder | None":
    """Return the encoder that chooses slices; a template can be added without one."""
    from fewshot_node.errors import CheckpointError
    from fewshot_node.vision.backbone import load_encoder

    try:
        return load_encoder(settings.worker.encoder, offline=settings.worker.offline)
    except CheckpointError as error:
        plain_console(stderr=True).print(f"slices are chosen without an encoder: {error}")
        return None


def _tell(task: str, template: "Template") -> None:
    origin = template.origin
    without = len(template.array) - template.annotated_slices
    slices = ", ".join(map(str, template.slice_indices))
    typer.echo(
        f"task {task}: template {template.name} with {len(template.array)} slices ({without} without a label): {slices}"
    )
    if origin is not None:
        for note in (f"slices {origin.chosen}", *origin.notes):
            typer.echo(f"  {note}")
    typer.echo(f"next: fewshot-node task fit {task}")


@app.command(name="list")
def list_templates(context: typer.Context, task: TaskName) -> None:
    """List the templates of a task's draft."""
    from fewshot_node.tasks.registry import Registry

    registry = Registry(cli_state(context).settings.tasks)
    names = {label.value: label.name for label in registry.definition(task).labels}
    table = Table(
        "template", "modality", "orientation", "slices", "labels", Column("series", overflow="fold"), "added", "by"
    )
    origins = registry.origins(task)
    for template in registry.templates(task):
        labels = ", ".join(names.get(value, str(value)) for value in template.label_values) or "none (negative)"
        origin = origins.get(template.name)
        table.add_row(
            template.name,
            template.modality,
            template.orientation or "?",
            str(len(template.array)),
            labels,
            template.series_instance_uid,
            origin.at[:10] if origin else "",
            Text(origin.by if origin else ""),
        )
    remedy = f"fewshot-node template add {task} --series DIR --labels FILE"
    print_table(table, otherwise=f"task {task} has no template; add one with: {remedy}")


@app.command()
def show(context: typer.Context, task: TaskName, name: TemplateName) -> None:
    """Show a template: its slices, and who added it, when, from what and how."""
    from fewshot_node.tasks.registry import Registry

    registry = Registry(cli_state(context).settings.tasks)
    template = registry.template(task, name)
    names = {label.value: label.name for label in registry.definition(task).labels}
    console = plain_console()
    console.print(f"{template.name} of task {task}: {template.modality}, {template.orientation or 'no orientation'}")
    console.print(f"  {'series':12}{template.series_instance_uid}")
    for line in _history(registry.origins(task).get(name)):
        console.print(f"  {line}")
    for place, (index, uid) in enumerate(zip(template.slice_indices, template.instance_uids, strict=True)):
        shown = sorted({int(value) for value in template.label_map[place].flat} - {0})
        shown += [point.label_value for point in template.points if point.slice_index == place]
        listed = ", ".join(names.get(value, str(value)) for value in shown) or "no label"
        console.print(f"  {f'slice {index}':12}{uid}  {listed}")


def _history(origin: "TemplateOrigin | None") -> list[str]:
    if origin is None:
        return ["its history was not kept"]
    digest = f", SHA-256 {origin.file_digest}" if origin.file_digest else ""
    facts = {
        "study": origin.study_instance_uid,
        "added": " by ".join(part for part in (origin.at, origin.by) if part),
        "with": origin.tool,
        "images from": origin.images,
        "labels": f"{origin.format}{digest}" if origin.format else "",
        "chosen": origin.chosen,
    }
    return [f"{key:12}{value}" for key, value in facts.items() if value] + [f"{'note':12}{one}" for one in origin.notes]


@app.command()
def remove(context: typer.Context, task: TaskName, name: TemplateName) -> None:
    """Remove a template from a task's draft; published revisions keep theirs."""
    from fewshot_node.tasks.registry import Registry

    Registry(cli_state(context).settings.tasks).remove_template(task, name)
    typer.echo(f"task {task}: template {name} is removed; fit and publish it again (task fit, task publish)")


def _parse_indices(text: str) -> tuple[int, ...]:
    """Read ``10,40-44``."""
    indices: list[int] = []
    try:
        for part in (part for part in text.split(",") if part.strip()):
            first, hyphen, last = part.strip().partition("-") if not part.strip().startswith("-") else (part, "", "")
            indices += range(int(first), int(last if hyphen else first) + 1)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no list of slice numbers such as 10,40-44") from error
    return tuple(indices)


def _parse_map(pairs: list[str]) -> tuple[dict[int, int], dict[str, int]]:
    """Read ``2=1`` and ``Leber=1``: what is a number is a value, else a name."""
    values: dict[int, int] = {}
    names: dict[str, int] = {}
    for pair in pairs:
        source, equals, target = pair.rpartition("=")
        if not equals or not source.strip() or not target.strip().isdecimal():
            raise typer.BadParameter(f"{pair!r} is no pair such as 2=1 or Leber=1")
        if source.strip().isdecimal():
            values[int(source)] = int(target)
        else:
            names[source.strip()] = int(target)
    return values, names
