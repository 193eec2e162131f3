"""Printing text that others wrote: rules, paths, reasons. Nothing in it is taken for Rich's markup."""

import sys

from rich.console import Console
from rich.table import Table

_PLAIN_WIDTH = 200


def plain_console(*, stderr: bool = False) -> Console:
    """Return a console that prints text as it is, in lines as long as they are; colour is given by `Text`."""
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=True)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural where it is not one."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def print_table(table: Table, otherwise: str) -> None:
    """Print a table, wide enough for UIDs where no terminal sets a width, or `otherwise` when it is empty."""
    width = None if sys.stdout.isatty() else _PLAIN_WIDTH
    console = Console(width=width, highlight=False, markup=False, emoji=False)
    console.print(table if table.row_count else otherwise)
