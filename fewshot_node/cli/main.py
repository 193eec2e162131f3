"""``fewshot-node``: every command, and how its errors are shown."""

import errno
import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text
from safetensors import SafetensorError
from typer.core import TyperGroup

from fewshot_node import __version__
from fewshot_node.cli import (
    conformance,
    crossval,
    deliveries,
    demo,
    doctor,
    evaluate,
    exchange,
    pacs,
    pretrain,
    proposals,
    pull,
    route,
    run,
    series,
    serve,
    tasks,
    templates,
)
from fewshot_node.cli.printing import plain_console
from fewshot_node.cli.state import CliState
from fewshot_node.cli.trouble import describe_os_error, underlying_os_error
from fewshot_node.config import load_settings
from fewshot_node.errors import (
    CheckpointError,
    ConfigurationError,
    FewshotNodeError,
    PermanentError,
    RefusedError,
)
from fewshot_node.supervise import EXIT_UNUSABLE

logger = logging.getLogger(__name__)


class _Program(TyperGroup):
    """Every command; what the file system refuses is one message, for which the settings are known here."""

    def invoke(self, ctx: Any) -> Any:
        """Run one command; `ctx` is a context of the click that Typer has, its own or the public one."""
        try:
            return super().invoke(ctx)
        except (OSError, SafetensorError) as error:
            refusal = underlying_os_error(error)
            if refusal is None or refusal.errno == errno.EPIPE:
                raise  # a fault of ours; or the reader of our output has gone and nobody is there to be told
            logger.debug("the file system refused", exc_info=True)
            home = ctx.obj.settings.home if isinstance(ctx.obj, CliState) else Path()
            raise PermanentError(describe_os_error(refusal, home)) from error


app = typer.Typer(
    cls=_Program,
    help="A DICOM node that a hospital teaches by example.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.add_typer(tasks.app, name="task", help="Register, change, fit and publish tasks.")
app.add_typer(templates.app, name="template", help="Add, list, show and remove annotated examples of a task.")
app.add_typer(series.app, name="series", help="See what came in and how it ended; start it again.")
app.add_typer(deliveries.app, name="delivery", help="See where results went; send dead letters once more.")
app.add_typer(route.app, name="route", help="See which task a series goes to, and why.")
app.add_typer(pacs.app, name="pacs", help="Talk to the configured PACS.")
app.add_typer(pretrain.app, name="pretrain", help="Make the embedded models again.")
exchange.register(tasks.app)
proposals.register(templates.app)
crossval.register(tasks.app)
serve.register(app)
run.register(app)
pull.register(app)
doctor.register(app)
conformance.register(app)
demo.register(app)
evaluate.register(app)


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
    # Third parties may put attribute values into their messages: identifiers must not reach our log. pynetdicom prints
    # a traceback for each name that a hostile request misspells; what matters of it, this program says itself.
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    for name in ("pydicom", "httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.ERROR)
    context.obj = CliState(settings=load_settings(config), config=config)


def main() -> None:
    """Run the command line; an expected error is one message and an exit status, no traceback."""
    try:
        app()
    except FewshotNodeError as error:
        plain_console(stderr=True).print(Text.assemble(("error:", "red"), f" {error}"))
        # A model folder is a setting too: a worker that cannot load it must not be started again for ever.
        unusable = isinstance(error, ConfigurationError | RefusedError | CheckpointError)
        sys.exit(EXIT_UNUSABLE if unusable else 1)
