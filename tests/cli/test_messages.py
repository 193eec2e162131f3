"""Every refusal says what is wrong, names the thing, and tells the remedy."""

import socket
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from fewshot_node.config import WorkerSettings
from fewshot_node.errors import CheckpointError
from fewshot_node.evaluation.phantom_series import PhantomSeries, write_labels_nifti, write_series
from fewshot_node.evaluation.phantoms import Phantom, PhantomSettings, torso_ct
from fewshot_node.models import load_models
from tests.cli.conftest import Printed

Run = Callable[..., Printed]
SMALL = PhantomSettings(slices=12, rows=64, columns=64, slice_mm=16.0, pixel_mm=6.0)


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return torso_ct(5, SMALL)


@pytest.fixture(scope="module")
def series(phantom: Phantom, tmp_path_factory: pytest.TempPathFactory) -> PhantomSeries:
    return write_series(phantom, tmp_path_factory.mktemp("series"), patient_index=5)


@pytest.fixture
def organs(run: Run) -> str:
    assert run("task", "add", "organs", "--label", "1=Liver", "--rule", "Modality=CT").status == 0
    return "organs"


def test_help_names_every_command(run: Run) -> None:
    text = run("--help").out
    for command in (
        "serve",
        "receive",
        "worker",
        "run",
        "demo",
        "doctor",
        "task",
        "template",
        "series",
        "route",
        "pacs",
    ):
        assert f" {command} " in text


def test_no_arguments_is_help(run: Run) -> None:
    printed = run()
    assert "Usage" in printed.out + printed.error


def test_an_unknown_task_is_named_with_the_known_ones(run: Run, organs: str) -> None:
    printed = run("task", "show", "livr")
    assert printed.status == 1
    assert "livr" in printed.error
    assert "organs" in printed.error
    assert "Traceback" not in printed.error


def test_a_misspelt_attribute_is_refused_with_the_right_one(run: Run) -> None:
    printed = run("task", "add", "t", "--label", "1=Liver", "--rule", "BodyPartExamind=LIVER")
    assert (printed.status, "BodyPartExamined" in printed.error) == (1, True)


def test_a_rule_on_a_patient_is_refused(run: Run) -> None:
    printed = run("task", "add", "t", "--label", "1=Liver", "--rule", "PatientName=Doe")
    assert (printed.status, "PatientName" in printed.error) == (1, True)


def test_an_unknown_structure_is_refused_and_the_explicit_form_shown(run: Run) -> None:
    printed = run("task", "add", "t", "--label", "1=Liwer")
    assert printed.status == 1
    assert "Liwer" in printed.error
    assert ":SCT:" in printed.error


def test_an_unknown_adapter_is_refused_with_the_known_ones(run: Run) -> None:
    printed = run("task", "add", "t", "--label", "1=Liver", "--adapter", "magic")
    assert printed.status == 1
    assert "contrastive" in printed.error


def test_publishing_too_early_says_what_comes_first(run: Run, organs: str) -> None:
    printed = run("task", "publish", organs)
    assert (printed.status, "template add" in printed.error) == (1, True)


def test_a_folder_without_dicom(run: Run, organs: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no image")
    printed = run("template", "add", organs, "--series", tmp_path / "empty", "--labels", tmp_path / "x.nii.gz")
    assert (printed.status, "holds no DICOM image" in printed.error) == (1, True)
    printed = run("route", "explain", tmp_path / "absent")
    assert (printed.status, "is no folder" in printed.error) == (1, True)


def test_a_folder_of_two_series(run: Run, phantom: Phantom, organs: str, tmp_path: Path) -> None:
    for salt in ("one", "two"):
        write_series(phantom, tmp_path / "both" / salt, patient_index=5, salt=salt)
    printed = run("run", tmp_path / "both", "--task", organs, "--out", tmp_path / "out")
    assert printed.status == 1
    assert "holds 2 series" in printed.error or "not been published" in printed.error or "no published" in printed.error


def test_labels_on_another_grid(run: Run, organs: str, series: PhantomSeries, tmp_path: Path) -> None:
    other = tmp_path / "other.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.ones((4, 4, 4), np.uint8), np.eye(4)), other)
    printed = run("template", "add", organs, "--series", series.folder, "--labels", other)
    assert printed.status == 1
    assert "other.nii.gz" in printed.error
    assert "4 x 4 x 4" in printed.error


def test_labels_that_the_task_does_not_have(
    run: Run, organs: str, series: PhantomSeries, phantom: Phantom, tmp_path: Path
) -> None:
    labels = tmp_path / "labels.nii.gz"
    write_labels_nifti(phantom, labels)
    printed = run("template", "add", organs, "--series", series.folder, "--labels", labels)
    assert printed.status == 1
    assert "--ignore-others" in printed.error
    assert run("template", "add", organs, "--series", series.folder, "--labels", labels, "--ignore-others").status == 0
    assert run("task", "list").out.count("organs") == 1


def test_a_label_file_that_is_none(run: Run, organs: str, series: PhantomSeries, tmp_path: Path) -> None:
    labels = tmp_path / "labels.nii.gz"
    labels.write_bytes(b"no NIfTI at all")
    printed = run("template", "add", organs, "--series", series.folder, "--labels", labels)
    assert (printed.status, "labels.nii.gz" in printed.error) == (1, True)


def test_route_explain_prints_every_rule(run: Run, organs: str, series: PhantomSeries) -> None:
    assert "no task is published" in run("route", "explain", series.folder).out


def test_the_pacs_is_not_there(run: Run) -> None:
    printed = run("pacs", "echo")
    assert printed.status == 1
    assert "127.0.0.1:1" in printed.error


def test_a_taken_port(run: Run, home: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        home.write_text(home.read_text().replace("port = 1\n[pacs]", f"port = {port}\n[pacs]"))
        printed = run("serve")
    assert printed.status == 78
    assert f"127.0.0.1:{port}" in printed.error
    assert "receive.port" in printed.error


def test_a_misspelt_setting(run: Run, home: Path) -> None:
    home.write_text("[receive]\nprot = 1\n")
    printed = run("series", "list")
    assert printed.status == 78
    assert "did you mean port?" in printed.error


def test_a_series_that_nobody_sent(run: Run) -> None:
    assert "no series" in run("series", "list").out
    for command in ("show", "retry", "close"):
        printed = run("series", command, "1.2.3")
        assert (printed.status, "1.2.3" in printed.error) == (1, True)


def test_a_checkpoint_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        load_models(WorkerSettings(encoder=str(tmp_path)))
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        load_models(WorkerSettings(sam=str(tmp_path)))


def test_doctor_names_what_is_wrong_and_goes_on(run: Run, home: Path) -> None:
    home.write_text(home.read_text() + f'[worker]\nencoder = "{home.parent}"\n')
    printed = run("doctor")
    assert printed.status == 1
    assert "FAIL models" in printed.out
    assert "FAIL Prefect" in printed.out
    assert "FAIL PACS" in printed.out
    assert "ok   home" in printed.out
