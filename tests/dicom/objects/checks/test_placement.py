"""Points and frames lie in the volume that they speak of."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydicom.dataset import Dataset


def coordinates(dataset: Dataset) -> Iterator[Dataset]:
    for item in dataset.get("ContentSequence") or ():
        if item.ValueType in {"SCOORD", "SCOORD3D"}:
            yield item
        yield from coordinates(item)


def faults(made: Any) -> list[str]:
    return [fault.rpartition("/")[2] for fault in made.faults(made.landmarks)]


@pytest.mark.parametrize("shift_mm", [(0, 0, 12.0), (-9.0, 0, 0), (0, 30.0, 0)])
def test_a_point_beside_the_volume_does_not_leave(made: Any, shift_mm: tuple[float, ...]) -> None:
    (point,) = coordinates(made.landmarks)
    point.GraphicData = [value + more for value, more in zip(point.GraphicData, shift_mm, strict=True)]
    assert faults(made) == ["GraphicData lies outside the volume"]


def test_a_point_of_another_frame_of_reference_does_not_leave(made: Any) -> None:
    (point,) = coordinates(made.landmarks)
    point.ReferencedFrameOfReferenceUID = "1.2.3"
    assert faults(made) == ["ReferencedFrameOfReferenceUID is not that of the volume"]


@pytest.mark.parametrize("column_row", [(-0.5, 3.0), (3.0, 16.5), (12.5, 3.0)])
def test_a_point_beside_its_image_does_not_leave(make: Callable[..., Any], column_row: tuple[float, float]) -> None:
    made = make(frame_of_reference=False)
    assert faults(made) == []
    (point,) = coordinates(made.landmarks)
    assert point.ValueType == "SCOORD"
    point.GraphicData = list(column_row)
    assert faults(made) == ["GraphicData lies outside the image"]


def test_a_segmentation_of_another_frame_of_reference_does_not_leave(made: Any) -> None:
    made.segmentation.FrameOfReferenceUID = "1.2.3"
    assert made.faults(made.segmentation) == ["FrameOfReferenceUID is not that of the volume"]
