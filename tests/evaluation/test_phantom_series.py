"""Phantoms on disk: read back with other libraries and compared in mm."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from highdicom import imread
from pydicom import dcmread
from pydicom.uid import CTImageStorage, JPEG2000Lossless, MRImageStorage, RLELossless

from fewshot_node.evaluation.phantom_multiframe import write_multiframe
from fewshot_node.evaluation.phantom_series import write_labels_nifti, write_points_json, write_series
from fewshot_node.evaluation.phantoms import Phantom, torso_ct


def hounsfield(path: Path) -> np.ndarray:
    instance = dcmread(path)
    slope, intercept = instance.get("RescaleSlope", 1), instance.get("RescaleIntercept", 0)
    return instance.pixel_array.astype(np.float64) * float(slope) + float(intercept)


def test_pixels_come_back_in_their_units(phantom: Phantom, tmp_path: Path) -> None:
    series = write_series(phantom, tmp_path, patient_index=1)
    assert len(series.files) == len(phantom.array)
    np.testing.assert_array_equal(np.stack([hounsfield(path) for path in series.files]), phantom.array)


def test_corner_pixels_come_back_in_mm(phantom: Phantom, tmp_path: Path) -> None:
    series = write_series(phantom, tmp_path, patient_index=1)
    for index, path in enumerate(series.files):
        instance = dcmread(path)
        origin = np.array(instance.ImagePositionPatient, dtype=float)
        along_row, along_column = np.array(instance.ImageOrientationPatient, dtype=float).reshape(2, 3)
        row_mm, column_mm = instance.PixelSpacing
        last = origin + along_column * row_mm * (instance.Rows - 1)
        last = last + along_row * column_mm * (instance.Columns - 1)
        corner = phantom.affine @ [index, instance.Rows - 1, instance.Columns - 1, 1]
        np.testing.assert_allclose(last, corner[:3], atol=1e-4)
        assert instance.SpacingBetweenSlices == pytest.approx(phantom.settings.slice_mm)


def test_positions_run_along_the_slice_normal(phantom: Phantom, tmp_path: Path) -> None:
    series = write_series(phantom, tmp_path, patient_index=1)
    first, second = dcmread(series.files[0]), dcmread(series.files[1])
    normal = np.cross(*np.array(first.ImageOrientationPatient, dtype=float).reshape(2, 3))
    step = np.subtract(second.ImagePositionPatient, first.ImagePositionPatient).astype(float)
    assert step @ normal == pytest.approx(phantom.settings.slice_mm, abs=1e-6)


def test_headers_route_and_name_no_real_person(small_torso: Phantom, small_knee: Phantom, tmp_path: Path) -> None:
    ct = dcmread(write_series(small_torso, tmp_path / "ct", patient_index=7).files[0])
    mr = dcmread(write_series(small_knee, tmp_path / "mr", patient_index=8).files[0])
    assert (ct.SOPClassUID, ct.Modality, ct.BodyPartExamined) == (CTImageStorage, "CT", "ABDOMEN")
    assert (mr.SOPClassUID, mr.Modality, mr.BodyPartExamined) == (MRImageStorage, "MR", "KNEE")
    assert (str(ct.PatientName), ct.PatientID) == ("PHANTOM^TORSO 07", "PHANTOM-TORSO-07")
    assert (str(mr.PatientName), mr.PatientID) == ("PHANTOM^KNEE 08", "PHANTOM-KNEE-08")
    assert "Laterality" not in ct
    assert mr.Laterality in {"L", "R"}


def test_one_series_has_one_frame_and_unique_instances(phantom: Phantom, tmp_path: Path) -> None:
    series = write_series(phantom, tmp_path, patient_index=1)
    instances = [dcmread(path, stop_before_pixels=True) for path in series.files]
    assert {instance.SeriesInstanceUID for instance in instances} == {series.series_instance_uid}
    assert {instance.StudyInstanceUID for instance in instances} == {series.study_instance_uid}
    assert len({instance.FrameOfReferenceUID for instance in instances}) == 1
    assert len({instance.SOPInstanceUID for instance in instances}) == len(instances)
    assert all(path.stem == i.SOPInstanceUID for path, i in zip(series.files, instances, strict=True))


def test_the_same_phantom_gives_the_same_bytes(small_knee: Phantom, tmp_path: Path) -> None:
    first = write_series(small_knee, tmp_path / "1", patient_index=1)
    again = write_series(small_knee, tmp_path / "2", patient_index=1)
    for one, other in zip(first.files, again.files, strict=True):
        assert one.name == other.name
        assert one.read_bytes() == other.read_bytes()


def test_salt_patient_seed_and_grid_each_make_another_study(small_torso: Phantom, tmp_path: Path) -> None:
    other_seed = torso_ct(small_torso.seed + 1, small_torso.settings)
    studies = [
        write_series(small_torso, tmp_path / "a", patient_index=1),
        write_series(small_torso, tmp_path / "b", patient_index=1, salt="demo 2"),
        write_series(small_torso, tmp_path / "c", patient_index=2),
        write_series(other_seed, tmp_path / "d", patient_index=1),
    ]
    assert len({study.study_instance_uid for study in studies}) == 4
    assert len({study.series_instance_uid for study in studies}) == 4
    assert len({path.name for study in studies for path in study.files}) == 4 * len(small_torso.array)


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, RLELossless])
def test_compressed_series_lose_nothing(syntax: str, small_torso: Phantom, tmp_path: Path) -> None:
    series = write_series(small_torso, tmp_path, patient_index=1, compress=syntax)
    assert dcmread(series.files[0]).file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(np.stack([hounsfield(path) for path in series.files]), small_torso.array)


@pytest.mark.dicom3tools
def test_dciodvfy_finds_no_error(phantom: Phantom, tmp_path: Path, require_tool: Callable[[str], str]) -> None:
    dciodvfy = require_tool("dciodvfy")
    series = write_series(phantom, tmp_path, patient_index=1)
    compressed = write_series(phantom, tmp_path / "j2k", patient_index=1, compress=JPEG2000Lossless)
    for path in (series.files[0], series.files[-1], compressed.files[0]):
        answer = subprocess.run([dciodvfy, path], capture_output=True, text=True, check=False)
        assert "Error" not in answer.stdout + answer.stderr


@pytest.mark.dicom3tools
def test_dcentvfy_finds_one_consistent_series(
    phantom: Phantom, tmp_path: Path, require_tool: Callable[[str], str]
) -> None:
    dcentvfy = require_tool("dcentvfy")
    series = write_series(phantom, tmp_path, patient_index=1)
    answer = subprocess.run([dcentvfy, *series.files], capture_output=True, text=True, check=False)
    assert "Error" not in answer.stdout + answer.stderr


def test_a_multiframe_instance_holds_the_same_voxels_in_mm(phantom: Phantom, tmp_path: Path) -> None:
    series = write_series(phantom, tmp_path / "single", patient_index=1)
    multiframe = write_multiframe(series, tmp_path / "multi" / "one.dcm")
    assert multiframe.series_instance_uid != series.series_instance_uid
    image = imread(multiframe.files[0])
    assert image.StudyInstanceUID == series.study_instance_uid
    volume = image.get_volume()
    indices = np.argwhere(phantom.label_map > 0)[::97]
    places = indices @ phantom.affine[:3, :3].T + phantom.affine[:3, 3]
    there = np.round(volume.map_reference_to_indices(places)).astype(int)
    np.testing.assert_array_equal(volume.array[tuple(there.T)], phantom.array[tuple(indices.T)])


def test_nifti_labels_agree_in_mm(phantom: Phantom, tmp_path: Path) -> None:
    path = tmp_path / "made" / "labels.nii.gz"
    write_labels_nifti(phantom, path)
    image = nibabel.load(path)
    labels = np.asarray(image.dataobj)
    assert image.header.get_xyzt_units()[0] == "mm"
    assert labels.dtype == np.uint8
    for value in phantom.labels:
        indices = np.argwhere(phantom.label_map == value)[::53]
        lps = indices @ phantom.affine[:3, :3].T + phantom.affine[:3, 3]
        ijk = nibabel.affines.apply_affine(np.linalg.inv(image.affine), lps * [-1, -1, 1])
        np.testing.assert_allclose(ijk, np.round(ijk), atol=1e-3)
        assert (labels[tuple(np.round(ijk).astype(int).T)] == value).all()
    counts = {value: int((labels == value).sum()) for value in phantom.labels}
    assert counts == {value: int((phantom.label_map == value).sum()) for value in phantom.labels}


def test_nifti_of_a_torso_has_the_liver_on_the_right(small_torso: Phantom, tmp_path: Path) -> None:
    write_labels_nifti(small_torso, tmp_path / "labels.nii")
    image = nibabel.load(tmp_path / "labels.nii")
    liver = nibabel.affines.apply_affine(image.affine, np.argwhere(np.asarray(image.dataobj) == 1))
    assert liver[:, 0].mean() > 20  # RAS: x grows to the patient's right


def test_points_are_written_in_mm(small_knee: Phantom, small_torso: Phantom, tmp_path: Path) -> None:
    write_points_json(small_knee, tmp_path / "new" / "points.json")
    data = json.loads((tmp_path / "new" / "points.json").read_text())
    assert {name: tuple(entry["position_mm"]) for name, entry in data["landmarks"].items()} == dict(
        small_knee.landmarks
    )
    assert set(data["landmarks"]) == {"KPB", "KAL", "KPLIP"}
    write_points_json(small_torso, tmp_path / "none.json")
    assert json.loads((tmp_path / "none.json").read_text()) == {"landmarks": {}}
