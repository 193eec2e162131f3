"""``fewshot-node evaluate`` as a researcher runs it, on a suite small enough to be quick."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from fewshot_node.cli.main import app

DESCRIPTION = """
name = "discs"
modality = "MR"
kind = "segmentation"
dimension = "slice"
[[label]]
value = 1
name = "disc"
"""


@pytest.fixture
def discs(tmp_path: Path) -> Path:
    """Bright discs on dark noise, one a patient: any method that learns at all finds them."""
    folder = tmp_path / "discs"
    rows, columns = np.ogrid[:64, :64]
    for patient in range(4):
        home = folder / "cases" / f"p{patient}"
        home.mkdir(parents=True)
        disc = (rows - 25 - 3 * patient) ** 2 + (columns - 30) ** 2 <= 14**2
        image = np.where(disc, 200, 40) + np.random.default_rng(patient).normal(0, 6, disc.shape)
        Image.fromarray(image.astype(np.uint8)).save(home / "a.image.png")
        Image.fromarray(disc.astype(np.uint8)).save(home / "a.labels.png")
    (folder / "suite.toml").write_text(DESCRIPTION)
    return folder


def test_a_table_tests_and_json(discs: Path, tmp_path: Path) -> None:
    target = tmp_path / "rows.json"
    options = ["--methods", "lda,basic", "--refine", "none", "--shots", "2", "--draws", "2", "--json", str(target)]
    result = CliRunner().invoke(app, ["evaluate", str(discs), *options], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert "discs" in result.output
    assert "worst draw" in result.output
    rows = {(row["method"], row["label"], row["metric"]): row for row in json.loads(target.read_text())}
    found = rows["lda", "all", "iou"]
    assert found["mean"] > 0.7
    assert 0 <= found["low"] <= found["mean"] <= found["high"] <= 1
    assert (found["suite"], found["encoder"], found["refine"], found["shots"], found["unit"]) == (
        "discs", "embedded", "none", 2, "slice",
    )  # fmt: skip
    assert f"{found['mean']:.3f}" in result.output


def test_the_ceiling_is_a_row_of_its_own(discs: Path, tmp_path: Path) -> None:
    target = tmp_path / "rows.json"
    options = [
        "--methods",
        "lda",
        "--refine",
        "none",
        "--shots",
        "1",
        "--draws",
        "1",
        "--ceiling",
        "--json",
        str(target),
    ]
    result = CliRunner().invoke(app, ["evaluate", str(discs), *options])
    assert result.exit_code == 0, result.output
    kinds = {(row["method"], row["shots"], row["unit"]) for row in json.loads(target.read_text())}
    assert kinds == {("lda", 1, "slice"), ("lda-ceiling", 2, "volume")}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--methods", "magic"], "method 'magic' is unknown"),
        (["--unit", "pixel"], "give slice or volume"),
        (["--shots", "few"], "give whole numbers"),
        (["--shots", "9"], "leave none to ask"),
    ],
)
def test_what_cannot_be_run_says_why(discs: Path, options: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["evaluate", str(discs), *options], env={"COLUMNS": "200"})
    assert result.exit_code != 0
    assert message in result.output + str(result.exception)
