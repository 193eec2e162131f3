"""Labels on the command line: a name without one code is asked about where there is somebody to ask."""

import sys
from collections.abc import Sequence

import typer

from fewshot_node.records import Code, Label, TaskKind

_OTHER = 0


def labels_from(texts: Sequence[str], kind: TaskKind) -> tuple[Label, ...]:
    """Read labels; on a terminal a name that stands for several concepts, or only resembles some, is asked about.

    Raises
    ------
    TaskError
        A label has another form; or its name has no one code, and nobody is there to choose.
    """
    return tuple(_label_from(text, kind) for text in texts)


def _label_from(text: str, kind: TaskKind) -> Label:
    from fewshot_node.errors import AmbiguousLabelError
    from fewshot_node.tasks.codes import parse_label

    try:
        return parse_label(text, kind)
    except AmbiguousLabelError as error:
        candidates = [code for code in error.candidates if isinstance(code, Code)]
        if not candidates or not sys.stdin.isatty():
            raise
        code = _ask(error.name, candidates)
        if code is None:
            raise
        return parse_label(f"{text}:{code.scheme}:{code.value}:{code.meaning}", kind)


def _ask(name: str, candidates: Sequence[Code]) -> Code | None:
    """Let the user choose a concept; None for none of them."""
    typer.echo(f"Which concept is {name!r}?")
    for number, code in enumerate(candidates, 1):
        typer.echo(f"  {number}  {code.meaning} ({code.scheme} {code.value})")
    typer.echo(f"  {_OTHER}  none of these")
    number = -1
    while not _OTHER <= number <= len(candidates):
        number = typer.prompt(f"Number from {_OTHER} to {len(candidates)}", type=int)
    return None if number == _OTHER else candidates[number - 1]
