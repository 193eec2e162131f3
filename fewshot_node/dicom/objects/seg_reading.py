"""Labels out of a DICOM Segmentation, placed in millimetres on the grid of a volume."""

import logging
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from fewshot_node.dicom.objects.geometry import Plane, functional_group, planes_of
from fewshot_node.dicom.objects.headers import read_object
from fewshot_node.dicom.objects.seg_pixels import stored_frames
from fewshot_node.errors import GeometryError, TemplateError
from fewshot_node.records import Code, Label, LabelArray, Volume

logger = logging.getLogger(__name__)

_SEGMENTATION_CLASSES = {"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"}
_FRACTION = 0.5
_TOLERANCE_VOXELS = 0.1
_LARGEST_VALUE = 254
_REMEDY = "resample it, or annotate on this series"
_MODIFIERS = (
    ("SegmentedPropertyTypeCodeSequence", "SegmentedPropertyTypeModifierCodeSequence"),
    ("AnatomicRegionSequence", "AnatomicRegionModifierSequence"),
)
_SIDES = {"left", "right"}
_TISSUE = Code("85756007", "SCT", "Tissue")


@dataclass(frozen=True, slots=True, eq=False)
class SegmentationLabels:
    """Labels read from a Segmentation.

    Attributes
    ----------
    label_map
        uint8 (slices, rows, columns) on the volume's grid; values are segment numbers, 0 is background.
    labels
        One for each segment that is described, the empty ones too.
    overlapping
        How many voxels lie in several segments.
    """

    label_map: LabelArray
    labels: tuple[Label, ...]
    overlapping: int = 0


def read_segmentation(source: Path | Dataset, volume: Volume, only: int | None = None) -> SegmentationLabels:
    """Read a BINARY, FRACTIONAL (from one half) or LABELMAP Segmentation onto the grid of `volume`.

    Each labelled pixel goes to the voxel that lies at the same place in mm; its frame may be flipped or
    cropped, but must have the volume's spacing. Where segments overlap, the one with the higher fraction wins,
    among equal ones the higher number, and a warning is logged.

    Parameters
    ----------
    only
        Number of the one segment to read, as if there were no other; None reads all.

    Raises
    ------
    NotDicomError
        `source` is a path to something else than DICOM.
    TemplateError
        It is no Segmentation, belongs to another series or Frame of Reference, lies on another grid, or
        has more segments than a label map can hold.
    """
    dataset = _load(source)
    uid = str(dataset.get("SOPInstanceUID"))
    _require_same_series(dataset, volume, uid)
    labels = tuple(_labels(dataset, uid))
    canvas = _Canvas(np.zeros(volume.array.shape, np.uint8), np.zeros(volume.array.shape, np.uint8))
    overlapping = sum(
        canvas.add(_place(plane, frame.numbers, volume, uid), frame)
        for plane, frame in _labelled_frames(dataset, uid, only)
    )
    if overlapping:
        logger.warning("segmentation %s: %d voxels in several segments, one wins", uid, overlapping)
    return SegmentationLabels(canvas.label_map, labels, overlapping)


@dataclass(frozen=True, slots=True, eq=False)
class _Frame:
    """One frame: uint8 segment numbers, 0 elsewhere, and how strongly each pixel belongs to its segment."""

    numbers: LabelArray
    weights: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class _Canvas:
    """The label map that frames are laid onto, and the weight of what each voxel has."""

    label_map: LabelArray
    weights: NDArray[np.uint8]

    def add(self, place: tuple[NDArray[np.intp], ...], frame: _Frame) -> int:
        """Lay a frame onto `place`, its labelled pixels in row-major order; return how many lie on another segment."""
        labelled = frame.numbers > 0
        new, weights = frame.numbers[labelled], frame.weights[labelled]
        old, before = self.label_map[place], self.weights[place]
        wins = (weights > before) | ((weights == before) & (new >= old))
        self.label_map[place] = np.where(wins, new, old)
        self.weights[place] = np.where(wins, weights, before)
        return int(np.count_nonzero((old > 0) & (old != new)))


def _load(source: Path | Dataset) -> Dataset:
    dataset = read_object(source)
    if str(dataset.get("SOPClassUID")) not in _SEGMENTATION_CLASSES:
        raise TemplateError(f"instance {dataset.get('SOPInstanceUID')} is no DICOM Segmentation: pass one")
    return dataset


def _require_same_series(dataset: Dataset, volume: Volume, uid: str) -> None:
    series = {str(item.SeriesInstanceUID) for item in dataset.get("ReferencedSeriesSequence") or ()}
    if series and volume.series_instance_uid not in series:
        message = (
            f"segmentation {uid} belongs to series {', '.join(sorted(series))}, "
            f"not to {volume.series_instance_uid}: pass the series it was drawn on, or {_REMEDY}"
        )
        raise TemplateError(message)
    frame_of_reference = str(dataset.get("FrameOfReferenceUID") or "")
    comparable = volume.frame_of_reference_stated and frame_of_reference
    if comparable and frame_of_reference != volume.frame_of_reference_uid:
        message = (
            f"segmentation {uid} has Frame of Reference {frame_of_reference}, series "
            f"{volume.series_instance_uid} has {volume.frame_of_reference_uid}: register and {_REMEDY}"
        )
        raise TemplateError(message)


def _labels(dataset: Dataset, uid: str) -> Iterator[Label]:
    names: set[str] = set()
    for item in dataset.get("SegmentSequence") or ():
        number = int(item.SegmentNumber)
        if number == 0:
            continue  # background of a label map segmentation
        if number > _LARGEST_VALUE:
            message = f"segmentation {uid}: segment number {number} is over {_LARGEST_VALUE}"
            raise TemplateError(f"{message}: keep only the segments that the task needs")
        name = str(item.get("SegmentLabel") or f"segment {number}")
        name = name if name not in names else f"{name} {number}"
        names.add(name)
        yield Label(
            value=number,
            name=name,
            category=_code(item, "SegmentedPropertyCategoryCodeSequence") or _TISSUE,
            type=_code(item, "SegmentedPropertyTypeCodeSequence") or _TISSUE,
            anatomic_region=_code(item, "AnatomicRegionSequence"),
            laterality=_laterality(item),
        )


def _laterality(item: Dataset) -> Code | None:
    for sequence, modifier in _MODIFIERS:
        for concept in item.get(sequence) or ():
            side = _code(concept, modifier)
            if side is not None and side.meaning.casefold() in _SIDES:
                return side
    return None


def _code(item: Dataset, keyword: str) -> Code | None:
    for code in item.get(keyword) or ():
        value = code.get("CodeValue") or code.get("LongCodeValue") or code.get("URNCodeValue")
        if value:
            return Code(str(value), str(code.get("CodingSchemeDesignator", "")), str(code.CodeMeaning))
    return None


def _labelled_frames(dataset: Dataset, uid: str, only: int | None) -> Iterator[tuple[Plane, _Frame]]:
    """Give each frame that holds a (wanted) label, with its plane."""
    try:
        planes = planes_of(dataset, Path())
    except GeometryError as error:
        raise TemplateError(f"segmentation {uid} cannot be placed in the patient: {error}") from error
    try:
        for index, (plane, pixels) in enumerate(zip(planes, stored_frames(dataset), strict=True)):
            frame = _read_frame(dataset, index, pixels)
            if only is not None:
                frame = _Frame(np.where(frame.numbers == only, frame.numbers, 0).astype(np.uint8), frame.weights)
            if frame.numbers.any():
                yield plane, frame
    except (AttributeError, RuntimeError, ValueError, NotImplementedError, zlib.error) as error:
        message = f"segmentation {uid}: pixels cannot be decoded: export it again, uncompressed"
        raise TemplateError(message) from error


def _read_frame(dataset: Dataset, frame_index: int, pixels: NDArray[np.unsignedinteger]) -> _Frame:
    kind = str(dataset.get("SegmentationType", "BINARY"))
    if kind == "LABELMAP":
        # Pixel Padding Value is the number of the background, 0 where none is stated (PS3.3 C.8.20.2).
        labelled = (pixels <= _LARGEST_VALUE) & (pixels != int(dataset.get("PixelPaddingValue") or 0))
        return _Frame(np.where(labelled, pixels, 0).astype(np.uint8), labelled.astype(np.uint8))
    identification = functional_group(dataset, frame_index, "SegmentIdentificationSequence")
    if identification is None:
        raise ValueError("a frame names no segment")
    mask = pixels > 0
    if kind == "FRACTIONAL":
        mask = pixels >= _FRACTION * int(dataset.MaximumFractionalValue)
    weights = np.minimum(pixels, 255).astype(np.uint8)  # a fraction has 8 bits (PS3.3 C.8.20.2)
    return _Frame(mask.astype(np.uint8) * np.uint8(identification.ReferencedSegmentNumber), weights)


def _place(
    plane: Plane, values: LabelArray, volume: Volume, uid: str
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Return the voxel indices of a frame's labelled pixels, in row-major order."""
    rows, columns = np.nonzero(values)
    across = np.outer(columns * plane.spacing_mm[1], plane.cosines[:3])
    down = np.outer(rows * plane.spacing_mm[0], plane.cosines[3:])
    indices = volume.to_index(plane.position_mm + across + down)
    nearest = np.rint(indices)
    difference = _grid_difference(plane, indices, nearest, volume)
    if difference:
        message = f"segmentation {uid} does not lie on the grid of series {volume.series_instance_uid}"
        raise TemplateError(f"{message}: {difference}; {_REMEDY}")
    slices, rows_in_volume, columns_in_volume = nearest.astype(np.intp).T
    return slices, rows_in_volume, columns_in_volume


def _grid_difference(
    plane: Plane, indices: NDArray[np.float64], nearest: NDArray[np.float64], volume: Volume
) -> str | None:
    _, row_mm, column_mm = volume.spacing_mm
    if not np.allclose(sorted(plane.spacing_mm), sorted((row_mm, column_mm)), rtol=1e-3):
        return f"its pixel spacing is {plane.spacing_mm} mm, the series' {(row_mm, column_mm)} mm"
    if (nearest < 0).any() or (nearest >= volume.array.shape).any():
        return f"it reaches beyond the {volume.array.shape} voxels of the series"
    off = indices - nearest
    if np.abs(off).max() > _TOLERANCE_VOXELS:
        off_mm = np.linalg.norm(off @ volume.affine[:3, :3].T, axis=1).max()
        return f"its pixels lie up to {off_mm:.2f} mm beside those of the series"
    return None
