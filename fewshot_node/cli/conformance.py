"""``conformance``: the DICOM conformance statement."""

from pathlib import Path
from typing import Annotated

import typer

from fewshot_node.disk import whole_file
from fewshot_node.errors import ConfigurationError

BEGIN, END = (
    "<!-- conformance statement: begin, written by `make conformance` -->",
    "<!-- conformance statement: end -->",
)


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(conformance)


def conformance(
    into: Annotated[
        Path | None,
        typer.Option(help="Markdown file whose part between the markers is replaced.", show_default=False),
    ] = None,
) -> None:
    """Print the DICOM conformance statement (PS3.2), in Markdown."""
    from fewshot_node.dicom.statement import conformance_statement

    statement = conformance_statement()
    if into is None:
        typer.echo(statement)
    else:
        changed = _replace(into, statement)
        with whole_file(into) as temporary:
            temporary.write_text(changed, encoding="utf-8")


def _replace(path: Path, statement: str) -> str:
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ConfigurationError(f"{path} lacks the markers of the conformance statement: add {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n{statement}\n{END}{after}"
