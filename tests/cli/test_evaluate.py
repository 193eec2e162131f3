"""``fewshot-node evaluate`` as a researcher runs it, on a suite small enough to be quick."""

import json
import shutil
import subprocess
from html.parser import HTMLParser
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


def test_rivals_are_rows_of_the_same_table(discs: Path, tmp_path: Path) -> None:
    target = tmp_path / "rows.json"
    options = ["--methods", "lda,persam,universeg", "--refine", "none", "--shots", "2", "--draws", "1"]
    result = CliRunner().invoke(app, ["evaluate", str(discs), *options, "--json", str(target)])
    assert result.exit_code == 0, result.output
    found = {(row["method"], row["encoder"], row["refine"]) for row in json.loads(target.read_text())}
    assert found == {
        ("lda", "embedded", "none"),
        ("persam", "sam:embedded", "-"),
        ("universeg", "-", "-"),
    }


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


class _Links(HTMLParser):
    """What a page would fetch, and its cells."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.cells: list[str] = []
        self._in_cell = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self._in_cell = tag == "td"
        if tag in ("img", "script", "link", "iframe"):
            self.fetched.append(named.get("src") or named.get("href") or "")

    def handle_data(self, data: str) -> None:
        if self._in_cell:
            self.cells.append(data)


def test_the_page_stands_alone(discs: Path, tmp_path: Path) -> None:
    page, rows = tmp_path / "out" / "page.html", tmp_path / "rows.json"
    options = ["--methods", "lda,basic", "--refine", "none", "--shots", "1,2", "--draws", "1"]
    outputs = ["--html", str(page), "--json", str(rows)]
    result = CliRunner().invoke(app, ["evaluate", str(discs), *options, *outputs])
    assert result.exit_code == 0, result.output
    read = _Links()
    read.feed(page.read_text())
    assert len(read.fetched) == 3
    assert all(source.startswith("data:image/png;base64,") for source in read.fetched)
    for row in json.loads(rows.read_text()):
        if row["label"] == "all" and row["metric"] == "iou":
            assert f"{row['mean']:.3f}" in read.cells
    assert page.read_text().count("<svg") == 1
    assert "best: p" in page.read_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_in_chromium(discs: Path, tmp_path: Path, scheme: str) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no Chromium: apt-get install chromium")
    page, shot = tmp_path / "page.html", tmp_path / "page.png"
    options = ["--methods", "lda", "--refine", "none", "--shots", "1", "--draws", "1", "--html", str(page)]
    assert CliRunner().invoke(app, ["evaluate", str(discs), *options]).exit_code == 0
    dark = ["--blink-settings=preferredColorScheme=0"] if scheme == "dark" else []
    window = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=400,800", f"--screenshot={shot}"]
    subprocess.run([chromium, *window, *dark, page.as_uri()], check=True, capture_output=True, timeout=120)
    with Image.open(shot) as picture:
        corner = np.asarray(picture.convert("L"))[-1, -1]
    assert bool(corner > 128) == (scheme == "light")


def test_the_papers_table_is_methods_by_structures_in_percent(discs: Path, tmp_path: Path) -> None:
    target = tmp_path / "rows.json"
    options = ["--methods", "lda,basic", "--refine", "none", "--shots", "2", "--draws", "1", "--json", str(target)]
    result = CliRunner().invoke(app, ["evaluate", str(discs), *options, "--paper-tables"])
    assert result.exit_code == 0, result.output
    # A title wider than its table is broken over lines.
    printed = " ".join(result.output.split())
    table = printed[printed.index("as Table 2 of the paper") :]
    assert "discs: disc" in table
    for row in json.loads(target.read_text()):
        if row["metric"] == "iou" and row["label"] == "disc":
            assert f"{100 * row['mean']:.1f}" in table
    assert "Table 1" not in result.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--methods", "magic"], "method 'magic' is unknown"),
        (["--methods", "universeg", "--universeg", "gone.pt"], "gone.pt: no such UniverSeg checkpoint"),
        (["--methods", "persam", "--sam", "/gone"], "no such SAM folder"),
        (["--unit", "pixel"], "give slice or volume"),
        (["--shots", "few"], "give whole numbers"),
        (["--shots", "9"], "leave none to ask"),
        (["--labels", "spleen"], "no label spleen; it has disc"),
    ],
)
def test_what_cannot_be_run_says_why(discs: Path, options: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["evaluate", str(discs), *options], env={"COLUMNS": "200"})
    assert result.exit_code != 0
    assert message in result.output + str(result.exception)
