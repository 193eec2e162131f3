"""Arguments that several commands share."""

from typing import Annotated

import typer

TaskName = Annotated[str, typer.Argument(metavar="TASK", help="Name of the task.")]
