"""dicom3tools as a second opinion: its errors refuse, and none of the values that it quotes gets any further."""

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from fewshot_node.dicom.objects.checks import dciodvfy
from fewshot_node.dicom.objects.checks.dciodvfy import reported_errors
from fewshot_node.dicom.objects.conformance import check_file
from fewshot_node.dicom.objects.seg import write_segmentation
from fewshot_node.errors import ConformanceError
from tests.dicom.objects.conftest import SeriesSpec, case_of, write_files
from tests.dicom.objects.test_seg_kinds import of_kind


@pytest.fixture
def tool(require_tool: Callable[[str], str]) -> str:
    return require_tool("dciodvfy")


@pytest.fixture
def verdict(tool: str, tmp_path: Path) -> Callable[[Any, Dataset], list[str]]:
    def ask(made: Any, dataset: Dataset) -> list[str]:
        path = tmp_path / "object.dcm"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset.save_as(path)
        return [str(fault) for fault in reported_errors(path, dataset, made.origin.sources[0], tool)]

    return ask


@pytest.mark.dicom3tools
def test_good_objects_have_no_error(made: Any, verdict: Callable[[Any, Dataset], list[str]]) -> None:
    for dataset in (made.segmentation, made.report, made.landmarks):
        assert verdict(made, dataset) == []


@pytest.mark.dicom3tools
def test_errors_are_told_by_path_and_rule_and_without_values(
    made: Any, verdict: Callable[[Any, Dataset], list[str]]
) -> None:
    segmentation = made.segmentation
    del segmentation.SegmentSequence[1].SegmentLabel
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        segmentation.SeriesDescription = "SECRET-ID " * 8
        segmentation.Modality = "SECRET"
        segmentation.StudyDate = "SECRET"
        segmentation.ContentLabel = "A> - SECRET = <B> - Module=<SECRET>"
    faults = verdict(made, segmentation)
    assert "SECRET" not in str(faults)
    assert "SegmentSequence[2]/SegmentLabel dciodvfy: Missing attribute for Type 1 Required, module " in str(faults)
    paths = {fault.split(" ")[0].partition("[")[0] for fault in faults}
    assert paths >= {"SegmentSequence", "SeriesDescription", "Modality", "StudyDate", "ContentLabel"}


@pytest.mark.dicom3tools
def test_what_the_source_has_wrong_does_not_refuse(
    make: Callable[..., Any], verdict: Callable[[Any, Dataset], list[str]]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = make(changes={"PatientBirthDate": "about 1950", "PatientSex": "X", "FrameOfReferenceUID": "1.02.3"})
        assert verdict(made, made.segmentation) == []
        assert verdict(made, made.landmarks) == []
        made.segmentation.PatientSex = "Z"
    assert verdict(made, made.segmentation) != []


@pytest.mark.dicom3tools
def test_a_file_that_has_lost_its_end_is_refused(made: Any, tool: str, tmp_path: Path) -> None:
    path = tmp_path / "short.dcm"
    made.report.save_as(path)
    path.write_bytes(path.read_bytes()[:-100])
    faults = reported_errors(path, made.report, made.origin.sources[0], tool)
    assert "the file cannot be read whole by dciodvfy" in map(str, faults)


@pytest.mark.dicom3tools
def test_a_class_that_the_tool_does_not_know_is_not_judged(
    made: Any, verdict: Callable[[Any, Dataset], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    made.report.SOPClassUID = made.report.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.66.7"
    with caplog.at_level(logging.INFO):
        assert verdict(made, made.report) == []
    assert "does not know SOP class" in caplog.text


@pytest.mark.parametrize("script", ["sleep 60", "exec ./absent"])
def test_a_tool_that_hangs_or_fails_holds_nothing_up(
    made: Any, tmp_path: Path, script: str, caplog: pytest.LogCaptureFixture
) -> None:
    tool = tmp_path / "tool"
    tool.write_text(f"#!/bin/sh\nexec {script}\n")
    tool.chmod(0o755 if "sleep" in script else 0o644)
    path = tmp_path / "object.dcm"
    assert reported_errors(path, made.segmentation, made.origin.sources[0], str(tool), limit_s=0.2) == []
    assert "gave no answer" in caplog.text


@pytest.mark.dicom3tools
def test_the_gate_refuses_what_the_tool_refuses(made: Any, tool: str, tmp_path: Path) -> None:
    path = tmp_path / "object.dcm"
    made.segmentation.PhotometricInterpretation = "RGB"
    made.segmentation.save_as(path)
    with pytest.raises(ConformanceError, match=r"PhotometricInterpretation(\[1\])? dciodvfy: "):
        check_file(path, made.segmentation, made.origin)


def test_a_machine_without_the_tool_goes_on(made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    dciodvfy.installed.cache_clear()
    try:
        check_file(tmp_path / "absent.dcm", made.segmentation, made.origin)
    finally:
        dciodvfy.installed.cache_clear()


@pytest.mark.dicom3tools
@pytest.mark.parametrize("kind", ["binary", "fractional"])
def test_of_many_frames_the_tool_sees_some(tool: str, tmp_path: Path, kind: Any) -> None:
    """On 2000 frames the tool takes a minute."""
    spec = SeriesSpec(slices=100, rows=15, columns=9, modality="MR", multi_frame=True)
    case = of_kind(case_of(write_files(spec, tmp_path / "series")), kind, "keep")
    segmentation = write_segmentation(case.result, case.volume, case.sources, case.uids)
    assert segmentation.NumberOfFrames == 300
    folder = tmp_path / "result"
    folder.mkdir()
    path = folder / "segmentation.dcm"
    segmentation.save_as(path)
    before = path.read_bytes()
    assert reported_errors(path, segmentation, case.sources[0], tool) == []
    del segmentation.SegmentSequence[0].SegmentLabel
    assert "SegmentSequence[1]/SegmentLabel" in str(reported_errors(path, segmentation, case.sources[0], tool))
    assert (path.read_bytes(), list(folder.iterdir())) == (before, [path]), "nothing is left"
    assert len(segmentation.PerFrameFunctionalGroupsSequence) == 300
