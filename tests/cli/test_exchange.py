"""Tasks to and from other sites, as a person types it and reads it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fewshot_node.evaluation.phantom_series import write_labels_nifti, write_series
from fewshot_node.evaluation.phantoms import PhantomSettings, torso_ct
from tests.cli.conftest import Printed

Run = Callable[..., Printed]
SMALL = PhantomSettings(slices=14, rows=64, columns=64, slice_mm=14.0, pixel_mm=6.0)


@pytest.fixture
def published(run: Run, tmp_path: Path) -> str:
    taught = torso_ct(5, SMALL)
    series = write_series(taught, tmp_path / "taught", patient_index=5)
    write_labels_nifti(taught, tmp_path / "labels.nii.gz")
    run("task", "add", "organs", "--label", "1=Liver", "--rule", "Modality=CT", "--adapter", "lda")
    labels = ["--labels", tmp_path / "labels.nii.gz", "--ignore-others"]
    assert run("template", "add", "organs", "--series", series.folder, *labels).status == 0
    assert run("task", "fit", "organs").status == 0
    assert run("task", "publish", "organs").status == 0
    return "organs"


def test_a_task_goes_to_another_name_and_into_service(run: Run, home: Path, published: str, tmp_path: Path) -> None:
    made = run("task", "keygen", tmp_path / "site.pem")
    assert "site.pub.pem: for exchange.trusted_keys" in made.out
    file = tmp_path / "organs.task"
    written = run("task", "export", published, "--out", file, "--sign", tmp_path / "site.pem")
    assert written.status == 0, written.error
    assert "SHA-256" in written.out
    assert "it holds 1 templates: slices of patients' images" in written.out
    assert "--without-templates leaves them out" in written.out
    assert "nothing was imported" in run("task", "import", file).out
    home.write_text(home.read_text() + '[exchange]\ntrusted_keys = ["site.pub.pem"]\nrequire_signature = true\n')
    done = run("task", "import", file, "--as", "west")
    assert done.status == 0, done.error
    assert "task west revision 1 is imported" in done.out
    assert "it takes no series yet" in done.out
    assert "it was signed with a trusted key" in done.out
    assert "next: fewshot-node task adopt west 1" in done.out
    assert "imported revision 1 takes no series: task adopt west 1" in run("task", "show", "west").out
    assert "task west revision 1 is live" in run("task", "adopt", "west", "1").out
    assert run("task", "show", "west").status == 0


def test_an_imported_task_is_looked_at_first(run: Run, home: Path, published: str, tmp_path: Path) -> None:
    home.write_text(home.read_text() + "[publish]\nminimum_score = 0.7\n")
    file = tmp_path / "organs.task"
    run("task", "export", published, "--out", file)
    assert "(with --shadow it sends nothing at first)" in run("task", "import", file, "--as", "west").out
    commands = (["task", "go-live", "west"], ["task", "go-live", "west", "1"], ["task", "rollback", "west"])
    for early in (*commands, ["task", "export", "west", "--out", tmp_path / "west.task"]):
        told = "task west has no published revision: adopt what was imported (task show west)"
        assert told in run(*early).error
    refused = run("task", "adopt", "west", "1")
    assert (refused.status, refused.out) == (1, "")
    assert "task west was not crossvalidated, and this site asks for a crossvalidated score of 0.7" in refused.error
    assert (
        "get a revision that reached it from where this one came; or let it run in shadow (task adopt west 1 --shadow)"
        in refused.error
    )
    done = run("task", "adopt", "west", "1", "--shadow")
    assert (done.status, "task west revision 1 runs in shadow, digest " in done.out) == (0, True)
    assert "next: fewshot-node task go-live west" in done.out
    refused = run("task", "go-live", "west")
    assert (refused.status, "then publish; or leave it in shadow" in refused.error) == (1, True)
    run("task", "shadow", "west", "--end")
    refused = run("task", "go-live", "west", "1")
    assert (refused.status, "let it run in shadow (task shadow west 1)" in refused.error) == (1, True)


def test_a_retired_task_adopts_nothing(run: Run, published: str, tmp_path: Path) -> None:
    file = tmp_path / "organs.task"
    run("task", "export", published, "--out", file)
    run("task", "import", file, "--as", "west")
    run("task", "adopt", "west", "1")
    again = run("task", "adopt", "west", "1")
    assert (again.status, "it is one of its own already (task go-live, task shadow)" in again.error) == (1, True)
    run("task", "retire", "west")
    run("task", "publish", published)
    run("task", "export", published, "--out", file)
    assert "next: fewshot-node task adopt west 2" in run("task", "import", file, "--as", "west").out
    refused = run("task", "adopt", "west", "2")
    assert "task west is retired: take it back first (task retire west --undo)" in refused.error
    assert run("task", "retire", "west", "--undo").status == 0
    assert "task west revision 2 is live" in run("task", "adopt", "west", "2").out
    assert "until it is taken back (task retire --undo)" in run("task", "adopt", "--help").out


def test_without_templates_that_is_said(run: Run, published: str, tmp_path: Path) -> None:
    file = tmp_path / "organs.task"
    written = run("task", "export", published, "--out", file, "--without-templates")
    assert "patients' images" not in written.out
    assert "not signed" in written.out
    done = run("task", "import", file, "--as", "west")
    assert "it was not signed" in done.out
    assert "it came without templates" in done.out


def test_refusals_are_messages(run: Run, tmp_path: Path) -> None:
    (tmp_path / "other.task").write_bytes(b"nothing of ours, and longer than the end of an archive")
    refused = run("task", "import", tmp_path / "other.task")
    assert (refused.status, "does not end like an exported task" in refused.error) == (1, True)
    assert "Traceback" not in refused.error
    refused = run("task", "export", "organs", "--out", tmp_path / "x.task")
    assert (refused.status, "no task 'organs'" in refused.error) == (1, True)
    run("task", "add", "organs", "--label", "1=Liver")
    refused = run("task", "export", "organs", "--out", tmp_path / "x.task")
    assert (refused.status, "fit it and publish it" in refused.error) == (1, True)
    refused = run("task", "adopt", "organs", "1")
    assert (refused.status, "no imported revision 1 that waits: waiting are none" in refused.error) == (1, True)
