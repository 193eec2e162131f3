"""Series of every geometry become volumes in mm, and everything else a named error."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from fewshot_node.dicom.objects.volume import read_sources, read_volume
from fewshot_node.errors import GeometryError, NotDicomError, PixelDataError, SeriesError
from fewshot_node.uids import fallback_frame_of_reference

Write = Callable[..., list[Path]]


def _place_by_definition(dataset: pydicom.Dataset, row: int, column: int) -> np.ndarray:
    """PS3.3 equation C.7.6.2.1-1, from the attributes of one image."""
    position = np.array(dataset.ImagePositionPatient, dtype=float)
    cosines = np.array(dataset.ImageOrientationPatient, dtype=float)
    row_mm, column_mm = (float(value) for value in dataset.PixelSpacing)
    return position + cosines[:3] * column_mm * column + cosines[3:] * row_mm * row


def test_each_voxel_lies_where_its_image_says(write_series: Write, any_spec: Any) -> None:
    files = write_series(any_spec)
    random.Random(3).shuffle(files)

    volume = read_volume(files)

    normal = np.cross(any_spec.cosines[:3], any_spec.cosines[3:])
    for index in range(any_spec.slices):
        expected = any_spec.position(index)
        far = (
            expected
            + np.array(any_spec.cosines[3:]) * any_spec.spacing[1] * 5
            + np.array(any_spec.cosines[:3]) * any_spec.spacing[2] * 9
        )
        np.testing.assert_allclose(volume.to_mm(np.array([index, 0.0, 0.0])), expected, atol=1e-4)
        np.testing.assert_allclose(volume.to_mm(np.array([index, 5.0, 9.0])), far, atol=1e-4)
        slope = 1 + index if any_spec.multi_frame else 1
        np.testing.assert_array_equal(volume.array[index], any_spec.stored(index) * float(slope) - 1024)
    assert float(volume.affine[:3, 0] @ normal) > 0
    np.testing.assert_allclose(volume.spacing_mm, any_spec.spacing, rtol=1e-6)


def test_frames_name_the_image_of_their_slice(write_series: Write, spec: Any) -> None:
    files = write_series(spec, reverse=True)
    volume = read_volume(files)
    by_uid = {str(dataset.SOPInstanceUID): dataset for dataset in (pydicom.dcmread(path) for path in files)}
    for index, frame in enumerate(volume.frames):
        expected = _place_by_definition(by_uid[frame.sop_instance_uid], 3, 2)
        np.testing.assert_allclose(volume.to_mm(np.array([index, 3.0, 2.0])), expected, atol=1e-4)
        assert frame.frame_number is None


def test_frame_numbers_follow_the_slices_of_a_reversed_multi_frame(write_series: Write, spec: Any) -> None:
    volume = read_volume(write_series(spec, multi_frame=True, modality="MR", reverse=True))
    assert [frame.frame_number for frame in volume.frames] == [6, 5, 4, 3, 2, 1]


def test_a_missing_frame_of_reference_is_derived_and_said(write_series: Write, spec: Any) -> None:
    stated = read_volume(write_series(spec, "stated"))
    derived = read_volume(write_series(spec, "derived", frame_of_reference=False))
    assert stated.frame_of_reference_stated
    assert not derived.frame_of_reference_stated
    assert derived.frame_of_reference_uid == fallback_frame_of_reference(derived.series_instance_uid)


def test_sources_are_the_used_headers_in_slice_order(write_series: Write, spec: Any) -> None:
    files = write_series(spec, reverse=True)
    volume = read_volume(files)
    sources = read_sources(files[::-1], volume)
    heights = [float(source.ImagePositionPatient[2]) for source in sources]
    assert heights == sorted(heights)
    assert not any("PixelData" in source for source in sources)
    with pytest.raises(SeriesError, match="not among the files"):
        read_sources(files[1:], volume)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
def test_compressed_slices_decode_to_the_same_volume(write_series: Write, spec: Any, syntax: str) -> None:
    plain = read_volume(write_series(spec, "plain", rows=64, columns=64))
    files = write_series(spec, "compressed", rows=64, columns=64)
    for path in files:
        dataset = pydicom.dcmread(path)
        dataset.compress(syntax, generate_instance_uid=False)
        dataset.save_as(path)
    np.testing.assert_array_equal(read_volume(files).array, plain.array)


def test_signed_pixels_keep_their_sign(write_series: Write, spec: Any) -> None:
    pixels = np.arange(-96, 96, dtype=np.int16)
    changes = {"PixelRepresentation": 1, "PixelData": pixels.tobytes(), "RescaleIntercept": "0"}
    volume = read_volume(write_series(spec, slices=1, changes=changes))
    np.testing.assert_array_equal(volume.array.ravel(), pixels)


def test_a_modality_lut_is_applied(write_series: Write, spec: Any) -> None:
    lut = pydicom.Dataset()
    lut.LUTDescriptor = [4, 0, 16]
    lut.LUTData = np.array([5, 50, 500, 5000], dtype="<u2").tobytes()
    lut.ModalityLUTType = "US"
    pixels = (np.arange(16 * 12) % 4).astype(np.uint16)
    changes = {
        "RescaleSlope": None,
        "RescaleIntercept": None,
        "ModalityLUTSequence": [lut],
        "PixelData": pixels.tobytes(),
    }
    volume = read_volume(write_series(spec, slices=1, changes=changes))
    np.testing.assert_array_equal(volume.array.ravel()[:4], [5, 50, 500, 5000])


def test_monochrome1_is_inverted_but_hounsfield_units_are_not(write_series: Write, spec: Any) -> None:
    inverted = {"PhotometricInterpretation": "MONOCHROME1"}
    plain = read_volume(write_series(spec, "plain", modality="MR"))
    shown = read_volume(write_series(spec, "shown", modality="MR", changes=inverted))
    np.testing.assert_array_equal(shown.array, plain.array.max() + plain.array.min() - plain.array)
    ct = read_volume(write_series(spec, "ct", changes=inverted))
    np.testing.assert_array_equal(ct.array, plain.array)


def test_a_tilted_gantry_is_a_sheared_grid(write_series: Write, spec: Any) -> None:
    tilt = {index: {"ImagePositionPatient": [-40.0, 25.5 + 0.5 * index, 110.25 + 3.0 * index]} for index in range(6)}
    volume = read_volume(write_series(spec, slice_changes=tilt))
    np.testing.assert_allclose(volume.to_mm(np.array([4.0, 0.0, 0.0])), [-40.0, 27.5, 122.25], atol=1e-6)
    assert volume.voxel_mm3 == pytest.approx(3.0 * 0.8 * 0.7)


@pytest.mark.parametrize(
    ("stated", "thickness"),
    [
        ({"SliceThickness": "4.5"}, 4.5),
        ({"SliceThickness": "4.5", "SpacingBetweenSlices": "6"}, 6.0),
        ({"SliceThickness": None}, 1.0),
    ],
)
def test_one_slice_is_as_thick_as_stated(
    write_series: Write, spec: Any, stated: dict[str, Any], thickness: float
) -> None:
    assert read_volume(write_series(spec, slices=1, changes=stated)).spacing_mm[0] == pytest.approx(thickness)


def _moved(index: int, height: float) -> dict[int, dict[str, Any]]:
    return {index: {"ImagePositionPatient": [-40.0, 25.5, height]}}


def test_a_missing_slice_is_counted_and_the_gap_given_in_mm(write_series: Write, spec: Any) -> None:
    files = write_series(spec)
    with pytest.raises(GeometryError, match=r"1 slice\(s\) missing between .* 6\.00 mm where 3\.00 mm"):
        read_volume([*files[:2], *files[3:]])
    with pytest.raises(GeometryError, match=r"2 slice\(s\) missing between .* 9\.00 mm"):
        read_volume([*files[:1], *files[3:]])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"slice_changes": _moved(3, 120.5)}, r"irregular slice spacing, \d\.\d\d mm between .* 3\.00 mm"),
        ({"slice_changes": _moved(3, 116.25)}, "lie at the place of another one"),
        ({"slice_changes": {2: {"ImageOrientationPatient": list("010001")}}}, "differ in orientation"),
        ({"slice_changes": {2: {"PixelSpacing": [0.8, 0.71]}}}, "differ in pixel spacing"),
        (
            {"slice_changes": {2: {"Rows": 8, "Columns": 24}}},
            r"differ in rows and columns \(\(\d+, \d+\) and \(\d+, \d+\)\)",
        ),
        ({"slice_changes": {2: {"FrameOfReferenceUID": "1.2.3"}}}, "2 Frames of Reference"),
        (
            {"changes": {"ImagePositionPatient": None}},
            "states no ImagePositionPatient.*exclude them with a rule",
        ),
        ({"changes": {"ImagePositionPatient": [0, 0]}}, "states no ImagePositionPatient"),
        ({"changes": {"PixelSpacing": None}}, "states no PixelSpacing"),
        ({"changes": {"PixelSpacing": [0, 1]}}, "not positive"),
        ({"changes": {"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]}}, "perpendicular"),
        ({"changes": {"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}}, "perpendicular"),
        (
            {"slice_changes": {k: {"ImagePositionPatient": [9.0 * k, 0, 0.5 * k]} for k in range(6)}},
            "stacked sideways",
        ),
    ],
)
def test_geometry_that_makes_no_volume_is_named(
    write_series: Write, spec: Any, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(GeometryError, match=message) as caught:
        read_volume(write_series(spec, **changes))
    assert "1.2.826.0.1.3680043.8.498.77" in str(caught.value)
    assert "SECRET" not in str(caught.value)


def test_positions_rounded_by_the_scanner_are_regular(write_series: Write, spec: Any) -> None:
    rounded = {index: {"ImagePositionPatient": [-40.0, 25.5, round(0.625 * index, 1)]} for index in range(12)}
    volume = read_volume(write_series(spec, slices=12, slice_changes=rounded))
    assert volume.spacing_mm[0] == pytest.approx(0.625, abs=0.01)


def test_several_multi_frame_instances_are_ambiguous(write_series: Write, spec: Any) -> None:
    first = write_series(spec, "first", multi_frame=True)
    second = write_series(spec, "second", multi_frame=True, changes={"SOPInstanceUID": "1.2.3.4"})
    with pytest.raises(GeometryError, match="one multi-frame instance makes one volume"):
        read_volume([*first, *second])


def test_temporal_positions_in_one_instance_are_ambiguous(write_series: Write, spec: Any) -> None:
    path = write_series(spec, multi_frame=True)[0]
    dataset = pydicom.dcmread(path)
    groups = dataset.PerFrameFunctionalGroupsSequence
    for index in range(3):
        groups[index + 3].PlanePositionSequence = groups[index].PlanePositionSequence
    dataset.save_as(path)
    with pytest.raises(GeometryError, match="several phases, echoes or stacks"):
        read_volume([path])


def test_a_multi_frame_without_geometry_is_named(write_series: Write, spec: Any) -> None:
    path = write_series(
        spec,
        multi_frame=True,
        changes={"SharedFunctionalGroupsSequence": None, "PerFrameFunctionalGroupsSequence": None},
    )[0]
    with pytest.raises(GeometryError, match="states no ImagePositionPatient"):
        read_volume([path])


@pytest.mark.parametrize("kind", ["RGB", "PALETTE COLOR", "YBR_FULL"])
def test_colour_is_refused(write_series: Write, spec: Any, kind: str) -> None:
    samples = 1 if kind == "PALETTE COLOR" else 3
    changes = {"PhotometricInterpretation": kind, "SamplesPerPixel": samples}
    with pytest.raises(SeriesError, match=f"colour images .{kind}"):
        read_volume(write_series(spec, changes=changes))


@pytest.mark.parametrize("keep", [0, 2, 100])
def test_truncated_pixels_name_their_instance(write_series: Write, spec: Any, keep: int) -> None:
    files = write_series(spec)
    dataset = pydicom.dcmread(files[2])
    dataset.PixelData = dataset.PixelData[:keep]
    dataset.save_as(files[2])
    with pytest.raises(PixelDataError, match=f"instance {dataset.SOPInstanceUID}: .*send it again"):
        read_volume(files)


def test_a_file_cut_off_in_its_pixels_names_its_instance(write_series: Write, spec: Any) -> None:
    files = write_series(spec)
    uid = pydicom.dcmread(files[0]).SOPInstanceUID
    files[0].write_bytes(files[0].read_bytes()[:-50])
    with pytest.raises(PixelDataError, match=str(uid)):
        read_volume(files)


def test_damaged_compressed_pixels_name_their_instance(write_series: Write, spec: Any) -> None:
    files = write_series(spec, rows=64, columns=64)
    dataset = pydicom.dcmread(files[1])
    dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
    dataset.PixelData = dataset.PixelData[:60] + bytes(len(dataset.PixelData) - 60)
    dataset.save_as(files[1])
    with pytest.raises(PixelDataError, match=f"{dataset.SOPInstanceUID}.*JPEG 2000"):
        read_volume(files)


def test_a_wrong_transfer_syntax_is_a_pixel_error(write_series: Write, spec: Any) -> None:
    files = write_series(spec, slices=1)
    dataset = pydicom.dcmread(files[0])
    dataset.compress(RLELossless, generate_instance_uid=False)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(files[0])
    with pytest.raises((PixelDataError, NotDicomError)):
        read_volume(files)


@pytest.mark.shared_data
def test_real_odd_files_are_read_or_named(shared_data: Path) -> None:
    """No file of the collection does anything but become a volume or one of our errors."""
    read = 0
    for path in sorted(path for path in (shared_data / "dicom").rglob("*") if path.is_file()):
        try:
            volume = read_volume([path])
        except (NotDicomError, SeriesError):
            continue
        read += 1
        assert np.isfinite(volume.array).all(), path
    assert read > 30


@pytest.mark.shared_data
@pytest.mark.parametrize(("name", "slices", "stated"), [("ct-liver-3d", 129, False), ("ct-abdomen-j2k", 20, True)])
def test_real_series_become_hounsfield_units(shared_data: Path, name: str, slices: int, stated: bool) -> None:
    volume = read_volume(sorted((shared_data / "series" / name).iterdir()))
    assert volume.array.shape == (slices, 512, 512)
    assert volume.frame_of_reference_stated is stated
    assert -1100 < volume.array.min() < -900
    assert -10 < np.median(volume.array[volume.array > -200]) < 100
