"""``fewshot-node``: every command, and how its errors are shown."""

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fewshot_node import __version__
from fewshot_node.cli import demo, doctor, pacs, pretrain, route, run, series, serve, tasks, templates
from fewshot_node.cli.state import CliState
from fewshot_node.config import load_settings
from fewshot_node.errors import ConfigurationError, FewshotNodeError, RefusedError
from fewshot_node.supervise import EXIT_UNUSABLE

app = typer.Typer(
    help="A DICOM node that a hospital teaches by example.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.add_typer(tasks.app, name="task", help="Register, fit and publish tasks.")
app.add_typer(templates.app, name="template", help="Add annotated examples to a task.")
app.add_typer(series.app, name="series", help="See what came in and how it ended.")
app.add_typer(route.app, name="route", help="See which task a series goes to, and why.")
app.add_typer(pacs.app, name="pacs", help="Talk to the configured PACS.")
app.add_typer(pretrain.app, name="pretrain", help="Make the embedded models again.")
serve.register(app)
run.register(app)
doctor.register(app)
demo.register(app)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fewshot-node {__version__}")
        raise typer.Exit


@app.callback()
def common(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option(envvar="FEWSHOT_NODE_CONFIG", help="Settings file (TOML).", show_default=False)
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log in more detail.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Read the settings that every command shares."""
    del version
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
    )
    # Third parties may put attribute values into their messages: identifiers must not reach our log.
    for name in ("pynetdicom", "pydicom", "httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.ERROR)
    context.obj = CliState(settings=load_settings(config), config=config)


def main() -> None:
    """Run the command line; an expected error is one message and an exit status, no traceback."""
    try:
        app()
    except FewshotNodeError as error:
        Console(stderr=True, highlight=False).print(f"[red]error:[/red] {error}", markup=True, soft_wrap=True)
        sys.exit(EXIT_UNUSABLE if isinstance(error, ConfigurationError | RefusedError) else 1)
