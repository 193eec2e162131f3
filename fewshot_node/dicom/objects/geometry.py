"""Where the slices of a series lie: planes, their order, and the affine of the grid, all in LPS mm."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from fewshot_node.dicom.objects.values import number, number_of_frames
from fewshot_node.errors import GeometryError
from fewshot_node.records import SourceFrame

logger = logging.getLogger(__name__)

OBLIQUE_DEGREES = 25.0
"""A slice normal farther than this from every body axis makes a series oblique."""

_COSINE_TOLERANCE = 1e-3
_SPACING_TOLERANCE_MM = 1e-3
_POSITION_TOLERANCE_MM = 0.1  # scanners round positions to 0.1 mm, the first and the last one too
_POSITION_TOLERANCE_SLICES = (0.02, 0.2)
_LARGEST_TILT_DEGREES = 45.0  # CT gantries tilt by 30 degrees at most

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Plane:
    """One stored slice: where its pixels are and where they lie.

    Attributes
    ----------
    position_mm
        Image Position (Patient): centre of the first pixel, LPS mm (PS3.3 C.7.6.2.1.1).
    cosines
        Image Orientation (Patient): direction of a row, then of a column.
    spacing_mm
        Pixel Spacing: distance between rows, then between columns.
    thickness_mm
        Spacing Between Slices or Slice Thickness as stated; None when neither is.
    """

    path: Path
    frame: SourceFrame
    shape: tuple[int, int]
    position_mm: Vector
    cosines: Vector
    spacing_mm: tuple[float, float]
    thickness_mm: float | None

    @property
    def normal(self) -> Vector:
        """Unit vector across the slice."""
        return np.cross(self.cosines[:3], self.cosines[3:])


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """Planes in order along their normal, and the (slice, row, column) -> LPS mm affine."""

    planes: tuple[Plane, ...]
    affine: NDArray[np.float64]


def orientation_name(cosines: Sequence[float]) -> str:
    """Name the plane of a slice by the body axis nearest to its normal.

    ``axial``, ``coronal`` or ``sagittal`` within `OBLIQUE_DEGREES` of that axis, else ``oblique``.
    """
    values = np.asarray(cosines, dtype=np.float64)
    normal = np.abs(np.cross(values[:3], values[3:]))
    axis = int(np.argmax(normal))
    length = float(np.linalg.norm(normal))
    if length == 0.0 or normal[axis] / length < np.cos(np.radians(OBLIQUE_DEGREES)):
        return "oblique"
    return ("sagittal", "coronal", "axial")[axis]


def plane_orientations(dataset: Dataset) -> Iterator[tuple[float, ...]]:
    """Give each Image Orientation (Patient) that an image states, in the root or in its frames.

    Raises
    ------
    GeometryError
        One of them is not numeric.
    """
    groups = [dataset]
    for keyword in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for item in dataset.get(keyword) or ():
            groups += list(item.get("PlaneOrientationSequence") or ())
    for group in groups:
        values = group.get("ImageOrientationPatient")
        if values is not None and len(values) == 6:
            yield tuple(_finite(values, "ImageOrientationPatient", str(dataset.SOPInstanceUID)).tolist())


def functional_group(dataset: Dataset, frame_index: int, keyword: str) -> Dataset | None:
    """Return a frame's functional group, its own or else the shared one (PS3.3 C.7.6.16)."""
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or ()
    shared = dataset.get("SharedFunctionalGroupsSequence") or ()
    for group in (*per_frame[frame_index : frame_index + 1], *shared[:1]):
        sequence = group.get(keyword)
        if sequence:
            item: Dataset = sequence[0]
            return item
    return None


def planes_of(dataset: Dataset, path: Path) -> tuple[Plane, ...]:
    """Return the planes of one image: one, or one a frame.

    Raises
    ------
    GeometryError
        Position, orientation or pixel spacing is absent or makes no sense.
    SeriesError
        Number of Frames or the slice thickness is no number.
    """
    frames = number_of_frames(dataset)
    multi_frame = frames > 1 or "PerFrameFunctionalGroupsSequence" in dataset
    return tuple(_plane(dataset, path, index if multi_frame else None) for index in range(frames))


def _plane(dataset: Dataset, path: Path, frame_index: int | None) -> Plane:
    position, orientation, measures = dataset, dataset, dataset
    if frame_index is not None:
        position = functional_group(dataset, frame_index, "PlanePositionSequence") or Dataset()
        orientation = functional_group(dataset, frame_index, "PlaneOrientationSequence") or Dataset()
        measures = functional_group(dataset, frame_index, "PixelMeasuresSequence") or Dataset()
    uid = str(dataset.SOPInstanceUID)
    position_mm = _numbers(position, "ImagePositionPatient", 3, uid)
    cosines = _unit_cosines(_numbers(orientation, "ImageOrientationPatient", 6, uid), uid)
    spacing = _numbers(measures, "PixelSpacing", 2, uid)
    if spacing.min() <= 0:
        raise GeometryError(f"instance {uid}: Pixel Spacing is not positive: export the series again")
    return Plane(
        path=path,
        frame=SourceFrame(str(dataset.SOPClassUID), uid, None if frame_index is None else frame_index + 1),
        shape=(int(dataset.Rows), int(dataset.Columns)),
        position_mm=position_mm,
        cosines=cosines,
        spacing_mm=(float(spacing[0]), float(spacing[1])),
        thickness_mm=_thickness(measures, uid),
    )


def _numbers(dataset: Dataset, keyword: str, count: int, uid: str) -> Vector:
    value = dataset.get(keyword)
    if value is None or not hasattr(value, "__len__") or len(value) != count:
        message = (
            f"instance {uid} states no {keyword}, so it has no place in the patient: projection images and "
            "secondary captures cannot be processed; exclude them with a rule on sop_class or modality"
        )
        raise GeometryError(message)
    return _finite(value, keyword, uid)


def _finite(values: Sequence[Any], keyword: str, uid: str) -> Vector:
    try:
        numbers = np.array([float(value) for value in values], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise GeometryError(f"instance {uid}: {keyword} is not numeric: export the series again") from error
    if not np.isfinite(numbers).all():
        raise GeometryError(f"instance {uid}: {keyword} is not finite: export the series again")
    return numbers


def _unit_cosines(values: Vector, uid: str) -> Vector:
    row, column = values[:3], values[3:]
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if not np.allclose(lengths, 1.0, atol=0.01) or abs(float(row @ column)) > 0.01:
        message = f"instance {uid}: Image Orientation is not two perpendicular unit vectors: export it again"
        raise GeometryError(message)
    return np.concatenate([row / lengths[0], column / lengths[1]])


def _thickness(measures: Dataset, uid: str) -> float | None:
    for keyword in ("SpacingBetweenSlices", "SliceThickness"):
        thickness = abs(number(measures, keyword, 0.0, uid))
        if thickness > 0:
            return thickness
    return None


def arrange(planes: Sequence[Plane], series_instance_uid: str) -> Stack:
    """Sort planes along their normal and find their regular grid.

    A constant shear (a tilted CT gantry) is a regular grid; positions may be off it by 2 % of the slice
    distance, or by 0.1 mm and a fifth of it, as rounded positions are.

    Raises
    ------
    GeometryError
        Planes differ in size, spacing or orientation, share a place, or are irregularly spaced.
    """
    where = f"series {series_instance_uid}"
    _require_alike(planes, where)
    normal = planes[0].normal
    ordered = tuple(sorted(planes, key=lambda plane: float(plane.position_mm @ normal)))
    positions = np.stack([plane.position_mm for plane in ordered])
    if len(ordered) == 1:
        step = normal * _single_slice_spacing(ordered[0], where)
    else:
        _require_distinct(ordered, positions @ normal, where)
        step = (positions[-1] - positions[0]) / (len(ordered) - 1)
        _require_regular(ordered, positions, step, where)
    return Stack(ordered, _affine(ordered[0], step))


def _affine(first: Plane, step: Vector) -> NDArray[np.float64]:
    affine = np.eye(4)
    affine[:3, 0] = step
    affine[:3, 1] = first.cosines[3:] * first.spacing_mm[0]
    affine[:3, 2] = first.cosines[:3] * first.spacing_mm[1]
    affine[:3, 3] = first.position_mm
    return affine


def _require_alike(planes: Sequence[Plane], where: str) -> None:
    first = planes[0]
    for plane in planes[1:]:
        what = _difference(first, plane)
        if what:
            message = (
                f"{where}: instances {_name(first.frame)} and {_name(plane.frame)} differ in {what}: "
                "a volume needs one geometry; send localizers and reformats as series of their own"
            )
            raise GeometryError(message)


def _difference(first: Plane, plane: Plane) -> str | None:
    if plane.shape != first.shape:
        return f"rows and columns ({first.shape} and {plane.shape})"
    if not np.allclose(plane.cosines, first.cosines, atol=_COSINE_TOLERANCE):
        return "orientation"
    if not np.allclose(plane.spacing_mm, first.spacing_mm, rtol=0, atol=_SPACING_TOLERANCE_MM):
        return f"pixel spacing ({first.spacing_mm} and {plane.spacing_mm} mm)"
    return None


def _single_slice_spacing(plane: Plane, where: str) -> float:
    if plane.thickness_mm is None:
        logger.debug("%s: a single slice without thickness, taken as 1 mm", where)
        return 1.0
    return plane.thickness_mm


def _require_distinct(ordered: Sequence[Plane], heights: Vector, where: str) -> None:
    same = np.flatnonzero(np.diff(heights) < _SPACING_TOLERANCE_MM)
    if len(same) == 0:
        return
    first, second = ordered[same[0]].frame, ordered[same[0] + 1].frame
    message = (
        f"{where}: {len(same)} slices lie at the place of another one, for example {_name(first)} and "
        f"{_name(second)}: several phases, echoes or stacks; send each as a series of its own"
    )
    raise GeometryError(message)


def _require_regular(ordered: Sequence[Plane], positions: Vector, step: Vector, where: str) -> None:
    spacing = float(np.linalg.norm(step))
    if abs(float(step @ ordered[0].normal)) < spacing * np.cos(np.radians(_LARGEST_TILT_DEGREES)):
        message = f"{where}: slices are stacked sideways, not along their normal: export one volume a series"
        raise GeometryError(message)
    expected = positions[0] + np.arange(len(ordered))[:, None] * step
    off = np.linalg.norm(positions - expected, axis=1)
    least, most = (part * spacing for part in _POSITION_TOLERANCE_SLICES)
    if off.max() > max(least, min(_POSITION_TOLERANCE_MM, most)):
        raise GeometryError(_describe_gap(ordered, positions, where))


def _describe_gap(ordered: Sequence[Plane], positions: Vector, where: str) -> str:
    gaps = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    usual = float(np.median(gaps))
    worst = int(np.argmax(np.abs(gaps - usual)))
    gap = float(gaps[worst])
    between = f"between {_name(ordered[worst].frame)} and {_name(ordered[worst + 1].frame)}"
    missing = round(gap / usual) - 1
    if missing >= 1 and abs(gap - (missing + 1) * usual) < 0.1 * usual:
        return (
            f"{where}: {missing} slice(s) missing {between}, a gap of {gap:.2f} mm where "
            f"{usual:.2f} mm is usual: send the series again, complete"
        )
    return (
        f"{where}: irregular slice spacing, {gap:.2f} mm {between} where {usual:.2f} mm is usual: "
        "resample the series to one spacing or export it as several series"
    )


def _name(frame: SourceFrame) -> str:
    number = "" if frame.frame_number is None else f" frame {frame.frame_number}"
    return f"{frame.sop_instance_uid}{number}"
