"""What the common options leave for the commands."""

from dataclasses import dataclass
from pathlib import Path

import typer

from fewshot_node.config import NodeSettings


@dataclass(frozen=True, slots=True)
class CliState:
    """The settings, and the file that they came from."""

    settings: NodeSettings
    config: Path | None


def cli_state(context: typer.Context) -> CliState:
    """Return the state of this invocation."""
    state = context.find_root().obj
    if not isinstance(state, CliState):
        raise TypeError("the common options were not read")
    return state
