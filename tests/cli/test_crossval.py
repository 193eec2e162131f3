"""``task crossval`` and ``task report`` as an administrator runs them, on drawn patients; the page in Chromium."""

import base64
import html
import json
import logging
import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from fewshot_node.cli.main import app
from fewshot_node.errors import TaskError
from fewshot_node.records import TaskKind
from fewshot_node.tasks.augment import AugmentSettings
from fewshot_node.tasks.codes import parse_label
from fewshot_node.tasks.registry import Registry
from fewshot_node.tasks.rule_text import parse_rule
from fewshot_node.tasks.task import TaskDefinition, TaskSettings
from fewshot_node.tasks.templates import Template
from fewshot_node.vision.adapters import AdapterSettings
from fewshot_node.vision.encode import EncodeSettings

SIDE = 64
SERIES_UID = "2.25.987654321"


def drawn(seed: int) -> Template:
    """One slice of a patient: a bright disc in a grey body."""
    rng = np.random.default_rng(seed)
    rows, columns = np.ogrid[:SIDE, :SIDE]
    disc = (rows - 30 - rng.integers(-3, 4)) ** 2 + (columns - 26 - rng.integers(-3, 4)) ** 2 <= 12**2
    body = (rows - 32) ** 2 + (columns - 32) ** 2 <= 29**2
    image = (np.where(disc, 800.0, np.where(body, 400.0, 0.0)) + rng.normal(0, 15, disc.shape)).astype(np.float32)
    return Template(
        name=f"t{seed}",
        series_instance_uid=f"{SERIES_UID}.{seed}",
        modality="MR",
        array=image[None],
        label_map=disc.astype(np.uint8)[None],
        intensity_sample=image.reshape(-1),
        points=(),
        spacing_mm=(5.0, 1.0, 1.0),
        orientation="axial",
        slice_indices=(11,),
        instance_uids=(f"{SERIES_UID}.{seed}.1",),
    )


def task(adapter: str) -> TaskDefinition:
    settings = TaskSettings(
        adapter=AdapterSettings(name=adapter),
        encode=EncodeSettings(input_px=64, precision="float32"),
        augment=AugmentSettings(count=0),
    )
    rules = (parse_rule("Modality=MR"), parse_rule("BodyPartExamined in LIVER,ABDOMEN"))
    labels = (parse_label("1=Liver"),)
    return TaskDefinition("liver", TaskKind.SEGMENTATION, labels, rules, settings, "a <b>bold</b> description")


@dataclass(frozen=True)
class Walk:
    """A home after a crossvalidation and a report, and what the first printed."""

    config: Path
    printed: str
    page: Path

    @property
    def registry(self) -> Registry:
        return Registry(self.config.parent / "home" / "tasks")


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Walk:
    folder = tmp_path_factory.mktemp("node")
    config = folder / "node.toml"
    config.write_text('home = "home"\n')
    registry = Registry(folder / "home" / "tasks")
    registry.add(task("basic"))
    for seed in (1, 2, 3):
        registry.add_template("liver", drawn(seed))
    level = logging.getLogger("fewshot_node").level
    printed = command(config, "crossval", "liver", "--adapters", "lda", "--curve-draws", "1")
    page = folder / "out" / "report.html"
    command(config, "report", "liver", "--out", str(page))
    assert logging.getLogger("fewshot_node").level == level
    return Walk(config, printed, page)


def command(config: Path, *arguments: str) -> str:
    result = CliRunner().invoke(app, ["--config", str(config), "task", *arguments], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result.output


def test_the_figures_the_recommendation_and_the_next_step_are_printed(walk: Walk) -> None:
    for part in (
        "each of 3 examples left out once",
        "iou, coarse (95 %)",
        "iou, walker (95 %)",
        "dice, coarse / walker",
    ):
        assert part in walk.printed
    assert "recommended: lda" in walk.printed
    assert "against the task's present basic + walker" in walk.printed
    assert "iou by number of templates, lda" in walk.printed
    assert "task report liver" in walk.printed
    stored = json.loads((walk.registry.draft_folder("liver") / "crossval.json").read_text())
    assert {one["candidate"]["adapter"] for one in stored["results"]} == {"lda", "basic"}


class _Page(HTMLParser):
    """What a page would fetch, and its pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.fetched += [named[key] or "" for key in ("src", "href", "xlink:href", "srcset", "data") if key in named]
        assert tag not in ("script", "iframe", "object", "form")


def test_the_page_stands_alone_and_tells_everything(walk: Walk) -> None:
    text = walk.page.read_text()
    read = _Page()
    read.feed(text)
    pictures = [address for address in read.fetched if not address.startswith("#")]
    assert len(pictures) == 6  # foretold and undecided, of three templates
    for address in pictures:
        assert address.startswith("data:image/png;base64,")
        with Image.open(BytesIO(base64.b64decode(address.partition(",")[2]))) as picture:
            assert picture.width >= 260
    assert not re.search(r"url\(\s*[\"']?(?!#)", text)
    told = ("Recommended: lda", "Modality=MR", "BodyPartExamined in LIVER,ABDOMEN", "t1: iou ")
    for part in (*told, "t1", "t2", "t3", "<svg", "All settings"):
        assert part in text, part
    assert "a &lt;b&gt;bold&lt;/b&gt; description" in text


def test_no_identifier_stands_in_the_page(walk: Walk) -> None:
    assert SERIES_UID not in walk.page.read_text()


def test_the_truth_and_what_was_foretold_are_drawn_over_the_slice(walk: Walk) -> None:
    address = re.search(r'img src="data:image/png;base64,([^"]+)" alt="t1: foretold', walk.page.read_text())
    with Image.open(BytesIO(base64.b64decode(address.group(1)))) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)[:260, :260]
    red = (pixels[..., 0] > pixels[..., 1] + 80) & (pixels[..., 0] > pixels[..., 2] + 80)
    middle = np.argwhere(red).mean(axis=0) * SIDE / 260
    true = np.argwhere(walk.registry.templates("liver")[0].label_map[0]).mean(axis=0)
    assert np.abs(middle - true).max() < 3


def _chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("no Chromium: apt-get install chromium")
    return found


def _browse(*arguments: str) -> bytes:
    command = [_chromium(), "--headless", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND"]
    return subprocess.run([*command, *arguments], check=True, capture_output=True, timeout=120).stdout


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_in_chromium(walk: Walk, tmp_path: Path, scheme: str) -> None:
    shot = tmp_path / "page.png"
    dark = ["--blink-settings=preferredColorScheme=0"] if scheme == "dark" else []
    _browse("--window-size=700,900", f"--screenshot={shot}", *dark, walk.page.as_uri())
    with Image.open(shot) as picture:
        pixels = np.asarray(picture.convert("L"))
    assert bool(pixels[-1, -1] > 128) == (scheme == "light")
    # Ink and paper differ: headings can be read.
    assert int(pixels.max()) - int(pixels.min()) > 150


def test_a_small_screen_needs_no_scrolling_sideways(walk: Walk, tmp_path: Path) -> None:
    """A frame of 375 px says how wide its content wants to be."""
    frame = tmp_path / "frame.html"
    inner = html.escape(walk.page.read_text(), quote=True)
    frame.write_text(
        f'<iframe id="page" width="375" height="700" frameborder="0" srcdoc="{inner}"></iframe><p id="told"></p>'
        "<script>addEventListener('load', () => { const root = document.getElementById('page').contentDocument"
        ".documentElement; document.getElementById('told').textContent = `wide ${root.scrollWidth} of"
        " ${root.clientWidth}`; })</script>"
    )
    told = re.search(r"wide (\d+) of (\d+)", _browse("--dump-dom", frame.as_uri()).decode())
    assert told is not None
    wanted, given = (int(number) for number in told.groups())
    assert 300 < given <= 375
    assert wanted <= given


def test_apply_switches_to_what_still_holds_without_computing_again(walk: Walk) -> None:
    before = (walk.registry.draft_folder("liver") / "crossval.json").read_text()
    printed = command(walk.config, "crossval", "liver", "--adapters", "lda", "--apply")
    chosen = json.loads(before)["recommendation"]["candidate"]
    settings = walk.registry.definition("liver").settings
    assert (settings.adapter.name, settings.refine.engine) == (chosen["adapter"], chosen["refine"])
    assert "next: fewshot-node task fit liver" in printed
    assert (walk.registry.draft_folder("liver") / "crossval.json").read_text() == before


def test_a_stale_report_says_so(walk: Walk, tmp_path: Path) -> None:
    copied = tmp_path / "home"
    shutil.copytree(walk.config.parent / "home", copied)
    config = tmp_path / "node.toml"
    config.write_text('home = "home"\n')
    Registry(copied / "tasks").remove_template("liver", "t3")
    command(config, "report", "liver", "--out", str(tmp_path / "r.html"))
    assert "This no longer holds: templates, labels or settings changed since" in (tmp_path / "r.html").read_text()


def test_what_cannot_be_reported_says_why(walk: Walk, tmp_path: Path) -> None:
    walk.registry.add(replace(task("lda"), name="bare"))
    for arguments, message in (
        (["report", "bare", "--out", str(tmp_path / "r.html")], "run task crossval bare, then task report"),
        (["crossval", "bare"], "task bare has no template"),
        (["crossval", "liver", "--adapters", "magic"], "adapter 'magic' is unknown; give one of basic"),
    ):
        result = CliRunner().invoke(app, ["--config", str(walk.config), "task", *arguments])
        assert result.exit_code == 1
        assert isinstance(result.exception, TaskError)
        assert message in str(result.exception)
