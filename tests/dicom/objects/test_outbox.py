"""Result files: whole or not at all, and what must not leave is kept for a look."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest

from fewshot_node.dicom.objects.outbox import write_result_files
from fewshot_node.dicom.objects.seg import write_segmentation
from fewshot_node.errors import ConformanceError, DiskFullError, PermanentError
from fewshot_node.records import TaskKind
from tests.dicom.objects.conftest import Case, SeriesSpec


@pytest.fixture
def case(write_series: Callable[..., list[Path]], make_case: Callable[..., Case], spec: SeriesSpec) -> Case:
    return make_case(write_series(spec))


def write(case: Case, folder: Path):
    return write_result_files(case.result, case.volume, case.files, case.uids, folder)


def test_the_segmentation_comes_before_the_report_that_refers_to_it(case: Case, tmp_path: Path) -> None:
    files = write(case, tmp_path / "out" / "task")
    assert [pydicom.dcmread(path).Modality for path in files.paths] == ["SEG", "SR"]
    assert [pydicom.dcmread(path).SOPInstanceUID for path in files.paths] == [
        files.segmentation_instance_uid,
        files.report_instance_uid,
    ]


def test_a_landmark_task_writes_a_report_only(
    write_series: Callable[..., list[Path]], make_case: Callable[..., Case], spec: SeriesSpec, tmp_path: Path
) -> None:
    files = write(make_case(write_series(spec), TaskKind.LANDMARKS), tmp_path / "task")
    assert files.segmentation is None
    assert [path.name for path in files.paths] == ["report.dcm"]
    assert [path.name for path in (tmp_path / "task").iterdir()] == ["report.dcm"]


def test_writing_again_replaces_the_folder_with_the_same_bytes(case: Case, tmp_path: Path) -> None:
    first = {path.name: path.read_bytes() for path in write(case, tmp_path / "task").paths}
    (tmp_path / "task" / "stray").write_text("from an earlier version")
    second = {path.name: path.read_bytes() for path in write(case, tmp_path / "task").paths}
    assert first == second
    assert not (tmp_path / "task" / "stray").exists()


@pytest.mark.parametrize(
    ("number", "kind", "remedy"),
    [
        (errno.ENOSPC, DiskFullError, "free space"),
        (errno.EDQUOT, DiskFullError, "free space"),
        (errno.EROFS, PermanentError, "let the node write there"),
        (errno.EIO, PermanentError, "let the node write there"),
    ],
)
def test_a_failing_disk_is_named_and_leaves_what_was_there(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception], remedy: str
) -> None:
    out = tmp_path / "out"
    (out / "task").mkdir(parents=True)
    (out / "task" / "report.dcm").write_text("of an earlier run")

    def fail(_: int) -> None:
        raise OSError(number, "as the kernel says")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(kind, match=rf"out/task.*as the kernel says.*{remedy}"):
        write(case, out / "task")
    assert [path.name for path in out.iterdir()] == ["task"]
    assert (out / "task" / "report.dcm").read_text() == "of an earlier run"


def test_an_outbox_that_is_a_file_is_not_a_full_disk(case: Case, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(PermanentError, match=r"out/task.*let the node write there"):
        write(case, tmp_path / "out" / "task")


def test_an_object_that_must_not_leave_is_kept_for_a_look(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ConformanceError("the geometry is wrong")

    monkeypatch.setattr("fewshot_node.dicom.objects.outbox.check_object", refuse)
    with pytest.raises(ConformanceError, match="geometry"):
        write(case, tmp_path / "out" / "task")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["task.rejected"]
    assert {path.name for path in (tmp_path / "out" / "task.rejected").iterdir()} == {"segmentation.dcm", "report.dcm"}


def test_what_cannot_even_be_written_does_not_hide_the_refusal(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(result: object, volume: object, sources: object, uids: object) -> pydicom.Dataset:
        broken = write_segmentation(case.result, case.volume, case.sources, case.uids)
        broken.PixelData = None
        return broken

    monkeypatch.setattr("fewshot_node.dicom.objects.outbox.write_segmentation", spoil)
    with pytest.raises(ConformanceError, match="PixelData is absent or empty"):
        write(case, tmp_path / "out" / "task")
    assert "report.dcm" in {path.name for path in (tmp_path / "out" / "task.rejected").iterdir()}


@pytest.mark.dicom3tools
def test_what_only_dciodvfy_refuses_is_kept_too(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, require_tool: Callable[[str], str]
) -> None:
    require_tool("dciodvfy")

    def spoil(result: object, volume: object, sources: object, uids: object) -> pydicom.Dataset:
        broken = write_segmentation(case.result, case.volume, case.sources, case.uids)
        broken.BurnedInAnnotation = "PERHAPS"
        return broken

    monkeypatch.setattr("fewshot_node.dicom.objects.outbox.write_segmentation", spoil)
    with pytest.raises(ConformanceError, match=r"BurnedInAnnotation\S* dciodvfy: "):
        write(case, tmp_path / "out" / "task")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["task.rejected"]
