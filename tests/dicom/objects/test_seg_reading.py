"""Segmentations that other programs made, in every encoding, read onto the series that they belong to."""

import zlib
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

from fewshot_node.dicom.objects.seg_reading import read_segmentation
from fewshot_node.dicom.objects.volume import read_volume
from fewshot_node.errors import TemplateError
from fewshot_node.records import Code, SourceFrame, Volume
from tests.dicom.objects.test_seg import _by_highdicom


def volume_of(folder: Path, *names: str) -> Volume:
    return read_volume([folder / name for name in names])


@pytest.fixture(scope="module")
def liver_series(shared_data: Path) -> Volume:
    """The CT slices that dcmqi's and pydicom's livers were drawn on."""
    return volume_of(shared_data / "dicom" / "dcmqi-seg", "01.dcm", "02.dcm", "03.dcm")


@pytest.fixture(scope="module")
def small_series(shared_data: Path) -> Volume:
    return volume_of(shared_data / "dicom" / "dcmqi-seg", "IMG0001.dcm", "IMG0002.dcm", "IMG0003.dcm")


@pytest.mark.shared_data
@pytest.mark.parametrize(
    "encoding",
    ["", "_deflate", "_expb", "_j2k", "_rle"]
    + [f"_nonbyte_aligned{encoding}" for encoding in ("", "_deflate", "_j2k", "_rle")],
)
def test_one_liver_in_every_encoding(shared_data: Path, liver_series: Volume, encoding: str) -> None:
    """Native, Deflated Image Frame, big endian, JPEG 2000 and RLE; with frames that end within a byte, too."""
    folder = shared_data / "dicom" / "pydicom-data"
    path = folder / f"liver{encoding}.dcm"
    read = read_segmentation(path, liver_series)
    reference = pydicom.dcmread(folder / "liver.dcm").pixel_array
    # Its frames lie from the lowest slice up, on the full grid.
    np.testing.assert_array_equal(read.label_map, reference)
    assert [label.name for label in read.labels] == ["Liver"]


@pytest.mark.shared_data
def test_segments_that_overlap(shared_data: Path, liver_series: Volume, caplog: pytest.LogCaptureFixture) -> None:
    path = shared_data / "dicom" / "dcmqi-seg" / "partial_overlaps.dcm"
    read = read_segmentation(path, liver_series)
    assert [label.name for label in read.labels][:3] == ["GREEN", "ORANGE", "PURPLE"]
    reference = hd.seg.segread(path).get_volume(combine_segments=False).array
    assert np.count_nonzero(read.label_map) == np.count_nonzero(reference.any(axis=-1))
    covered = np.count_nonzero(reference.sum(axis=-1) > 1)
    assert covered > 0
    assert "voxels in several segments" in caplog.text


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["sparse-labelmap-noppv.dcm", "sparse-labelmap-ppv5.dcm"])
def test_a_label_map_by_another_tool(shared_data: Path, small_series: Volume, name: str) -> None:
    """One states no background, one that 5 is it; both leave out a slice."""
    folder = shared_data / "dicom" / "dcmqi-seg"
    read = read_segmentation(folder / name, small_series)
    dataset = pydicom.dcmread(folder / name)
    expected = np.zeros(small_series.array.shape, dtype=np.uint8)
    for group, frame in zip(dataset.PerFrameFunctionalGroupsSequence, dataset.pixel_array, strict=True):
        place = small_series.to_index(np.array(group.PlanePositionSequence[0].ImagePositionPatient, dtype=float))
        expected[int(np.rint(place[0]))] = frame == 1
    np.testing.assert_array_equal(read.label_map, expected)
    assert [label.value for label in read.labels] == [1]


@pytest.mark.shared_data
def test_frames_of_slides_and_projections_are_refused(shared_data: Path, liver_series: Volume) -> None:
    folder = shared_data / "dicom" / "highdicom"
    names = ["seg_image_cr_binary.dcm", "seg_image_sm_control_labelmap.dcm", "seg_image_sm_dots_tiled_full.dcm"]
    for name in names:
        dataset = pydicom.dcmread(folder / name)
        dataset.FrameOfReferenceUID = liver_series.frame_of_reference_uid
        dataset.ReferencedSeriesSequence[0].SeriesInstanceUID = liver_series.series_instance_uid
        with pytest.raises(TemplateError, match="cannot be placed in the patient"):
            read_segmentation(dataset, liver_series)


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["seg_image_ct_binary_fractional.dcm", "seg_image_ct_true_fractional.dcm"])
def test_a_real_fractional_one(shared_data: Path, name: str) -> None:
    """Its CT is not among the data: a series of the same grid stands for it."""
    dataset = pydicom.dcmread(shared_data / "dicom" / "highdicom" / name)
    reference = hd.seg.segread(shared_data / "dicom" / "highdicom" / name).get_volume(allow_missing_positions=True)
    volume = standing_for(dataset, reference)
    read = read_segmentation(dataset, volume)
    np.testing.assert_array_equal(read.label_map == 1, reference.array[..., 0] >= 0.5)


def standing_for(dataset: Dataset, reference: hd.Volume) -> Volume:
    shape = reference.array.shape[:3]
    series = str(dataset.ReferencedSeriesSequence[0].SeriesInstanceUID)
    frames = tuple(SourceFrame("1.2.840.10008.5.1.4.1.1.2", f"1.2.{index}") for index in range(shape[0]))
    array = np.zeros(shape, dtype=np.float32)
    return Volume(array, reference.affine, frames, "CT", "1.2", series, str(dataset.FrameOfReferenceUID))


def test_of_two_fractions_the_larger_wins(write_series: Any, spec: Any, make_case: Any) -> None:
    case = make_case(write_series(spec))
    fractions = np.zeros((*case.volume.array.shape, 2))
    fractions[2, 3:6, 4:9] = (0.9, 0.6)
    fractions[2, 8, 4:9] = (0.55, 0.7)
    fractions[2, 10, 4:9] = (0.5, 0.4)
    read = read_segmentation(_by_highdicom(case, fractions, "FRACTIONAL"), case.volume)
    assert (read.label_map[2, 3:6, 4:9] == 1).all()
    assert (read.label_map[2, 8, 4:9] == 2).all()
    assert (read.label_map[2, 10, 4:9] == 1).all()
    assert np.count_nonzero(read.label_map) == 25


def deflated(dataset: Dataset, frames: list[bytes]) -> Dataset:
    def squeeze(frame: bytes) -> bytes:
        squeezer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        return squeezer.compress(frame) + squeezer.flush()

    dataset.PixelData = encapsulate([squeeze(frame) for frame in frames])
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.8.1"
    return dataset


def test_deflated_frames_are_read_and_broken_ones_refused(write_series: Any, spec: Any, make_case: Any) -> None:
    case = make_case(write_series(spec))
    truth = (case.result.label_map == 1).astype(np.uint8)
    for kind in ("BINARY", "FRACTIONAL"):
        dataset = _by_highdicom(case, truth, kind)
        frames = dataset.pixel_array
        packed = [np.packbits(frame, bitorder="little").tobytes() for frame in frames]
        stored = packed if kind == "BINARY" else [frame.tobytes() for frame in frames]
        read = read_segmentation(deflated(dataset, stored), case.volume)
        np.testing.assert_array_equal(read.label_map, truth)
        for broken in ([*stored[:-1], b""], stored[:-1], [*stored[:-1], stored[-1][:3]]):
            with pytest.raises(TemplateError, match="cannot be decoded"):
                read_segmentation(deflated(dataset, broken), case.volume)
        dataset.PixelData = encapsulate([b"\xff\xfe\xfd"] * len(stored))
        with pytest.raises(TemplateError, match="cannot be decoded"):
            read_segmentation(dataset, case.volume)


@pytest.mark.parametrize("where", ["type", "region"])
def test_a_side_is_read_where_it_stands(write_series: Any, spec: Any, make_case: Any, where: str) -> None:
    case = make_case(write_series(spec))
    dataset = _by_highdicom(case, (case.result.label_map == 1).astype(np.uint8), "BINARY")
    item = dataset.SegmentSequence[0]
    side = hd.sr.CodedConcept("24028007", "SCT", "Right")
    if where == "type":
        item.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [side]
    else:
        item.AnatomicRegionSequence = [hd.sr.CodedConcept("64033007", "SCT", "Kidney")]
        item.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = [side]
    read = read_segmentation(dataset, case.volume)
    assert [label.laterality for label in read.labels] == [Code("24028007", "SCT", "Right"), None]
