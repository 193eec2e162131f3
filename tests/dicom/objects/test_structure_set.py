"""RT Structure Sets: what their outlines enclose is the mask, in mm, on the source's planes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.path import Path as Polygon
from pydicom.dataset import Dataset

from fewshot_node.dicom.objects.conformance import find_faults
from fewshot_node.dicom.objects.outbox import write_result_files
from fewshot_node.dicom.objects.outlines import outlines
from fewshot_node.dicom.objects.structure_set import write_structure_set
from fewshot_node.output import OutputSettings
from fewshot_node.records import TaskKind
from fewshot_node.tasks.annotations import rtstruct
from fewshot_node.tasks.annotations.records import Target
from tests.dicom.objects.conftest import KIDNEY, LIVER, SPLEEN, Case

Write = Callable[..., list[Path]]


def area(outline: np.ndarray) -> float:
    rows, columns = outline.T
    return 0.5 * abs(float(np.dot(rows, np.roll(columns, 1)) - np.dot(columns, np.roll(rows, 1))))


def filled(parts: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Count how many outlines each pixel's centre lies in, by matplotlib."""
    centres = np.argwhere(np.ones(shape, dtype=bool))
    inside = [Polygon(part, closed=False).contains_points(centres).reshape(shape) for part in parts]
    return np.sum(inside, axis=0, dtype=int) if inside else np.zeros(shape, dtype=int)


@settings(max_examples=150, deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))), st.sampled_from([4, 8, 1000]))
def test_outlines_of_any_mask_enclose_it_once(mask: np.ndarray, most_corners: int) -> None:
    parts = list(outlines(mask, most_corners))
    assert np.array_equal(filled(parts, mask.shape), mask.astype(int))
    assert sum(area(part) for part in parts) == mask.sum()
    assert all(len(part) >= 4 for part in parts)


def test_a_rectangle_has_four_corners_and_a_ring_two_outlines() -> None:
    mask = np.zeros((6, 7), dtype=bool)
    mask[1:5, 2:6] = True
    (rectangle,) = outlines(mask, 100)
    assert rectangle.tolist() == [[0.5, 1.5], [0.5, 5.5], [4.5, 5.5], [4.5, 1.5]]
    mask[2:4, 3:5] = False
    assert len(list(outlines(mask, 100))) == 2
    assert [len(part) for part in outlines(np.eye(3, dtype=bool), 100)] == [4, 4, 4]


def regions(structures: Dataset) -> dict[str, list[Dataset]]:
    names = {item.ROINumber: item.ROIName for item in structures.StructureSetROISequence}
    return {
        names[item.ReferencedROINumber]: list(item.get("ContourSequence", [])) for item in structures.ROIContourSequence
    }


def voxels_mm(structures: Dataset, case: Case, name: str) -> set[tuple[float, ...]]:
    """Rasterise the contours of a region on the images that they name, by those images' own attributes."""
    headers = {str(source.SOPInstanceUID): source for source in case.sources}
    found: set[tuple[float, ...]] = set()
    for contour in regions(structures)[name]:
        image = contour.ContourImageSequence[0]
        position, row_axis, column_axis = plane(
            headers[image.ReferencedSOPInstanceUID], image.get("ReferencedFrameNumber")
        )
        places = np.array(contour.ContourData, dtype=float).reshape(-1, 3) - position
        assert np.abs(places @ np.cross(row_axis, column_axis)).max() < 0.002, "in the plane of its image"
        axes = np.stack([column_axis, row_axis])  # rows go along the column's direction
        corners = places @ axes.T / np.sum(axes**2, axis=1)
        for row, column in np.argwhere(filled([corners], case.volume.array.shape[1:])):
            found.add(tuple(np.round(position + row * column_axis + column * row_axis, 2) + 0.0))
    return found


def plane(header: Dataset, frame: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give the first pixel's place, and the steps to the next column and to the next row, in mm."""
    if frame is None:
        position, cosines, spacing = header.ImagePositionPatient, header.ImageOrientationPatient, header.PixelSpacing
    else:
        shared = header.SharedFunctionalGroupsSequence[0]
        position = header.PerFrameFunctionalGroupsSequence[frame - 1].PlanePositionSequence[0].ImagePositionPatient
        cosines = shared.PlaneOrientationSequence[0].ImageOrientationPatient
        spacing = shared.PixelMeasuresSequence[0].PixelSpacing
    axes = np.array(cosines, dtype=float)
    return np.array(position, dtype=float), axes[:3] * float(spacing[1]), axes[3:] * float(spacing[0])


def ring(case: Case) -> Case:
    """Give the liver a hole and a second piece of one pixel."""
    label_map = case.result.label_map.copy()
    label_map[:, 4:6, 5] = 0
    label_map[0, 15, 11] = LIVER.value
    return replace(case, result=replace(case.result, label_map=label_map))


def test_masks_come_back_in_mm_and_the_gate_lets_them_out(
    write_series: Write, any_spec: Any, make_case: Any, dciodvfy_errors: Any, tmp_path: Path
) -> None:
    case = ring(make_case(write_series(any_spec)))
    structures = write_structure_set(case.result, case.volume, case.sources, case.uids)
    assert list(find_faults(structures, case.origin())) == []
    structures.save_as(tmp_path / "structures.dcm", enforce_file_format=True)
    assert dciodvfy_errors(tmp_path / "structures.dcm") == []
    read = pydicom.dcmread(tmp_path / "structures.dcm")
    assert list(regions(read)) == ["liver", "left kidney", "spleen"]
    for label in (LIVER, KIDNEY, SPLEEN):
        voxels = np.argwhere(case.result.label_map == label.value)
        expected = {tuple(np.round(place, 2) + 0.0) for place in case.volume.to_mm(voxels)}
        assert voxels_mm(read, case, label.name) == expected
    assert regions(read)["spleen"] == [], "looked for, and not there"


def test_it_comes_back_as_labels_of_a_template(
    write_series: Write, any_spec: Any, make_case: Any, tmp_path: Path
) -> None:
    """The reader of templates was written for the structure sets of others."""
    case = ring(make_case(write_series(any_spec)))
    structures = write_structure_set(case.result, case.volume, case.sources, case.uids)
    read = rtstruct.read(structures, Target(tmp_path / "structures.dcm", case.volume))
    assert [region.names[0] for region in read.regions] == ["liver", "left kidney"]
    for region, label in zip(read.regions, (LIVER, KIDNEY), strict=True):
        assert np.array_equal(region.draw(), case.result.label_map == label.value)
        assert region.type == label.type


def test_landmarks_are_points(write_series: Write, any_spec: Any, make_case: Any) -> None:
    case = make_case(write_series(any_spec), TaskKind.LANDMARKS)
    structures = write_structure_set(case.result, case.volume, case.sources, case.uids)
    assert list(find_faults(structures, case.origin())) == []
    (contour,) = regions(structures)["liver"]
    assert contour.ContourGeometricType == "POINT"
    assert np.allclose([float(value) for value in contour.ContourData], case.result.findings[0].point_mm, atol=0.001)


def test_the_same_input_gives_the_same_object_and_another_mask_another_uid(
    write_series: Write, spec: Any, make_case: Any
) -> None:
    case = make_case(write_series(spec))
    first, again = (write_structure_set(case.result, case.volume, case.sources, case.uids) for _ in range(2))
    assert first == again
    changed = ring(case)
    other = write_structure_set(changed.result, changed.volume, changed.sources, changed.uids)
    assert other.SOPInstanceUID != first.SOPInstanceUID
    assert other.SeriesInstanceUID == first.SeriesInstanceUID


def test_codes_names_and_colours(write_series: Write, spec: Any, make_case: Any) -> None:
    case = make_case(write_series(spec))
    structures = write_structure_set(case.result, case.volume, case.sources, case.uids)
    codes = [item.RTROIIdentificationCodeSequence[0].CodeValue for item in structures.RTROIObservationsSequence]
    assert codes == ["10200004", "64033007", "78961009"]
    assert {item.RTROIInterpretedType for item in structures.RTROIObservationsSequence} == {"ORGAN"}
    assert len({tuple(item.ROIDisplayColor) for item in structures.ROIContourSequence}) == 3
    assert (structures.ApprovalStatus, structures.SeriesDescription) == ("UNAPPROVED", "AI abdomen rev 3 structure set")


def test_a_contour_that_leaves_its_plane_does_not_leave(write_series: Write, spec: Any, make_case: Any) -> None:
    case = make_case(write_series(spec))
    structures = write_structure_set(case.result, case.volume, case.sources, case.uids)
    contour = structures.ROIContourSequence[0].ContourSequence[1]
    contour.ContourData = [
        *list(contour.ContourData)[:2],
        float(contour.ContourData[2]) + 0.1,
        *contour.ContourData[3:],
    ]
    path = "ROIContourSequence[1]/ContourSequence[2]/ContourData"
    assert list(map(str, find_faults(structures, case.origin()))) == [f"{path} leaves the plane of its image"]


def test_a_long_outline_is_cut_so_that_its_coordinates_fit(write_series: Write, spec: Any, make_case: Any) -> None:
    case = make_case(write_series(spec, slices=1, rows=128, columns=128))
    label_map = np.zeros_like(case.result.label_map)
    label_map[0, 2:126:3, 2:126] = LIVER.value  # a comb with combs on its teeth
    label_map[0, 3:126:3, 2:126:2] = LIVER.value
    label_map[0, 2:126, 64] = LIVER.value
    (whole,) = outlines(label_map[0] > 0, 10**6)
    assert len(whole) > 3000
    result = replace(case.result, label_map=label_map)
    structures = write_structure_set(result, case.volume, case.sources, case.uids)
    contours = regions(structures)["liver"]
    assert max(len("\\".join(map(str, contour.ContourData))) for contour in contours) < 65534
    assert voxels_mm(structures, case, "liver") == {
        tuple(np.round(place, 2) + 0.0) for place in case.volume.to_mm(np.argwhere(label_map == LIVER.value))
    }


def test_it_is_delivered_with_the_others_and_the_report_refers_to_it(
    write_series: Write, spec: Any, make_case: Any, tmp_path: Path
) -> None:
    case = make_case(write_series(spec))
    result = replace(case.result, output=OutputSettings(rtstruct=True))
    files = write_result_files(result, case.volume, case.files, case.uids, tmp_path / "task")
    assert [path.name for path in files.paths] == ["segmentation.dcm", "structure-set.dcm", "report.dcm"]
    structures, report = pydicom.dcmread(files.paths[1]), pydicom.dcmread(files.report)
    assert any(element.value == structures.SOPInstanceUID for element in report.iterall() if element.VR == "UI")
