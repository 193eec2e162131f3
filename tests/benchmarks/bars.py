"""Bars: what a benchmark measured, beside what it must reach; one line each, printed as they come."""

import math
import operator
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_RELATIONS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "<": operator.lt,
    "=": operator.eq,
}


@dataclass(frozen=True, slots=True)
class Bar:
    """One figure and its limit."""

    name: str
    value: float
    relation: str
    limit: float

    @property
    def is_reached(self) -> bool:
        # A figure that could not be taken is NaN, which reaches nothing.
        return _RELATIONS[self.relation](self.value, self.limit)

    def __str__(self) -> str:
        ending = "ok" if self.is_reached else "short"
        return f"bar {self.name} {_number(self.value)} {self.relation} {_number(self.limit)} {ending}"


@dataclass
class Board:
    """The bars of one run.

    Attributes
    ----------
    scratch
        A folder on the disk that is measured; it is removed after the run.
    """

    scratch: Path
    bars: list[Bar] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def bar(self, name: str, value: float, relation: str, limit: float) -> None:
        """Compare a figure with its limit."""
        self.bars.append(Bar(name, value, relation, limit))
        _say(str(self.bars[-1]))

    def info(self, name: str, value: float, remark: str = "") -> None:
        """Print a figure that has no limit."""
        _say(f"info {name} {_number(value)} {remark}".rstrip())

    def detail(self, text: str) -> None:
        """Print what the figures come from."""
        _say(f"  {text}")

    def skip(self, name: str, reason: str) -> None:
        """Say that a bar could not be measured here, and why."""
        self.skipped.append(f"skip {name}: {reason}")
        _say(self.skipped[-1])

    def conclude(self) -> int:
        """Print every bar once more and give the exit status: 1 when one is short."""
        short = [bar for bar in self.bars if not bar.is_reached]
        _say(f"\n{len(self.bars)} bars, {len(short)} short, {len(self.skipped)} skipped")
        for line in (*map(str, self.bars), *self.skipped):
            _say(line)
        return 1 if short else 0


Part = Callable[[Board], None]


def run_parts(board: Board, parts: Mapping[str, Part], wanted: Sequence[str]) -> int:
    """Run the wanted parts, all of them when none is named; one that breaks is a short bar.

    Raises
    ------
    SystemExit
        A wanted part does not exist.
    """
    unknown = sorted(set(wanted) - set(parts))
    if unknown:
        sys.exit(f"no part {', '.join(unknown)}; there are: {', '.join(parts)}")
    for name in wanted or parts:
        started = time.monotonic()
        _say(f"# {name}")
        try:
            parts[name](board)
        except Exception:
            traceback.print_exc()
            board.bar(f"{name}-ran", math.nan, "=", 1)
        board.detail(f"{name} took {time.monotonic() - started:.0f} s")
    return board.conclude()


def _number(value: float) -> str:
    if isinstance(value, int) or math.isnan(value):
        return str(value)
    return f"{value:.2f}"


def _say(line: str) -> None:
    print(line, flush=True)
