"""``demo``: a PACS, a node, two tasks taught by example, new studies pushed, results scored."""

import logging
import signal
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

_INTERRUPTED = 130
_PLAIN_WIDTH = 110


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(demo)


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running until Ctrl-C.")] = False,
    series: Annotated[
        Path | None, typer.Option(help="Folder with the images of one's own series, instead of the phantoms.")
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="Its annotation: DICOM SEG, NIfTI labels or JSON points.")] = None,
    label: Annotated[list[str] | None, typer.Option(help='Names, as "1=Liver"; repeat.')] = None,
    folder: Annotated[Path, typer.Option(help="Where the runs are kept.")] = Path(".demo"),
) -> None:
    """Show the whole chain on this machine, in under three minutes."""
    from fewshot_node.cli.folder import series_from_folder
    from fewshot_node.demo.own_data import OwnData
    from fewshot_node.demo.show import DemoOptions, run_demo

    if (series is None) != (labels is None):
        raise typer.BadParameter("--series and --labels go together")
    own_data = None
    if series is not None and labels is not None:
        own_data = OwnData(series_from_folder(series), labels.resolve(), tuple(label or ()))
    run = folder.resolve() / f"{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"
    stop = threading.Event()
    # A terminated demonstration must clean up as an interrupted one does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    logging.getLogger().setLevel(logging.WARNING)  # the node's own log stands in the demo's folder
    console = Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH)
    try:
        succeeded = run_demo(DemoOptions(run, keep, own_data), console, stop)
    except KeyboardInterrupt:
        console.print("interrupted; every process of the demonstration has ended")
        raise typer.Exit(_INTERRUPTED) from None
    raise typer.Exit(0 if succeeded else 1)
