"""Secondary captures: slices with findings, drawn where the findings are, without the patient's name."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from fewshot_node.dicom.objects.captures import write_captures
from fewshot_node.dicom.objects.conformance import find_faults
from fewshot_node.dicom.objects.outbox import write_result_files
from fewshot_node.output import OutputSettings
from fewshot_node.records import TaskKind
from tests.dicom.objects.conftest import Case

Write = Callable[..., list[Path]]


def captures(case: Case) -> list[pydicom.Dataset]:
    return write_captures(case.result, case.volume, case.sources, case.uids)


def coloured(capture: pydicom.Dataset, rows: int) -> np.ndarray:
    """Tell which pixels above the legend are not gray."""
    picture = capture.pixel_array[:rows].astype(int)
    return np.ptp(picture, axis=2) > 3


def test_each_slice_with_a_finding_is_drawn_and_the_gate_lets_it_out(
    write_series: Write, any_spec: Any, make_case: Any, dciodvfy_errors: Any, tmp_path: Path
) -> None:
    case = make_case(write_series(any_spec, slices=min(any_spec.slices, 3)))
    made = captures(case)
    shown = np.flatnonzero(case.result.label_map.any(axis=(1, 2)))
    assert len(made) == len(shown)
    assert [capture.InstanceNumber for capture in made] == list(range(1, len(made) + 1))
    assert len({(capture.Rows, capture.Columns) for capture in made}) == 1
    scale = 8  # the least side has 12 pixels
    for index, capture in zip(shown, made, strict=True):
        assert list(map(str, find_faults(capture, case.origin()))) == []
        path = tmp_path / f"{index}.dcm"
        capture.save_as(path, enforce_file_format=True)
        assert dciodvfy_errors(path) == []
        mask = case.result.label_map[index] > 0
        assert np.array_equal(
            coloured(capture, scale * mask.shape[0]), np.kron(mask, np.ones((scale, scale), dtype=bool))
        )
        frame = case.volume.frames[index]
        assert capture.SourceImageSequence[0].ReferencedSOPInstanceUID == frame.sop_instance_uid
        assert capture.SourceImageSequence[0].get("ReferencedFrameNumber") == frame.frame_number


def test_a_picture_lies_where_its_slice_lies(write_series: Write, any_spec: Any, make_case: Any) -> None:
    case = make_case(write_series(any_spec))
    capture = captures(case)[-1]
    if not case.volume.frame_of_reference_stated:
        assert "ImagePositionPatient" not in capture
        return
    cosines = np.array(capture.ImageOrientationPatient, dtype=float)
    row_mm, column_mm = (float(value) for value in capture.PixelSpacing)

    def place(row: float, column: float) -> np.ndarray:
        origin = np.array(capture.ImagePositionPatient, dtype=float)
        return origin + cosines[:3] * column_mm * column + cosines[3:] * row_mm * row

    index = int(np.flatnonzero(case.result.label_map.any(axis=(1, 2)))[-1])
    for row, column in ((0, 0), (5, 3), (15, 11)):  # the middle of 8 x 8 pixels is the centre of the slice's one
        expected = case.volume.to_mm(np.array([index, row, column]))
        assert np.abs(place(8 * row + 3.5, 8 * column + 3.5) - expected).max() < 0.001


def test_a_landmark_is_marked_on_its_nearest_slice(write_series: Write, spec: Any, make_case: Any) -> None:
    case = make_case(write_series(spec, slices=5), TaskKind.LANDMARKS)
    (capture,) = captures(case)
    assert capture.SourceImageSequence[0].ReferencedSOPInstanceUID == case.volume.frames[2].sop_instance_uid
    marked = np.argwhere(coloured(capture, 8 * 16))
    assert np.abs(marked.mean(axis=0) + 0.5 - (np.array([4.25, 7.75]) + 0.5) * 8).max() < 1.5
    assert np.ptp(marked, axis=0).max() < 25


def test_nothing_found_gives_no_picture(write_series: Write, spec: Any, make_case: Any) -> None:
    assert captures(make_case(write_series(spec), empty=True)) == []


@pytest.mark.parametrize(
    ("changes", "burned_in", "recognisable"),
    [
        ({}, "NO", "YES"),
        ({"BurnedInAnnotation": "YES"}, "YES", "YES"),
        ({"RecognizableVisualFeatures": "NO"}, "NO", "NO"),
        ({"BurnedInAnnotation": "NO", "RecognizableVisualFeatures": "YES"}, "NO", "YES"),
    ],
)
def test_what_identifies_in_the_source_identifies_in_the_picture(
    write_series: Write, spec: Any, make_case: Any, changes: dict[str, str], burned_in: str, recognisable: str
) -> None:
    case = make_case(write_series(spec, slices=2, changes=changes))
    capture = captures(case)[0]
    assert (capture.BurnedInAnnotation, capture.RecognizableVisualFeatures) == (burned_in, recognisable)
    capture.BurnedInAnnotation = capture.RecognizableVisualFeatures = "NO"
    denied = {str(fault) for fault in find_faults(capture, case.origin())}
    assert denied == {f"{keyword} is NO, and YES in a source" for keyword, value in changes.items() if value == "YES"}


def test_the_patients_name_changes_no_pixel(write_series: Write, spec: Any, make_case: Any) -> None:
    one = captures(make_case(write_series(spec, slices=2)))
    other = captures(make_case(write_series(spec, "other", slices=2, changes={"PatientName": "OTHER^NAME"})))
    assert [capture.PixelData for capture in one] == [capture.PixelData for capture in other]
    assert one[0].SOPInstanceUID != other[0].SOPInstanceUID


@pytest.mark.parametrize(
    ("changes", "low", "high"),
    [
        ({"WindowCenter": "-1000", "WindowWidth": "100"}, -1050, -950),
        ({"WindowCenter": ["-1000", "40"], "WindowWidth": ["100", "400"]}, -1050, -950),
    ],
)
def test_the_sources_window_is_used(
    write_series: Write, spec: Any, make_case: Any, changes: dict[str, Any], low: float, high: float
) -> None:
    case = make_case(write_series(spec, slices=2, changes=changes))
    picture = captures(case)[0].pixel_array[: 8 * 16 : 8, ::8].astype(int)
    free = case.result.label_map[0] == 0
    expected = np.clip((case.volume.array[0] - low) / (high - low), 0, 1) * 255
    assert np.abs(picture[free] - expected[free][:, None]).max() <= 1


@pytest.mark.parametrize(
    "changes", [{"WindowCenter": "1", "WindowWidth": "0"}, {"WindowCenter": "", "WindowWidth": ""}]
)
def test_without_a_window_the_range_of_the_volume_is_shown(
    write_series: Write, spec: Any, make_case: Any, changes: dict[str, Any]
) -> None:
    case = make_case(write_series(spec, slices=2, changes=changes))
    values = [capture.pixel_array[: 8 * 16][~coloured(capture, 8 * 16)] for capture in captures(case)]
    assert min(value.min() for value in values) < 10
    assert max(value.max() for value in values) > 240


def test_a_picture_that_lies_elsewhere_does_not_leave(write_series: Write, spec: Any, make_case: Any) -> None:
    case = make_case(write_series(spec, slices=2))
    capture = captures(case)[0]
    capture.ImagePositionPatient[2] += 1
    assert list(map(str, find_faults(capture, case.origin()))) == [
        "ImagePositionPatient is not the corner of the slice that it shows"
    ]


def test_they_are_delivered_with_the_others_and_the_report_refers_to_them(
    write_series: Write, spec: Any, make_case: Any, tmp_path: Path
) -> None:
    case = make_case(write_series(spec, slices=2))
    result = replace(case.result, output=OutputSettings(overlay="secondary-capture", rtstruct=True))
    first = write_result_files(result, case.volume, case.files, case.uids, tmp_path / "task")
    again = write_result_files(result, case.volume, case.files, case.uids, tmp_path / "again")
    names = ["segmentation.dcm", "structure-set.dcm", "overlay-0001.dcm", "overlay-0002.dcm", "report.dcm"]
    assert [path.name for path in first.paths] == names
    assert [path.read_bytes() for path in first.paths] == [path.read_bytes() for path in again.paths]
    report = pydicom.dcmread(first.report)
    named = {str(element.value) for element in report.iterall() if element.keyword == "ReferencedSOPInstanceUID"}
    assert {str(pydicom.dcmread(path).SOPInstanceUID) for path in first.paths[:-1]} <= named


def test_dciodvfy_sees_one_picture_of_a_series(
    write_series: Write,
    spec: Any,
    make_case: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = make_case(write_series(spec, slices=3))
    seen: list[str] = []

    def note(path: Path, *_: Any) -> None:
        seen.append(path.name)

    monkeypatch.setattr("fewshot_node.dicom.objects.outbox.check_file", note)
    result = replace(case.result, output=OutputSettings(overlay="secondary-capture"))
    write_result_files(result, case.volume, case.files, case.uids, tmp_path / "task")
    assert seen == ["segmentation.dcm", "overlay-0001.dcm", "report.dcm"]
