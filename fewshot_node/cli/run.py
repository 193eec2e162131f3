"""``run``: one task on one folder, without a PACS and without Prefect."""

from pathlib import Path
from typing import Annotated

import typer

from fewshot_node.cli.state import cli_state


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(run)


def run(
    context: typer.Context,
    series: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with the images of one series.")],
    task: Annotated[str, typer.Option(help="Name of a published task.")],
    out: Annotated[Path, typer.Option(help="Folder for the SEG and the SR.")],
    revision: Annotated[int | None, typer.Option(help="Revision of the task; the live one if absent.")] = None,
) -> None:
    """Run one task on one folder of images and write SEG and SR; needs no PACS and no Prefect."""
    from fewshot_node.cli.folder import series_from_folder
    from fewshot_node.dicom.objects.volume import read_volume
    from fewshot_node.models import load_models
    from fewshot_node.pipeline import produce
    from fewshot_node.steps import Stopwatch
    from fewshot_node.tasks.registry import Registry

    settings = cli_state(context).settings
    published = Registry(settings.tasks).published(task, revision)
    received = series_from_folder(series)
    volume = read_volume(received.files)
    watch = Stopwatch()
    files = produce(received, volume, published, load_models(settings.worker), out, watch)
    for path in files.paths:
        typer.echo(path)
    typer.echo(", ".join(f"{name} {seconds:.1f} s" for name, seconds in watch.seconds.items()))
