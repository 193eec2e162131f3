"""Files of other programs, fitting or not: read, or refused in words; never anything else."""

import warnings
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import pydicom
import pytest

from fewshot_node.dicom.objects.volume import read_volume
from fewshot_node.errors import TemplateError
from fewshot_node.records import SourceFrame, Volume
from fewshot_node.tasks.annotations import AnnotationFormat, Target, read_annotation

pytestmark = pytest.mark.shared_data


def test_every_odd_file_is_read_or_refused(shared_data: Path) -> None:
    frames = tuple(SourceFrame("1.2.840.10008.5.1.4.1.1.2", f"1.2.{index}") for index in range(4))
    volume = Volume(np.zeros((4, 32, 32), np.float32), np.eye(4), frames, "CT", "1.2", "1.2.3", "1.2.4", False)
    seen: Counter[AnnotationFormat] = Counter()
    for path in sorted(path for path in (shared_data / "dicom").rglob("*") if path.is_file()):
        with suppress(TemplateError), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pydicom, about what is odd in them
            annotation = read_annotation(Target(path, volume, resample=True))
            seen[annotation.format] += 1
            for region in annotation.regions[:3]:
                with suppress(TemplateError):
                    region.draw()
    assert {AnnotationFormat.SEG, AnnotationFormat.REPORT} <= set(seen)


def pixels_of(path: Path) -> Counter[int]:
    """How many pixels each segment has, from the frames as they are stored."""
    dataset = pydicom.dcmread(path)
    counted: Counter[int] = Counter()
    for frame, group in zip(dataset.pixel_array, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        counted[int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)] += int(frame.sum())
    return counted


@pytest.mark.parametrize("name", ["liver.dcm", "partial_overlaps.dcm"])
def test_segments_of_other_programs_keep_every_pixel(shared_data: Path, name: str) -> None:
    """Overlapping ones too: a task that wants one of them gets all of it."""
    folder = shared_data / "dicom" / "dcmqi-seg"
    volume = read_volume([folder / f"0{number}.dcm" for number in (1, 2, 3)])
    regions = read_annotation(Target(folder / name, volume)).regions
    assert {region.number: int(region.draw().sum()) for region in regions} == pixels_of(folder / name)


def test_a_segmentation_is_taken_onto_a_multi_frame_instance_of_its_scan(shared_data: Path) -> None:
    folder = shared_data / "dicom" / "dcmqi-seg"
    stem = "data_segmentations_23x38x3"
    drawn_on = read_volume([folder / f"{stem}_image_IMG000{number}.dcm" for number in (1, 2, 3)])
    multi_frame = read_volume([folder / f"{stem}_multiframe_mf.dcm"])
    path = folder / f"{stem}_seg_label.seg"
    (expected,) = read_annotation(Target(path, drawn_on)).regions
    with pytest.raises(TemplateError, match="take the labels by their place in mm with --resample"):
        read_annotation(Target(path, multi_frame))
    (found,) = read_annotation(Target(path, multi_frame, resample=True)).regions
    assert expected.draw().any()
    np.testing.assert_array_equal(found.draw(), expected.draw())
