"""``pacs``: talk to the configured PACS."""

import typer

from fewshot_node.cli.state import cli_state
from fewshot_node.dicom import send

app = typer.Typer(no_args_is_help=True)


@app.callback()
def group() -> None:
    """Talk to the configured PACS."""


@app.command()
def echo(context: typer.Context) -> None:
    """Send a C-ECHO to the PACS."""
    pacs = cli_state(context).settings.pacs
    send.echo(pacs)
    typer.echo(f"{pacs.ae_title} at {pacs.host}:{pacs.port} answers {pacs.calling_ae_title}")
