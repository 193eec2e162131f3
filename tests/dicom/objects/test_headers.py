"""What routing sees of a series, and which files belong to it."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from fewshot_node.dicom.objects.geometry import orientation_name
from fewshot_node.dicom.objects.headers import image_headers, read_header, series_in_folder
from fewshot_node.dicom.objects.seg import write_segmentation
from fewshot_node.dicom.objects.volume import read_volume
from fewshot_node.errors import NotDicomError, SeriesError

Write = Callable[..., list[Path]]


@pytest.mark.parametrize(
    ("cosines", "name"),
    [
        ((1, 0, 0, 0, 1, 0), "axial"),
        ((-1, 0, 0, 0, 1, 0), "axial"),
        ((0, 1, 0, 0, 0, -1), "sagittal"),
        ((1, 0, 0, 0, 0, -1), "coronal"),
        ((1, 0, 0, 0, 0.94, 0.342), "axial"),  # 20 degrees
        ((1, 0, 0, 0, 0.866, 0.5), "oblique"),  # 30 degrees
        ((0, 0, 0, 0, 0, 0), "oblique"),
    ],
)
def test_orientation_is_that_of_the_nearest_axis(cosines: tuple[float, ...], name: str) -> None:
    assert orientation_name(cosines) == name


@pytest.mark.parametrize("multi_frame", [False, True])
def test_header_counts_slices_and_names_orientation(write_series: Write, spec: Any, multi_frame: bool) -> None:
    header = read_header(write_series(spec, multi_frame=multi_frame)[::-1])
    assert header.number_of_slices == 6
    assert header.orientation == "axial"
    assert header.sop_class_uid == header.dataset.SOPClassUID
    assert header.dataset.InstanceNumber == 1
    assert header.dataset.Manufacturer == "maker"
    assert "PixelData" not in header.dataset


def test_mixed_orientations_have_no_name(write_series: Write, spec: Any) -> None:
    localizer = {2: {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}}
    assert read_header(write_series(spec, slice_changes=localizer)).orientation is None
    absent = read_header(write_series(spec, "absent", changes={"ImageOrientationPatient": None}))
    assert absent.orientation is None


def test_results_beside_the_images_are_left_out(
    write_series: Write,
    spec: Any,
    make_case: Callable[..., Any],
    save: Callable[[Dataset, str], Path],
) -> None:
    case = make_case(write_series(spec))
    segmentation = write_segmentation(case.result, case.volume, case.sources, case.uids)
    path = save(segmentation, "series/seg.dcm")
    assert read_header([*case.files, path]).number_of_slices == 6
    assert {header.path for header in image_headers([*case.files, path])} == set(case.files)
    with pytest.raises(SeriesError, match="only Segmentation Storage"):
        read_header([path])


def test_the_same_instance_twice_counts_once(write_series: Write, spec: Any, tmp_path: Path) -> None:
    files = write_series(spec)
    copy = tmp_path / "copy.dcm"
    copy.write_bytes(files[0].read_bytes())
    assert read_header([*files, copy]).number_of_slices == 6


def test_two_series_are_refused_by_name(write_series: Write, spec: Any) -> None:
    first = write_series(spec, "first")
    second = write_series(
        spec, "second", changes={"SeriesInstanceUID": "1.2.3"}, slice_changes={0: {"SOPInstanceUID": "1.9"}}
    )
    with pytest.raises(SeriesError, match=r"files of 2 series .*1\.2\.3"):
        read_header([first[0], second[0]])


def test_files_of_a_folder_by_series(write_series: Write, spec: Any, tmp_path: Path) -> None:
    first = write_series(spec, "first")
    second = write_series(spec, "second", changes={"SeriesInstanceUID": "1.2.3"})
    (tmp_path / "README.txt").write_text("no DICOM")
    found = series_in_folder(tmp_path)
    assert set(found) == {"1.2.826.0.1.3680043.8.498.77.2", "1.2.3"}
    assert set(found["1.2.3"]) == set(second)
    assert len(found["1.2.826.0.1.3680043.8.498.77.2"]) == len(first)


@pytest.mark.parametrize(
    "content", [b"", b"no DICOM at all", bytes(128) + b"DICM", bytes(128) + b"DICM" + b"\xff" * 64]
)
def test_what_is_no_dicom_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd.dcm"
    path.write_bytes(content)
    with pytest.raises(NotDicomError, match=r"odd\.dcm"):
        read_header([path])


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotDicomError, match=r"absent\.dcm cannot be read \(No such file"):
        read_header([tmp_path / "absent.dcm"])


def test_nothing_is_no_series() -> None:
    with pytest.raises(SeriesError, match="no image among the files, only nothing"):
        read_header([])


def test_blanked_uids_are_completed_from_what_is_left(write_series: Write, spec: Any) -> None:
    """An export with empty identifying UIDs, as some de-identifiers write them."""
    files = write_series(spec)
    expected = {str(pydicom.dcmread(path).SOPInstanceUID) for path in files}
    for path in files:
        dataset = pydicom.dcmread(path)
        for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
            setattr(dataset, keyword, "")
        dataset.save_as(path)
    header = read_header(files)
    assert header.number_of_slices == 6
    assert str(header.dataset.SOPInstanceUID) in expected
    assert header.dataset.SeriesInstanceUID.startswith("2.25.")
    assert header.dataset.SeriesInstanceUID == read_header(files[3:]).dataset.SeriesInstanceUID
    assert header.dataset.StudyInstanceUID != header.dataset.SeriesInstanceUID


def test_blanked_uids_without_frame_of_reference_are_refused(write_series: Write, spec: Any) -> None:
    files = write_series(spec, frame_of_reference=False, changes={"SeriesInstanceUID": ""})
    with pytest.raises(SeriesError, match="neither SeriesInstanceUID nor Frame of Reference"):
        read_header(files)


def _make_odd(path: Path, keyword: str, text: bytes) -> str:
    """Write a value that pydicom would not; return the instance's UID."""
    dataset = pydicom.dcmread(path)
    tag = Tag(keyword)
    dataset[tag] = RawDataElement(tag, dictionary_VR(tag), len(text), text, 0, False, True)
    dataset.save_as(path)
    return str(dataset.SOPInstanceUID)


@pytest.mark.parametrize(
    ("keyword", "text"),
    [
        ("NumberOfFrames", b"x "),
        ("NumberOfFrames", b"-2"),
        ("NumberOfFrames", b"1.5 "),
        ("NumberOfFrames", b"2\\3 "),
        ("ImageOrientationPatient", b"1\\0\\0\\0\\one\\0 "),
    ],
)
@pytest.mark.parametrize("read", [read_header, read_volume])
def test_odd_numbers_are_named(
    write_series: Write, spec: Any, keyword: str, text: bytes, read: Callable[[list[Path]], object]
) -> None:
    files = write_series(spec)
    uid = _make_odd(files[2], keyword, text)
    with pytest.raises(SeriesError, match=rf"instance {re.escape(uid)}: {keyword} is not .*export") as caught:
        read(files)
    assert "one" not in str(caught.value).split()


@pytest.mark.parametrize("text", [b"thick ", b"nan ", b"3\\4 "])
@pytest.mark.parametrize("keyword", ["SliceThickness", "SpacingBetweenSlices"])
def test_an_odd_thickness_is_named(write_series: Write, spec: Any, keyword: str, text: bytes) -> None:
    files = write_series(spec)
    uid = _make_odd(files[0], keyword, text)
    with pytest.raises(SeriesError, match=rf"instance {re.escape(uid)}: {keyword} is not a number"):
        read_volume(files)


def test_an_odd_instance_number_sorts_last(write_series: Write, spec: Any) -> None:
    files = write_series(spec)
    uid = _make_odd(files[0], "InstanceNumber", b"abc ")
    header = read_header(files)
    assert header.dataset.InstanceNumber == 2
    assert header.number_of_slices == 6
    assert str(read_header(files[:1]).dataset.SOPInstanceUID) == uid
