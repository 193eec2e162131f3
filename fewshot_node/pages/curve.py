"""A score over the number of templates, as SVG that can stand in a page."""

from collections.abc import Mapping
from dataclasses import dataclass
from io import StringIO

import matplotlib
from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """A mean and its interval."""

    mean: float
    low: float
    high: float


def draw_curve(
    lines: Mapping[str, Mapping[int, CurvePoint]], metric: str, limits: tuple[float, float] | None = (0, 1)
) -> str:
    """Draw a line for each name: number of templates -> score; without `limits` the axis fits the figures."""
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.add_subplot()
    for name, points in lines.items():
        shots, found = zip(*sorted(points.items()), strict=True)
        below = [one.mean - one.low for one in found]
        above = [one.high - one.mean for one in found]
        means = [one.mean for one in found]
        axes.errorbar(shots, means, yerr=(below, above), marker="o", capsize=3, label=name)
    ticks = sorted({shots for points in lines.values() for shots in points})
    axes.set(xlabel="templates", ylabel=metric, xticks=ticks)
    if limits is not None:
        axes.set_ylim(limits)
    axes.legend(fontsize="small")
    drawn = StringIO()
    # Without a date and with a fixed salt the same figures make the same page.
    with matplotlib.rc_context({"svg.hashsalt": "fewshot-node"}):
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    return drawn.getvalue()[drawn.getvalue().index("<svg") :]
