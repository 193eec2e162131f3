"""What cannot be used is refused with what is wrong, by how many mm, and what to do."""

import json
from collections.abc import Callable
from pathlib import Path

import nrrd
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

from fewshot_node.dicom.objects.seg import write_segmentation
from fewshot_node.dicom.objects.sr import write_report
from fewshot_node.errors import TemplateError
from fewshot_node.records import SourceFrame, TaskKind, Volume
from fewshot_node.tasks.annotations import Target, read_annotation, rtstruct
from fewshot_node.tasks.codes import parse_label
from fewshot_node.tasks.label_files import points_of
from fewshot_node.tasks.selection import TemplateSelection
from fewshot_node.tasks.task import TaskDefinition
from tests.tasks.annotations.conftest import Case

SaveContours = Callable[..., Path]


def item(**values: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


@pytest.fixture
def save_contours(axial: Case, tmp_path: Path) -> SaveContours:
    """Write an RT Structure Set of one ROI with these (x, y, z) points in each contour."""

    def save(*contours: list[list[float]], kind: str = "CLOSED_PLANAR", name: str = "Liver", frame: str = "") -> Path:
        frame = frame or axial.volume.frame_of_reference_uid
        dataset = item(SOPClassUID=RTStructureSetStorage, SOPInstanceUID=generate_uid(), Modality="RTSTRUCT")
        dataset.StructureSetROISequence = [item(ROINumber=7, ROIName=name, ReferencedFrameOfReferenceUID=frame)]
        drawn = [item(ContourGeometricType=kind, ContourData=np.ravel(one).tolist()) for one in contours]
        dataset.ROIContourSequence = [item(ReferencedROINumber=7, ContourSequence=drawn)]
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.save_as(tmp_path / "rs.dcm", enforce_file_format=True)
        return tmp_path / "rs.dcm"

    return save


def square(case: Case, slice_index: float, tilt: float = 0.0) -> list[list[float]]:
    """A square of 20 pixels' side on a slice, in LPS mm."""
    corners = np.array([[0.0, 10, 10], [0.0, 10, 30], [tilt, 30, 30], [tilt, 30, 10]])
    corners[:, 0] += slice_index
    return (corners @ case.phantom.affine[:3, :3].T + case.phantom.affine[:3, 3]).tolist()


def test_contours_on_their_slices_are_taken(axial: Case, save_contours: SaveContours) -> None:
    found = axial.read(save_contours(square(axial, 3)))
    expected = np.zeros_like(axial.truth)
    expected[3, 10:31, 10:31] = 1
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("place", "tilt", "says"),
    [
        (3.4, 0, r"lies up to 8\.00 mm off the slices .* 20\.00 mm apart.*nearest slice with --resample"),
        (3, 0.6, r"lies up to 12\.00 mm off the slices"),
        (
            11,
            0,
            r"a contour of Liver at x .* lies outside series .*which spans x .*drop what lies outside with --resample",
        ),
    ],
)
def test_contours_beside_the_slices(
    axial: Case, save_contours: SaveContours, place: float, tilt: float, says: str
) -> None:
    with pytest.raises(TemplateError, match=says):
        axial.read(save_contours(square(axial, place, tilt)))


def test_contours_beside_the_slices_are_taken_when_told(axial: Case, save_contours: SaveContours) -> None:
    found = axial.read(save_contours(square(axial, 3.4), square(axial, 40)), resample=True)
    assert np.flatnonzero(found.any(axis=(1, 2))).tolist() == [3]
    with pytest.raises(TemplateError, match=r"Liver marks no pixel of series .* give the series that it was drawn on"):
        axial.read(save_contours(square(axial, 40)), resample=True)


@pytest.mark.parametrize("values", [[1.0, 2.0], ["a", 1, 2], [float("nan"), 1, 2]])
def test_contours_that_are_no_points(axial: Case, save_contours: SaveContours, values: list[object]) -> None:
    path = save_contours(square(axial, 3))
    dataset = pydicom.dcmread(path)
    contour = dataset.ROIContourSequence[0].ContourSequence[0]
    contour["ContourData"] = pydicom.DataElement(
        0x30060050, "DS", values, validation_mode=pydicom.config.IGNORE, already_converted=True
    )
    (region,) = rtstruct.read(dataset, Target(path, axial.volume)).regions
    with pytest.raises(TemplateError, match="a contour of Liver is"):
        region.draw()


def test_another_frame_of_reference(axial: Case, save_contours: SaveContours) -> None:
    path = save_contours(square(axial, 3), frame="1.2.3.4")
    for resample in (False, True):
        with pytest.raises(TemplateError, match=r"has Frame of Reference 1\.2\.3\.4.*register it to this series"):
            axial.read(path, resample=resample)


def test_segments_of_another_series_of_the_scan(cases: dict[str, Case], axial: Case, tmp_path: Path) -> None:
    """The same scan as one multi-frame instance: told apart by its UID, taken by its place in mm when told."""
    other = cases["multi-frame"]
    written = write_segmentation(other.result(other.truth.astype(np.uint8)), other.volume, other.sources, other.uids)
    written.save_as(tmp_path / "seg.dcm")
    with pytest.raises(TemplateError, match=r"belongs to series .* by their place in mm with --resample"):
        axial.read(tmp_path / "seg.dcm")
    np.testing.assert_array_equal(axial.read(tmp_path / "seg.dcm", resample=True), axial.truth)


def test_report_that_only_refers_to_a_segmentation(axial: Case, tmp_path: Path) -> None:
    result = axial.result(axial.truth.astype(np.uint8))
    segmentation = write_segmentation(result, axial.volume, axial.sources, axial.uids)
    write_report(result, axial.volume, axial.sources, axial.uids, segmentation).save_as(tmp_path / "sr.dcm")
    with pytest.raises(TemplateError, match="only refers to a segmentation: give that DICOM SEG"):
        axial.read(tmp_path / "sr.dcm")


def test_a_point_where_a_structure_is_learnt(axial: Case, save_contours: SaveContours) -> None:
    path = save_contours(square(axial, 3)[:1], kind="POINT")
    with pytest.raises(TemplateError, match=r"\(RTSTRUCT\) holds 1 points and no structure: .* give labelled regions"):
        axial.read(path)
    poles = TaskDefinition("poles", TaskKind.LANDMARKS, (parse_label("1=Liver", TaskKind.LANDMARKS),))
    target = Target(path, axial.volume)
    (point,) = points_of(read_annotation(target), target, poles, TemplateSelection())
    assert (point.slice_index, round(point.row, 3), round(point.column, 3)) == (3, 10.0, 10.0)


@pytest.mark.parametrize(
    ("markups", "says"),
    [
        ({"type": "Line"}, "holds markups of type Line: give a point list"),
        ({"type": "Fiducial", "coordinateUnits": "cm"}, "is not in mm"),
        ({"type": "Fiducial", "coordinateSystem": "IJK"}, "states neither LPS nor RAS"),
        ({"type": "Fiducial", "coordinateSystem": "LPS", "controlPoints": [3]}, "control point 1 is no object"),
        ({"type": "Fiducial", "coordinateSystem": "LPS", "controlPoints": [{"position": [1, 2]}]}, "not three numbers"),
    ],
)
def test_markups(axial: Case, tmp_path: Path, markups: dict[str, object], says: str) -> None:
    (tmp_path / "m.json").write_text(json.dumps({"markups": [markups]}))
    with pytest.raises(TemplateError, match=says):
        axial.read(tmp_path / "m.json")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"slices": [{"png": "a.png", "slice_index": 99}]}, "'a.png' is on no slice .* which has the slices 0 to 7"),
        ({"slices": [{"png": "a.png", "sop_instance_uid": "1.2"}]}, "is on no slice"),
        ({"slices": [{"png": "../a.png", "slice_index": 1}]}, "is no PNG beside it"),
        ({"slices": [{"png": "/etc/passwd", "slice_index": 1}]}, "is no PNG beside it"),
        ({"slices": [{"png": "none.png", "slice_index": 1}]}, "cannot be read as PNG"),
        ({"slices": [{"png": "a.png", "slice_index": 1}] * 2}, "gives slice 1 twice"),
        ({"slices": [{"png": "turned.png", "slice_index": 1}]}, "has 64 x 56 pixels, the slices .* 56 x 64"),
        ({"slices": [{"png": "red.png", "slice_index": 1}]}, "holds the colour #ff0000, which its labels do not name"),
        (
            {"slices": [{"png": "a.png", "slice_index": 1}], "labels": {"red": "Liver"}},
            "neither a label value nor a colour",
        ),
        ({"slices": [{"png": "a.png", "slice_index": 1}], "labels": [1]}, "labels is no object of names"),
    ],
)
def test_pictures(axial: Case, tmp_path: Path, data: dict[str, object], says: str) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    Image.fromarray(np.ones((56, 64), np.uint8)).save(folder / "a.png")
    Image.fromarray(np.ones((56, 64), np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(np.ones((64, 56), np.uint8)).save(folder / "turned.png")
    Image.fromarray(np.tile(np.array([255, 0, 0], np.uint8), (56, 64, 1))).save(folder / "red.png")
    (folder / "l.json").write_text(json.dumps(data))
    with pytest.raises(TemplateError, match=says):
        axial.read(folder / "l.json")


def test_one_picture_of_a_single_structure(tmp_path: Path) -> None:
    """A mask of 0 and 255 needs neither names nor a map where the task has one label and the series one slice."""
    frames = (SourceFrame("1.2.840.10008.5.1.4.1.1.7", "1.2.1"),)
    volume = Volume(np.zeros((1, 20, 30), np.float32), np.eye(4), frames, "DX", "1.2", "1.2.3", "1.2.4")
    mask = np.zeros((20, 30), bool)
    mask[4:9, 20:25] = True
    Image.fromarray(mask).save(tmp_path / "mask.png")
    case = Case(None, None, volume, TaskDefinition("t", TaskKind.SEGMENTATION, (parse_label("3=Liver"),)))  # type: ignore[arg-type]
    Image.fromarray((mask * 255).astype(np.uint8)).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(case.read(tmp_path / "mask.png")[0], mask * 3)


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ({}, "states no place in space"),
        (
            {"space": "scanner-xyz", "space directions": np.eye(3), "space origin": [0, 0, 0]},
            "states no place in the patient",
        ),
        (
            {"space": "LPS", "space directions": np.zeros((3, 3)), "space origin": [0, 0, 0]},
            "states no place in the patient",
        ),
    ],
)
def test_nrrd(axial: Case, tmp_path: Path, header: dict[str, object], says: str) -> None:
    nrrd.write(str(tmp_path / "l.nrrd"), np.ones((4, 5, 6), np.uint8), header)
    with pytest.raises(TemplateError, match=says):
        axial.read(tmp_path / "l.nrrd")


def test_nrrd_that_points_elsewhere(axial: Case, tmp_path: Path) -> None:
    (tmp_path / "l.nhdr").write_text(
        "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 4 4 4\nencoding: raw\ndata file: /etc/passwd\n\n"
    )
    with pytest.raises(TemplateError, match="keeps its data in another file"):
        axial.read(tmp_path / "l.nhdr")


def test_nrrd_of_absurd_size(axial: Case, tmp_path: Path) -> None:
    head = "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 99999999 99999999 9\nencoding: raw\n\n"
    (tmp_path / "l.nrrd").write_text(head)
    with pytest.raises(TemplateError, match="is no volume of labels"):
        axial.read(tmp_path / "l.nrrd")
