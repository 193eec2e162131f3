"""An RT Structure Set of a planning system, as pydicom brings it: without the preamble that files have today."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file

from fewshot_node.records import SourceFrame, Volume
from fewshot_node.tasks.annotations import AnnotationFormat, Target, read_annotation


@pytest.fixture
def path() -> Path:
    found = get_testdata_file("rtstruct.dcm", download=False)
    assert isinstance(found, str)
    return Path(found)


def test_its_box_of_400_by_300_mm_is_filled(path: Path) -> None:
    dataset = pydicom.dcmread(path, force=True)
    referenced = dataset.ReferencedFrameOfReferenceSequence[0]
    series = referenced.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0].SeriesInstanceUID
    affine = np.array([[0, 0, 50, -275], [0, 50, 0, -225], [10, 0, 0, -210], [0, 0, 0, 1]], dtype=np.float64)
    frames = tuple(SourceFrame("1.2.840.10008.5.1.4.1.1.2", f"1.2.{index}") for index in range(5))
    pixels = np.zeros((5, 10, 12), np.float32)
    volume = Volume(pixels, affine, frames, "CT", "1.2", str(series), str(referenced.FrameOfReferenceUID))
    annotation = read_annotation(Target(path, volume))
    assert annotation.format == AnnotationFormat.RTSTRUCT
    assert [(region.number, region.names) for region in annotation.regions] == [(1, ("patient",))]
    expected = np.zeros(pixels.shape, bool)
    expected[1:4, 2:8, 2:10] = True  # z -200..-180; centres within y -150..150 and x -200..200
    np.testing.assert_array_equal(annotation.regions[0].draw(), expected)
    assert [point.names for point in annotation.points] == [("Isocenter 1",), ("Isocenter 2",)]
    for point in annotation.points:
        np.testing.assert_allclose(point.index, (21.0, 4.5, 5.5))  # the isocentre is the origin
