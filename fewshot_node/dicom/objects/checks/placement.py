"""Frames and points of an object against the grid of the volume that it speaks of, in mm."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from fewshot_node.dicom.objects.checks.faults import Fault, items
from fewshot_node.dicom.objects.geometry import Plane, planes_of
from fewshot_node.errors import GeometryError, SeriesError
from fewshot_node.records import Volume

_TOLERANCE_MM = 0.01


def misplaced_frames(dataset: Dataset, volume: Volume) -> Iterator[Fault]:
    """Yield the frames of a segmentation that are not on a slice of the volume, corner by corner."""
    if str(dataset.get("FrameOfReferenceUID")) != volume.frame_of_reference_uid:
        yield Fault("FrameOfReferenceUID", "is not that of the volume")
    try:
        planes = planes_of(dataset, Path())
    except (GeometryError, SeriesError):
        yield Fault("PerFrameFunctionalGroupsSequence", "has frames without geometry")
        return
    for number, plane in enumerate(planes, 1):
        if not _on_a_slice(plane, volume):
            yield Fault(f"PerFrameFunctionalGroupsSequence[{number}]", "is not on a slice of the volume")


def _on_a_slice(plane: Plane, volume: Volume) -> bool:
    slices, rows, columns = volume.array.shape
    far = plane.position_mm + plane.cosines[3:] * plane.spacing_mm[0] * (rows - 1)
    far = far + plane.cosines[:3] * plane.spacing_mm[1] * (columns - 1)
    slice_index = float(np.rint(volume.to_index(plane.position_mm)[0]))
    expected = volume.to_mm(np.array([[slice_index, 0, 0], [slice_index, rows - 1, columns - 1]]))
    off = float(np.abs(expected - np.stack([plane.position_mm, far])).max())
    return 0 <= slice_index < slices and plane.shape == (rows, columns) and off <= _TOLERANCE_MM


def misplaced_points(report: Dataset, volume: Volume) -> Iterator[Fault]:
    """Yield the coordinates of a report that lie outside the volume or in another frame of reference."""
    for path, item in items(report):
        kind = item.get("ValueType")
        if kind == "SCOORD3D":
            if str(item.get("ReferencedFrameOfReferenceUID")) != volume.frame_of_reference_uid:
                yield Fault(f"{path}/ReferencedFrameOfReferenceUID", "is not that of the volume")
            if not _inside(_coordinates(item, 3), volume):
                yield Fault(f"{path}/GraphicData", "lies outside the volume")
        if kind == "SCOORD":
            column_row = _coordinates(item, 2)
            if (column_row < 0).any() or (column_row > volume.array.shape[:0:-1]).any():
                yield Fault(f"{path}/GraphicData", "lies outside the image")


def misplaced_picture(capture: Dataset, volume: Volume) -> Iterator[Fault]:
    """Yield where a picture that says where it lies does not begin at the first pixel of the slice that it shows."""
    if "ImagePositionPatient" not in capture:
        return
    slices = {(frame.sop_instance_uid, frame.frame_number): index for index, frame in enumerate(volume.frames)}
    shown = slices.get(_first_image(capture, "SourceImageSequence"))
    index = volume.to_index(np.array(capture.ImagePositionPatient, dtype=np.float64))
    off_mm = np.inf if shown is None else abs(index[0] - shown) * volume.spacing_mm[0]
    if off_mm > _TOLERANCE_MM or np.abs(index[1:]).max() > 0.5:
        yield Fault("ImagePositionPatient", "is not the corner of the slice that it shows")
    across, down = volume.affine[:3, 2], volume.affine[:3, 1]
    expected = np.concatenate([across / np.linalg.norm(across), down / np.linalg.norm(down)])
    if not np.allclose(np.array(capture.ImageOrientationPatient, dtype=np.float64), expected, atol=1e-5):
        yield Fault("ImageOrientationPatient", "is not that of the volume")
    if str(capture.get("FrameOfReferenceUID")) != volume.frame_of_reference_uid:
        yield Fault("FrameOfReferenceUID", "is not that of the volume")


def misplaced_contours(structures: Dataset, volume: Volume) -> Iterator[Fault]:
    """Yield the contours of a structure set that leave the volume, or the plane of the image that they name."""
    slices = {(frame.sop_instance_uid, frame.frame_number): index for index, frame in enumerate(volume.frames)}
    for path, item in items(structures):
        if "ContourData" not in item:
            continue
        places = _coordinates(item, 3, "ContourData")
        if not _inside(places, volume):
            yield Fault(f"{path}/ContourData", "lies outside the volume")
        index = slices.get(_first_image(item))
        if index is None:
            yield Fault(f"{path}/ContourImageSequence", "names no image of the volume")
        elif item.get("ContourGeometricType") == "CLOSED_PLANAR":
            off_mm = np.abs(volume.to_index(places)[:, 0] - index) * volume.spacing_mm[0]
            if off_mm.max(initial=0.0) > _TOLERANCE_MM:
                yield Fault(f"{path}/ContourData", "leaves the plane of its image")


def _first_image(dataset: Dataset, keyword: str = "ContourImageSequence") -> tuple[str, int | None]:
    for image in dataset.get(keyword) or ():
        number = image.get("ReferencedFrameNumber")
        return str(image.get("ReferencedSOPInstanceUID")), None if number is None else int(number)
    return "", None


def _coordinates(item: Dataset, dimensions: int, keyword: str = "GraphicData") -> NDArray[np.float64]:
    values = np.atleast_1d(np.asarray(item.get(keyword) or (), dtype=np.float64))
    whole = len(values) - len(values) % dimensions
    return values[:whole].reshape(-1, dimensions)


def _inside(points_mm: NDArray[np.float64], volume: Volume) -> bool:
    """Tell whether points lie within the outermost voxels, edge to edge."""
    margin = 0.5 + _TOLERANCE_MM / np.array(volume.spacing_mm)
    indices = volume.to_index(points_mm)
    last = np.array(volume.array.shape) - 1
    return bool((indices >= -margin).all() and (indices <= last + margin).all())
