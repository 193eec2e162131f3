"""Where a measurement group of TID 1500 says that something is: regions in mm, and segments."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from fewshot_node.records import Volume

Point = tuple[float, float, float]

MeasurementGroup = (
    hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations
    | hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations
    | hd.sr.MeasurementsAndQualitativeEvaluations
)
_SEGMENT_NAMES = frozenset({"121191", "121214"})
"""Code values of Referenced Segment and Referenced Segmentation Frame."""


@dataclass(frozen=True, slots=True)
class ReportedRegion:
    """A point or an outline.

    Attributes
    ----------
    graphic_type
        As in PS3.3 C.18.6.1.2 and C.18.9.1.2: POINT, POLYLINE, CIRCLE (centre, then a point on it) and so on.
    points_mm
        LPS mm; empty for one on an image that the volume at hand does not hold.
    image_uid, frame_number
        The image that it is drawn on; None for one in patient coordinates.
    """

    graphic_type: str
    points_mm: tuple[Point, ...]
    image_uid: str | None = None
    frame_number: int | None = None


@dataclass(frozen=True, slots=True)
class ReportedSegment:
    """A segment of a Segmentation, or a frame of it; of a frame, the Segmentation says which segment it is."""

    instance_uid: str
    segment_number: int | None = None
    frame_number: int | None = None


def regions(group: MeasurementGroup, volume: Volume | None) -> Iterator[ReportedRegion]:
    """Give the regions of a group, those in patient coordinates and those on images."""
    roi: Any = getattr(group, "roi", None)
    parts: Iterable[Any] = roi if isinstance(roi, (list, hd.sr.VolumeSurface)) else [roi]
    for part in parts:
        kind = str(getattr(part, "ValueType", ""))
        if kind == "SCOORD3D":
            points_mm = np.asarray(part.GraphicData, dtype=np.float64).reshape(-1, 3)
            yield ReportedRegion(str(part.GraphicType), _as_points(points_mm))
        elif kind == "SCOORD":
            yield _on_image(part, volume)


def segment(group: MeasurementGroup) -> ReportedSegment | None:
    """Return the segment that a group refers to (TID 1410, 1411); None when it does not."""
    for item in group[0].ContentSequence:
        if item.ValueType == "IMAGE" and item.ConceptNameCodeSequence[0].CodeValue in _SEGMENT_NAMES:
            reference = item.ReferencedSOPSequence[0]
            return ReportedSegment(
                str(reference.ReferencedSOPInstanceUID),
                _first(reference, "ReferencedSegmentNumber"),
                _first(reference, "ReferencedFrameNumber"),
            )
    return None


def _on_image(region: Any, volume: Volume | None) -> ReportedRegion:
    reference = region.ContentSequence[0].ReferencedSOPSequence[0]
    uid, number = str(reference.ReferencedSOPInstanceUID), _first(reference, "ReferencedFrameNumber")
    places = np.asarray(region.GraphicData, dtype=np.float64).reshape(-1, 2)
    return ReportedRegion(str(region.GraphicType), _placed(places, (uid, number), volume), uid, number)


def _placed(places: NDArray[np.float64], wanted: tuple[str, int | None], volume: Volume | None) -> tuple[Point, ...]:
    """Place (column, row), which count from the corner of the first pixel (PS3.3 C.18.6.1.2), in mm."""
    for index, frame in enumerate(() if volume is None else volume.frames):
        if volume is not None and (frame.sop_instance_uid, frame.frame_number) == wanted:
            rows_columns = places[:, ::-1] - 0.5
            indices = np.column_stack([np.full(len(places), index, dtype=np.float64), rows_columns])
            return _as_points(volume.to_mm(indices))
    return ()


def _as_points(points_mm: NDArray[np.float64]) -> tuple[Point, ...]:
    return tuple((float(x), float(y), float(z)) for x, y, z in points_mm)


def _first(reference: Dataset, keyword: str) -> int | None:
    """Return the first of one or several numbers."""
    value = reference.get(keyword)
    if value is None:
        return None
    return int(value) if reference[keyword].VM == 1 else int(value[0])
