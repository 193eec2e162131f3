"""How long a person waits for a fit: five slices of 512 x 512 with ten labels, the default task."""

from dataclasses import replace

import numpy as np

from fewshot_node.records import Code, Label
from fewshot_node.tasks.fit import fit_task
from fewshot_node.tasks.templates import Template
from tests.benchmarks.bars import Board
from tests.benchmarks.vision.scene import LABELS, TEMPLATES, definition, encoder, template

LABEL_COUNT, LIMIT_S = 10, 60.0


def fit(board: Board) -> None:
    """Fit once, nothing kept from before."""
    extra = tuple(
        Label(value, f"Part {value}", LABELS[0].category, Code(f"99{value}", "99BENCH", f"Part {value}"))
        for value in range(len(LABELS) + 1, LABEL_COUNT + 1)
    )
    task = replace(definition(), labels=(*LABELS, *extra))
    examples = [_parted(template(seed)) for seed in range(1, TEMPLATES + 1)]
    encoder()  # loading is no part of a fit
    _, report = fit_task(task, examples, encoder())
    board.detail(f"{report.slices} slices, {report.labels} labels, adapter {task.settings.adapter.name}")
    board.bar("fit-5-slices-10-labels-s", report.seconds, "<=", LIMIT_S)


def _parted(one: Template) -> Template:
    """Give the upper part of the first labels values of their own, until there are enough labels."""
    label_map = one.label_map.copy()
    for value in range(1, LABEL_COUNT - len(LABELS) + 1):
        rows = np.nonzero(one.label_map == value)[1]
        upper = np.arange(label_map.shape[1])[None, :, None] < np.median(rows)
        label_map[(one.label_map == value) & upper] = len(LABELS) + value
    return replace(one, label_map=label_map)
