"""Methods times draws: who teaches, who is asked, what a row says. The methods here are exact by construction."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewshot_node.errors import EvaluationError
from fewshot_node.evaluation.compare import Entry, Protocol, compare, rows_as_data
from fewshot_node.evaluation.method import FittedMethod
from fewshot_node.evaluation.protocol import ceiling_draws, draws
from fewshot_node.evaluation.suites import Suite, read_suite
from fewshot_node.scoring.answers import Prediction, Query
from fewshot_node.tasks.task import TaskDefinition
from fewshot_node.tasks.templates import Template

DESCRIPTION = """
name = "squares"
modality = "MR"
kind = "segmentation"
dimension = "slice"
[[label]]
value = 1
name = "square"
[[label]]
value = 2
name = "bar"
"""


def write_squares(folder: Path, patients: int = 4, slices: int = 2) -> Path:
    """Write images whose brightness says the label: 100 a square, 200 a bar (first slice of a patient only)."""
    folder.mkdir()
    (folder / "suite.toml").write_text(DESCRIPTION)
    for patient in range(patients):
        home = folder / "cases" / f"p{patient}"
        home.mkdir(parents=True)
        for index in range(slices):
            labels = np.zeros((32, 32), dtype=np.uint8)
            labels[4 + patient : 14 + patient, 6:16] = 1
            if index == 0:
                labels[24:28, 4:28] = 2
            Image.fromarray(labels * 100).save(home / f"s{index}.image.png")
            Image.fromarray(labels).save(home / f"s{index}.labels.png")
    return folder


@dataclass
class Threshold:
    """Reads the label from the brightness, if it is told to be right, else finds squares only."""

    name: str
    is_right: bool = True
    fits: list[tuple[str, ...]] = field(default_factory=list)
    asked: int = 0

    def fit(self, definition: TaskDefinition, templates: Sequence[Template]) -> FittedMethod:
        self.fits.append(tuple(template.name for template in templates))
        return self

    def predict(self, query: Query) -> Prediction:
        self.asked += 1
        labels = (query.array / 100).round().astype(np.uint8)
        return Prediction(labels if self.is_right else np.where(labels == 1, 1, 0).astype(np.uint8), reused_s=100.0)


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return read_suite(write_squares(tmp_path / "squares"))


def test_rows_say_what_was_measured(suite: Suite) -> None:
    right, blind = Threshold("right"), Threshold("blind", is_right=False)
    entries = [Entry(method, "none", "none") for method in (right, blind)]
    steps: list[None] = []
    outcomes = list(compare(suite, entries, Protocol((2,), draws=3), lambda: steps.append(None)))
    assert len(steps) == 6
    rows = {(row["method"], row["label"], row["metric"]): row for row in rows_as_data(outcomes)}
    assert rows["right", "all", "iou"]["mean"] == 1
    # The blind one finds each square and no bar: half of the labels.
    assert rows["blind", "all", "iou"]["mean"] == 0.5
    assert rows["blind", "bar", "dice"]["mean"] == 0
    assert rows["blind", "bar", "tpr"]["mean"] == 0
    assert rows["blind", "bar", "tnr"]["mean"] == 1
    assert rows["right", "all", "seconds"]["mean"] == pytest.approx(100, abs=5)  # what was reused counts
    assert ("right", "bar", "seconds") not in rows
    assert all(outcome.cost.peak_mib > 10 and 0 <= outcome.cost.register_s < 1 for outcome in outcomes)
    assert {
        "suite",
        "method",
        "encoder",
        "refine",
        "shots",
        "unit",
        "label",
        "metric",
        "mean",
        "low",
        "high",
        "n",
    } == set(rows["right", "all", "iou"])


def test_methods_share_draws_and_patients_never_teach_and_answer(suite: Suite) -> None:
    first, second = Threshold("a"), Threshold("b")
    list(compare(suite, [Entry(first, "", ""), Entry(second, "", "")], Protocol((1, 3), draws=4)))
    assert first.fits == second.fits
    # One slice each of 1 and of 3 patients; 3 and 1 patients with 2 slices are left to be asked.
    assert [len(names) for names in first.fits] == [1] * 4 + [3] * 4
    assert first.asked == 4 * 3 * 2 + 4 * 1 * 2
    # The slice with most labels teaches.
    assert all(name.endswith("-s0") for names in first.fits for name in names)


def test_the_ceiling_teaches_all_slices_of_either_half(suite: Suite) -> None:
    method = Threshold("right")
    outcomes = list(compare(suite, [Entry(method, "", "")], Protocol((1,), draws=1, ceiling=True)))
    assert [outcome.method for outcome in outcomes] == ["right", "right-ceiling"]
    assert (outcomes[1].shots, outcomes[1].unit) == (2, "volume")
    halves = [{name.split("-")[0] for name in names} for names in method.fits[1:]]
    assert [len(names) for names in method.fits[1:]] == [4, 4]
    assert halves[0].isdisjoint(halves[1])
    assert Protocol((1, 2), draws=3, ceiling=True).fits == 8


def test_a_suite_without_patients_to_ask_is_refused(suite: Suite, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="leave none to ask"):
        list(draws(suite, 4, 1))
    single = read_suite(write_squares(tmp_path / "single", patients=1))
    with pytest.raises(EvaluationError, match="needs 2 patients"):
        list(ceiling_draws(single))


def test_labels_that_no_template_shows_score_nothing(tmp_path: Path) -> None:
    folder = write_squares(tmp_path / "few", slices=1)
    for path in folder.glob("cases/p[0-2]/s0.labels.png"):
        labels = np.asarray(Image.open(path)).copy()
        labels[labels == 2] = 0
        Image.fromarray(labels).save(path)
    suite = read_suite(folder)
    seen: list[tuple[int, ...]] = []

    class Watcher(Threshold):
        def fit(self, definition: TaskDefinition, templates: Sequence[Template]) -> FittedMethod:
            seen.append(definition.label_values)
            return super().fit(definition, templates)

    list(compare(suite, [Entry(Watcher("w"), "", "")], Protocol((1,), draws=8)))
    assert set(seen) == {(1,), (1, 2)}


def test_the_worst_the_median_and_the_best_answer_are_kept(suite: Suite) -> None:
    (outcome,) = compare(suite, [Entry(Threshold("blind", is_right=False), "", "")], Protocol((1,), draws=2))
    # Three patients are asked: their first slices hold the bar, which is missed, their second ones do not.
    assert [answer.score for answer in outcome.answers] == [0.5, 1.0, 1.0]
