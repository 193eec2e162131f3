"""What becomes of a revision after it is published, as an administrator types it and reads it."""

import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fewshot_node.config import load_settings
from fewshot_node.dicom.ledger import SeriesNote
from fewshot_node.evaluation.phantom_series import PhantomSeries, write_labels_nifti, write_series
from fewshot_node.evaluation.phantoms import PhantomSettings, torso_ct
from fewshot_node.node import open_node
from tests.cli.conftest import Printed

Run = Callable[..., Printed]
SMALL = PhantomSettings(slices=14, rows=64, columns=64, slice_mm=14.0, pixel_mm=6.0)


@pytest.fixture
def series(tmp_path: Path) -> PhantomSeries:
    return write_series(torso_ct(5, SMALL), tmp_path / "taught", patient_index=5)


@pytest.fixture
def fitted(run: Run, series: PhantomSeries, tmp_path: Path) -> str:
    """A task whose draft can be published."""
    write_labels_nifti(torso_ct(5, SMALL), tmp_path / "labels.nii.gz")
    run("task", "add", "organs", "--label", "1=Liver", "--rule", "Modality=CT", "--adapter", "lda")
    labels = ["--labels", tmp_path / "labels.nii.gz", "--ignore-others"]
    assert run("template", "add", "organs", "--series", series.folder, *labels).status == 0
    learnt = run("task", "fit", "organs")
    assert re.fullmatch(
        r"task organs: learnt 1 label from \d+ slices in \d+\.\d s; next: fewshot-node task publish organs\n",
        learnt.out,
    )
    assert learnt.status == 0
    assert "" not in learnt.error.splitlines(), "no trace of a bar where there is no terminal"
    return "organs"


def refusal(printed: Printed) -> str:
    """What an error says to a person."""
    assert (printed.status, printed.out) == (1, "")
    assert "Traceback" not in printed.error
    return printed.error.strip().removeprefix("error: ")


COMMANDS = (("publish",), ("go-live",), ("rollback",), ("retire",), ("shadow", "1"), ("diff", "1"))


@pytest.mark.parametrize(("command", "more"), [(first, more) for first, *more in COMMANDS])
def test_a_wrong_name_is_told_with_the_known_ones(run: Run, command: str, more: list[str]) -> None:
    run("task", "add", "organs", "--label", "1=Liver")
    assert refusal(run("task", command, "organ", *more)).endswith("known tasks: organs")


def test_nothing_published_yet(run: Run) -> None:
    run("task", "add", "organs", "--label", "1=Liver")
    for command in (("go-live",), ("go-live", "1"), ("rollback",), ("rollback", "1"), ("shadow", "1"), ("diff", "1")):
        told = refusal(run("task", command[0], "organs", *command[1:]))
        assert told == "task organs has no published revision: fit it and publish it"
    assert "there is nothing to retire" in refusal(run("task", "retire", "organs"))
    assert "has no revision in shadow" in refusal(run("task", "shadow", "organs", "--end"))
    assert "is not retired" in refusal(run("task", "retire", "organs", "--undo"))


def test_a_revision_goes_from_shadow_to_live_and_back(run: Run, fitted: str, series: PhantomSeries) -> None:
    first = run("task", "publish", fitted, "--shadow")
    assert first.out == "task organs revision 1 runs in shadow; next: fewshot-node task go-live organs\n"
    assert "revision 1 shadow" in run("task", "list").out
    assert "organs revision 1 (shadow) takes it" in run("route", "explain", series.folder).out
    told = refusal(run("run", series.folder, "--task", fitted, "--out", series.folder.parent / "out"))
    assert "task organs has no live revision: task go-live organs, or name a revision" in told
    assert run("task", "go-live", fitted).out == "task organs revision 1 is live\n"
    told = refusal(run("task", "go-live", fitted))
    assert told == "task organs has no revision in shadow: name one of 1 (task go-live organs REVISION)"
    assert "revision 1 of task organs is live already" in refusal(run("task", "go-live", fitted, "1"))
    assert run("task", "publish", fitted).out == "task organs revision 2 is live\n"
    back = run("task", "rollback", fitted)
    assert back.out == "task organs revision 1 is live again; the draft stays as it is\n"
    assert "revision 1 of task organs is live already: name another one" in refusal(
        run("task", "rollback", fitted, "1")
    )
    shown = [line.split() for line in run("task", "show", fitted).out.splitlines()]
    roles = {line[1]: line[3:] for line in shown if line[0] == "revision"}
    assert roles == {"1": ["live"], "2": []}
    assert [line[-1] for line in shown if line[0] == "changed"] == ["shadow", "live", "live", "1"]


def test_wrong_revisions(run: Run, fitted: str) -> None:
    run("task", "publish", fitted)
    for command in (("go-live", "9"), ("rollback", "9"), ("shadow", "9"), ("diff", "9"), ("diff", "1", "9")):
        told = refusal(run("task", command[0], fitted, *command[1:]))
        assert told == "task organs has no revision 9: it has 1"
    assert "no revision 'newest': give its number, or draft" in refusal(run("task", "diff", fitted, "newest"))
    assert run("task", "go-live", fitted, "newest").status == 2
    assert "only another can be its shadow" in refusal(run("task", "shadow", fitted, "1"))
    assert "no earlier revision to roll back to" in refusal(run("task", "rollback", fitted))


def test_shadows_begin_and_end(run: Run, fitted: str) -> None:
    run("task", "publish", fitted)
    run("task", "publish", fitted)
    assert run("task", "shadow", fitted, "1").out == "task organs revision 1 runs in shadow\n"
    assert "runs in shadow already" in refusal(run("task", "shadow", fitted, "1"))
    assert "revision 2 live, revision 1 shadow" in run("task", "list").out
    again = run("task", "publish", fitted, "--shadow").out
    assert again.startswith("task organs revision 3 runs in shadow in place of revision 1; next: fewshot-node task")
    told = run("task", "shadow", fitted, "1").out
    assert told == "task organs revision 1 runs in shadow in place of revision 3\n"
    assert run("task", "shadow", fitted, "--end").out == "task organs: nothing runs in shadow\n"
    assert run("task", "shadow", fitted, "3").out == "task organs revision 3 runs in shadow\n"
    assert run("task", "shadow", fitted, "--end").status == 0
    for wrong in ([], ["1", "--end"]):
        printed = run("task", "shadow", fitted, *wrong)
        assert (printed.status, "give either a REVISION or --end" in printed.error) == (2, True)


def test_a_retired_task_says_how_it_is_taken_back(run: Run, fitted: str, series: PhantomSeries) -> None:
    run("task", "publish", fitted)
    retired = run("task", "retire", fitted).out
    assert "is retired and takes no series; task retire organs --undo takes it back" in retired
    assert "retired (revision 1 live)" in run("task", "list").out
    assert "task retire organs --undo takes it back" in run("task", "show", fitted).out
    for command in (("publish",), ("publish", "--shadow"), ("go-live", "1"), ("rollback", "1"), ("shadow", "1")):
        told = refusal(run("task", command[0], fitted, *command[1:]))
        assert told == "task organs is retired: take it back first (task retire organs --undo)"
    assert "is retired already" in refusal(run("task", "retire", fitted))
    nobody = "no task takes series: publish one with `fewshot-node task publish`, or see `fewshot-node task list`"
    assert run("route", "explain", series.folder).out.strip() == nobody
    assert run("route", "check").out.startswith(nobody)
    assert run("task", "retire", fitted, "--undo").out == "task organs is back in service: revision 1 live\n"


def test_what_differs_from_the_draft(run: Run, fitted: str) -> None:
    run("task", "publish", fitted)
    assert run("task", "diff", fitted, "1").out == "task organs: 1 and draft are the same\n"
    run("task", "change", fitted, "--rule", "Modality=MR", "--label", "1=Liver", "--label", "2=Spleen")
    rows = [
        [cell.strip() for cell in line.split("│")[1:-1]] for line in run("task", "diff", fitted, "1").out.splitlines()
    ]
    assert [row for row in rows if row] == [
        ["rule Modality=CT", "yes", "-"],
        ["label 2", "-", "Spleen (SCT 78961009)"],
        ["rule Modality=MR", "-", "yes"],
    ]


@pytest.fixture
def came(home: Path, series: PhantomSeries) -> str:
    """A series that came in; its UID."""
    node = open_node(load_settings(home))
    folder = node.spool.root / "series" / series.series_instance_uid
    folder.mkdir(parents=True)
    for path in series.files:
        shutil.copy(path, folder)
    now = datetime(2026, 1, 2, tzinfo=UTC)
    note = SeriesNote.of_one(series.series_instance_uid, series.study_instance_uid, "CT1", 1, now)
    node.ledger.note_instances([note])
    assert node.ledger.close(series.series_instance_uid)
    return series.series_instance_uid


def test_what_changed_rules_would_do_is_seen_before(run: Run, fitted: str, came: str) -> None:
    would = run("route", "replay", "--task", fitted).out
    assert "task organs: takes 0 of 1 series now, would take 1" in would
    run("task", "publish", fitted)
    same = run("route", "replay", "--task", fitted).out
    assert "no series would go another way" in same
    assert "task organs: takes 1 of 1 series now, would take 1" in same
    other = run("route", "replay", "--task", fitted, "--rule", "Modality=MR").out
    (row,) = [line for line in other.splitlines() if came in line]
    assert [cell.strip() for cell in row.split("│")[1:-1]] == [came, "taken", "not taken"]
    assert "organs revision 1 takes it" in run("route", "explain", came).out
    checked = run("route", "check").out
    (row,) = [line for line in checked.splitlines() if "organs revision 1" in line]
    assert [cell.strip() for cell in row.split("│")[1:-1]] == ["organs revision 1", "1", ""]
    assert "asked about 1 series" in checked


def test_what_is_neither_a_folder_nor_a_series(run: Run) -> None:
    told = refusal(run("route", "explain", "liver"))
    assert told == "liver is no folder: give one that holds one series, or the UID of one that came in"
    assert "series 1.2.3 is not in the ledger" in refusal(run("route", "explain", "1.2.3"))
