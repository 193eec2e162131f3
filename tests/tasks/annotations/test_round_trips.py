"""What is written in each format comes back at the same place in mm."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import nibabel as nib
import nrrd
import numpy as np
import pydicom
import pytest
from highdicom import sr
from PIL import Image
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid
from rt_utils import RTStructBuilder
from scipy.ndimage import binary_fill_holes
from skimage.measure import find_contours

from fewshot_node.dicom.objects.seg import write_segmentation
from fewshot_node.dicom.objects.sr import write_report
from fewshot_node.dicom.objects.structure_set import write_structure_set
from fewshot_node.errors import TemplateError
from fewshot_node.evaluation.phantom_series import write_labels_nifti
from fewshot_node.records import StructureFinding, TaskKind
from fewshot_node.tasks.annotations import Target, read_annotation
from fewshot_node.tasks.codes import parse_label
from fewshot_node.tasks.label_files import points_of
from fewshot_node.tasks.selection import TemplateSelection
from fewshot_node.tasks.task import TaskDefinition
from tests.tasks.annotations.conftest import LABELS, Case

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*(is_little_endian|is_implicit_VR|write_like_original):DeprecationWarning"),
]  # rt-utils 1.2.7 uses names that pydicom 4 will not have

Check = Callable[[np.ndarray], None]
NAMES = {1: "Liver", 2: "Spleen", 3: "Kidney_L", 4: "right kidney"}
"""As others would write them."""


def write_rtstruct(case: Case, path: Path) -> Path:
    """Write regions with rt-utils."""
    builder = RTStructBuilder.create_new(dicom_series_path=str(case.series.folder))
    for value, name in NAMES.items():
        builder.add_roi(mask=(case.truth == value).transpose(1, 2, 0), name=name)
    builder.save(str(path))
    return path


def polygons(mask: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Outlines of a mask by marching squares: slice, and closed (row, column) vertices."""
    for index in np.flatnonzero(mask.any(axis=(1, 2))):
        for vertices in find_contours(np.pad(mask[index], 1).astype(float), 0.5):
            yield int(index), vertices - 1


def regions(case: Case, value: int, in_mm: bool) -> Iterator[sr.ImageRegion | sr.ImageRegion3D]:
    for index, vertices in polygons(case.truth == value):
        if in_mm:
            places = np.column_stack([np.full(len(vertices), index), vertices])
            mm = places @ case.phantom.affine[:3, :3].T + case.phantom.affine[:3, 3]
            yield sr.ImageRegion3D(sr.GraphicTypeValues3D.POLYGON, mm, case.volume.frame_of_reference_uid)
        else:
            frame = case.volume.frames[index]
            number = None if frame.frame_number is None else [frame.frame_number]
            image = sr.SourceImageForRegion(frame.sop_class_uid, frame.sop_instance_uid, number)
            yield sr.ImageRegion(sr.GraphicTypeValues.POLYLINE, vertices[:, ::-1] + 0.5, image)


FINDINGS = (
    (1, "a", codes.SCT.Liver, None),
    (2, "b", codes.SCT.Spleen, None),
    (3, "c", codes.SCT.Kidney, codes.SCT.Left),
    (4, "d", codes.SCT.Kidney, codes.SCT.Right),
)
"""Label value, what the reader calls it, its code and side."""


def groups(case: Case, in_mm: bool) -> Iterator[object]:
    """One planar ROI group (TID 1410) for each outline in mm, or one volumetric group (TID 1411) on images."""
    for value, name, code, side in FINDINGS:
        common = {
            "tracking_identifier": sr.TrackingIdentifier(generate_uid(), name),
            "finding_type": code,
            "finding_sites": [sr.FindingSite(code, laterality=side)] if side else None,
        }
        drawn = list(regions(case, value, in_mm))
        if in_mm:
            for region in drawn:
                yield sr.PlanarROIMeasurementsAndQualitativeEvaluations(referenced_region=region, **common)
        else:
            yield sr.VolumetricROIMeasurementsAndQualitativeEvaluations(referenced_regions=drawn, **common)


def write_regions_report(case: Case, path: Path, in_mm: bool) -> Path:
    observer = sr.ObserverContext(codes.DCM.Person, sr.PersonObserverIdentifyingAttributes("Reader^A"))
    report = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_person_context=observer),
        procedure_reported=codes.cid100.CTUnspecifiedBodyRegion,
        imaging_measurements=list(groups(case, in_mm)),
    )
    document = sr.Comprehensive3DSR(
        evidence=case.sources,
        content=report[0],
        series_instance_uid=generate_uid(),
        series_number=9,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="test",
    )
    document.save_as(path)
    return path


def test_segmentation(case: Case, check_mm: Check, tmp_path: Path) -> None:
    written = write_segmentation(case.result(case.truth.astype(np.uint8)), case.volume, case.sources, case.uids)
    written.save_as(tmp_path / "anything.bin")
    check_mm(case.read(tmp_path / "anything.bin"))


def test_rtstruct(case: Case, cases: dict[str, Case], check_mm: Check, tmp_path: Path) -> None:
    multi_frame = case is cases["multi-frame"]  # rt-utils knows single frames only: contours of the same scan
    path = write_rtstruct(cases["axial"] if multi_frame else case, tmp_path / "contours.dcm")
    if multi_frame:
        with pytest.raises(TemplateError, match=f"belongs to series {cases['axial'].volume.series_instance_uid}"):
            case.read(path)
    check_mm(case.read(path, resample=multi_frame))


def test_own_structure_set(case: Case, check_mm: Check, tmp_path: Path) -> None:
    result = case.result(case.truth.astype(np.uint8))
    write_structure_set(result, case.volume, case.sources, case.uids).save_as(tmp_path / "own.dcm")
    check_mm(case.read(tmp_path / "own.dcm"))


def test_report_of_volumes_on_images(case: Case, check_mm: Check, tmp_path: Path) -> None:
    check_mm(case.read(write_regions_report(case, tmp_path / "report.dcm", in_mm=False)))


def test_report_of_areas_in_mm(case: Case, tmp_path: Path) -> None:
    """A planar ROI is one outline, so what a hole's outline would leave out stays in."""
    expected = np.zeros_like(case.truth)
    for value in (1, 2, 3, 4):
        for plane, mask in zip(expected, case.truth == value, strict=True):
            plane[binary_fill_holes(mask, np.ones((3, 3)))] = value
    found = case.read(write_regions_report(case, tmp_path / "report.dcm", in_mm=True))
    np.testing.assert_array_equal(found, expected)


def test_nifti(case: Case, check_mm: Check, tmp_path: Path) -> None:
    write_labels_nifti(case.phantom, tmp_path / "labels.nii.gz")
    (tmp_path / "labels.nii.gz").rename(tmp_path / "labels")  # content says what it is
    check_mm(case.read(tmp_path / "labels", ignore_others=True))


@pytest.mark.parametrize("space", ["left-posterior-superior", "right-anterior-superior"])
def test_nrrd(case: Case, check_mm: Check, tmp_path: Path, space: str) -> None:
    affine = (np.eye(4) if space.startswith("left") else np.diag([-1.0, -1, 1, 1])) @ case.phantom.affine
    header = {"space": space, "space directions": affine[:3, [2, 1, 0]].T, "space origin": affine[:3, 3]}
    nrrd.write(str(tmp_path / "l.nrrd"), case.truth.astype(np.uint8).transpose(2, 1, 0), header)
    check_mm(case.read(tmp_path / "l.nrrd"))


def test_slicer_segmentation_in_layers(case: Case, check_mm: Check, tmp_path: Path) -> None:
    """Segments that overlap lie in layers, each called by its name, its values not the task's."""
    layers = np.stack([np.isin(case.truth, [1, 2]) * 1, np.select([case.truth == 3, case.truth == 4], [1, 2])])
    layers[0][case.truth == 2] = 2
    directions = np.vstack([np.full(3, np.nan), case.phantom.affine[:3, [2, 1, 0]].T])
    header: dict[str, object] = {
        "space": "left-posterior-superior",
        "kinds": ["list", "domain", "domain", "domain"],
        "space directions": directions,
        "space origin": case.phantom.affine[:3, 3],
    }
    kidney = (
        "Segmentation category and type~SCT^123037004^Anatomical Structure~SCT^64033007^Kidney~SCT^7771000^Left~~^^~^^"
    )
    for number, (name, layer, value, entry) in enumerate(
        [("Liver", 0, 1, ""), ("spleen", 0, 2, ""), ("kidney left", 1, 1, kidney), ("Kidney, right", 1, 2, "")]
    ):
        header |= {
            f"Segment{number}_ID": name,
            f"Segment{number}_Name": name,
            f"Segment{number}_Layer": str(layer),
            f"Segment{number}_LabelValue": str(value),
            f"Segment{number}_TerminologyEntry": entry,
        }
    nrrd.write(str(tmp_path / "s.seg.nrrd"), layers.astype(np.uint8).transpose(0, 3, 2, 1), header)
    check_mm(case.read(tmp_path / "s.seg.nrrd", name_map={"Kidney, right": 4}))


@pytest.mark.parametrize("coloured", [False, True])
def test_pictures(case: Case, check_mm: Check, tmp_path: Path, coloured: bool) -> None:
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0]], np.uint8)
    entries = []
    for index, labels in enumerate(case.truth.astype(np.uint8)):
        Image.fromarray(colours[labels] if coloured else labels).save(tmp_path / f"{index}.png")
        uid = case.volume.frames[index].sop_instance_uid
        by_uid = index % 2 and case.volume.frames[index].frame_number is None
        entries.append({"png": f"{index}.png", **({"sop_instance_uid": uid} if by_uid else {"slice_index": index})})
    data: dict[str, object] = {"slices": entries}
    if coloured:
        data["labels"] = {"#ff0000": "Liver", "#00ff00": "Spleen", "#0000ff": "Left kidney", "#ffff00": "Right kidney"}
    (tmp_path / "labels.json").write_text(json.dumps(data))
    check_mm(case.read(tmp_path / "labels.json"))


@pytest.fixture
def landmarks() -> TaskDefinition:
    labels = tuple(parse_label(text, TaskKind.LANDMARKS) for text in ("1=KPB", "2=Upper pole"))
    return TaskDefinition("knee", TaskKind.LANDMARKS, labels)


def places_mm(case: Case, path: Path, definition: TaskDefinition, **selection: object) -> np.ndarray:
    """Points of a file as a template has them, back in LPS mm by the phantom's own affine."""
    target = Target(path, case.volume)
    points = points_of(read_annotation(target), target, definition, TemplateSelection(**selection))  # type: ignore[arg-type]
    indices = np.array([[point.slice_index, point.row, point.column] for point in points])
    return np.asarray(indices @ case.phantom.affine[:3, :3].T + case.phantom.affine[:3, 3])


@pytest.fixture
def points_mm(case: Case) -> np.ndarray:
    """Two places on slices, between pixels."""
    indices = np.array([[2, 20.25, 31.5], [5, 40.0, 10.75]])
    return np.asarray(indices @ case.phantom.affine[:3, :3].T + case.phantom.affine[:3, 3])


@pytest.mark.parametrize(("system", "turn"), [("LPS", [1, 1, 1]), ("RAS", [-1, -1, 1])])
def test_slicer_markups(
    case: Case, landmarks: TaskDefinition, points_mm: np.ndarray, tmp_path: Path, system: str, turn: list[int]
) -> None:
    control = [
        {"id": str(number), "label": name, "position": place, "positionStatus": status}
        for number, (name, place, status) in enumerate(
            [
                ("KPB", (points_mm[0] * turn).tolist(), "defined"),
                ("F-2", (points_mm[1] * turn).tolist(), "defined"),
                ("KPB", [0.0, 0.0, 0.0], "undefined"),
            ]
        )
    ]
    markups = {"type": "Fiducial", "coordinateSystem": system, "coordinateUnits": "mm", "controlPoints": control}
    (tmp_path / "m.mrk.json").write_text(json.dumps({"@schema": "markups", "markups": [markups]}))
    found = places_mm(case, tmp_path / "m.mrk.json", landmarks, name_map={"F-2": 2})
    np.testing.assert_allclose(found, points_mm, atol=1e-6)


@pytest.mark.parametrize(
    ("header", "turn", "separator", "mark"),
    [
        ("label,x,y,z", [1, 1, 1], ",", "."),
        ("Name;R;A;S", [-1, -1, 1], ";", ","),
        ("x_mm\ty_mm\tz_mm\tlandmark", [1, 1, 1], "\t", "."),
    ],
)
def test_tables(
    case: Case,
    landmarks: TaskDefinition,
    points_mm: np.ndarray,
    tmp_path: Path,
    header: str,
    turn: list[int],
    separator: str,
    mark: str,
) -> None:
    lines = [header]
    for name, place in zip(("KPB", "upper_pole"), points_mm * turn, strict=True):
        numbers = [f"{value:.6f}".replace(".", mark) for value in place]
        lines.append(separator.join([*numbers, name] if header.endswith("landmark") else [name, *numbers]))
    (tmp_path / "points.txt").write_text("\r\n".join(lines) + "\r\n", encoding="utf-8-sig")
    np.testing.assert_allclose(places_mm(case, tmp_path / "points.txt", landmarks), points_mm, atol=1e-5)


@pytest.mark.parametrize(("system", "turn"), [("LPS", [1, 1, 1]), ("0", [-1, -1, 1])])
def test_slicer_table(
    case: Case, landmarks: TaskDefinition, points_mm: np.ndarray, tmp_path: Path, system: str, turn: list[int]
) -> None:
    rows = [
        f"vtkMRMLMarkupsFiducialNode_{number},{','.join(map(str, place))},0,0,0,1,1,1,0,{name},,"
        for number, (name, place) in enumerate(zip(("KPB", "Upper pole"), points_mm * turn, strict=True))
    ]
    head = f"# Markups fiducial file version = 4.11\n# CoordinateSystem = {system}\n"
    columns = "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID\n"
    (tmp_path / "p.fcsv").write_text(head + columns + "\n".join(rows) + "\n")
    np.testing.assert_allclose(places_mm(case, tmp_path / "p.fcsv", landmarks), points_mm, atol=1e-6)


def test_own_report_of_points(case: Case, landmarks: TaskDefinition, points_mm: np.ndarray, tmp_path: Path) -> None:
    findings = tuple(
        StructureFinding(label, True, 0.9, point_mm=tuple(place.tolist()), index=tuple(case.volume.to_index(place)))
        for label, place in zip(landmarks.labels, points_mm, strict=True)
    )
    empty = case.result(case.truth.astype(np.uint8))
    result = replace(empty, task_name="knee", kind=TaskKind.LANDMARKS, findings=findings, label_map=None)
    write_report(result, case.volume, case.sources, case.uids).save_as(tmp_path / "report.dcm")
    np.testing.assert_allclose(places_mm(case, tmp_path / "report.dcm", landmarks), points_mm, atol=1e-3)


@pytest.mark.parametrize("kind", ["SEG", "NIfTI"])
def test_other_grid_is_resampled_when_told(axial: Case, tmp_path: Path, kind: str) -> None:
    """Labels of half the pixel size, moved by a third of a voxel: every voxel's centre decides."""
    fine = np.kron(axial.truth, np.ones((1, 2, 2))).astype(np.uint8)
    affine = axial.phantom.affine.copy()
    affine[:3, 1:3] /= 2
    affine[:3, 3] -= affine[:3, 1] * 0.5 + affine[:3, 2] * 0.5
    path = tmp_path / "fine"
    if kind == "NIfTI":
        nib.save(
            nib.Nifti1Image(fine.transpose(2, 1, 0), np.diag([-1.0, -1, 1, 1]) @ affine[:, [2, 1, 0, 3]]),
            path.with_suffix(".nii"),
        )
        path = path.with_suffix(".nii")
    else:
        write_fine_segmentation(axial, fine, affine, path)
    with pytest.raises(TemplateError, match=r"another grid|does not lie on the grid") as caught:
        axial.read(path)
    assert "--resample" in str(caught.value)
    assert "mm" in str(caught.value)
    np.testing.assert_array_equal(axial.read(path, resample=True), axial.truth)


def test_labels_that_reach_beyond_the_series_are_told(axial: Case, tmp_path: Path) -> None:
    affine = np.diag([-1.0, -1, 1, 1]) @ axial.phantom.affine[:, [2, 1, 0, 3]]
    affine[2, 3] += 75.0  # towards the head, by 3.75 slices
    nib.save(nib.Nifti1Image(axial.truth.astype(np.uint8).transpose(2, 1, 0), affine), tmp_path / "high.nii")
    annotation = read_annotation(Target(tmp_path / "high.nii", axial.volume, resample=True))
    told = [note for note in annotation.notes if "lies in the series" in note]
    assert told
    assert all(re.fullmatch(r"only \d+% of value [1-4] lies in the series", note) for note in told)


def test_a_report_that_draws_on_no_image(axial: Case, tmp_path: Path) -> None:
    dataset = pydicom.dcmread(write_regions_report(axial, tmp_path / "report.dcm", in_mm=False))
    broken = 0
    for item in dataset.iterall():
        if item.keyword == "ReferencedSOPSequence" and item.value:
            item.value[0].ReferencedSOPInstanceUID = "1.2.3.4"
            broken += 1
    assert broken
    dataset.save_as(tmp_path / "report.dcm")
    with pytest.raises(TemplateError, match=r"draws on instance 1\.2\.3\.4, which series .* does not hold"):
        axial.read(tmp_path / "report.dcm")


def write_fine_segmentation(case: Case, fine: np.ndarray, affine: np.ndarray, path: Path) -> None:
    described = [
        hd.seg.SegmentDescription(
            number,
            text.partition("=")[2],
            codes.SCT.AnatomicalStructure,
            codes.SCT.Organ,
            hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, text in enumerate(LABELS, 1)
    ]
    hd.seg.Segmentation(
        source_images=case.sources,
        pixel_array=hd.Volume(fine, affine, "PATIENT", frame_of_reference_uid=case.volume.frame_of_reference_uid),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=described,
        series_instance_uid=generate_uid(),
        series_number=2,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="test",
        manufacturer_model_name="test",
        software_versions="1",
        device_serial_number="1",
    ).save_as(path)


def test_dropped_segment_leaves_no_hole(axial: Case, tmp_path: Path) -> None:
    """A tumour inside a liver is a segment of its own; a task that knows livers only learns the whole liver."""
    liver = axial.truth == 1
    tumour = np.zeros_like(liver)
    tumour[tuple(np.argwhere(liver)[len(np.argwhere(liver)) // 2])] = True
    stacked = np.stack([liver, tumour], axis=-1).astype(np.uint8)
    described = [
        hd.seg.SegmentDescription(
            number, name, codes.SCT.AnatomicalStructure, code, hd.seg.SegmentAlgorithmTypeValues.MANUAL
        )
        for number, (name, code) in enumerate([("Liver", codes.SCT.Liver), ("Lesion", codes.SCT.Lesion)], 1)
    ]
    hd.seg.Segmentation(
        source_images=axial.sources,
        pixel_array=stacked,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=described,
        series_instance_uid=generate_uid(),
        series_number=2,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="test",
        manufacturer_model_name="test",
        software_versions="1",
        device_serial_number="1",
    ).save_as(tmp_path / "seg.dcm")
    np.testing.assert_array_equal(axial.read(tmp_path / "seg.dcm", ignore_others=True), liver)


def test_contour_with_a_hole(axial: Case, tmp_path: Path) -> None:
    """A ring by rt-utils (lines through the outermost pixels' centres) comes back to the pixel."""
    ring = np.zeros(axial.volume.array.shape, bool)
    ring[3, 10:30, 10:30] = True
    ring[3, 15:22, 16:25] = False
    ring[3, 18:20, 18:20] = True
    ring[5, 40, 5:20] = True  # one pixel wide
    builder = RTStructBuilder.create_new(dicom_series_path=str(axial.series.folder))
    builder.add_roi(mask=ring.transpose(1, 2, 0), name="Liver")
    builder.save(str(tmp_path / "ring.dcm"))
    np.testing.assert_array_equal(axial.read(tmp_path / "ring.dcm") == 1, ring)
    dataset = pydicom.dcmread(tmp_path / "ring.dcm")
    for contour in dataset.ROIContourSequence[0].ContourSequence:
        contour.ContourData = [f"{value:.2f}" for value in contour.ContourData]  # as planning systems round
    dataset.save_as(tmp_path / "rounded.dcm")
    np.testing.assert_array_equal(axial.read(tmp_path / "rounded.dcm") == 1, ring)
