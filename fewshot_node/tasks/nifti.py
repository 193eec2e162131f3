"""Label volumes in NIfTI files, brought onto the grid of a DICOM series."""

import zlib
from pathlib import Path

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError, SpatialImage
from numpy.typing import NDArray

from fewshot_node.errors import TemplateError
from fewshot_node.records import LabelArray, Volume

_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_TOLERANCE_VOXELS = 0.25


def read_nifti_labels(path: Path, volume: Volume) -> LabelArray:
    """Read a label volume that lies on the grid of `volume`, up to flipped and permuted axes.

    NIfTI coordinates are RAS, ours are LPS; the two affines are compared in mm.

    Returns
    -------
    LabelArray
        uint8 (slices, rows, columns).

    Raises
    ------
    TemplateError
        The file cannot be read, holds no label values, or lies on another grid.
    """
    labels, affine_ras = _load(path)
    to_index = np.linalg.inv(volume.affine) @ _RAS_TO_LPS @ affine_ras
    axes = tuple(int(axis) for axis in np.abs(to_index[:3, :3]).argmax(axis=1))
    if sorted(axes) != [0, 1, 2] or tuple(labels.shape[axis] for axis in axes) != volume.array.shape:
        raise TemplateError(_other_grid(path, labels.shape, volume, "the shapes differ"))
    flips = tuple(bool(to_index[row, axis] < 0) for row, axis in enumerate(axes))
    distance = _corner_distance(to_index, axes, flips, volume.array.shape)
    if distance > _TOLERANCE_VOXELS:
        raise TemplateError(_other_grid(path, labels.shape, volume, f"corners lie {distance:.1f} voxels apart"))
    placed = labels.transpose(axes)
    for row, flipped in enumerate(flips):
        placed = np.flip(placed, row) if flipped else placed
    return np.ascontiguousarray(placed)


def _load(path: Path) -> tuple[LabelArray, NDArray[np.float64]]:
    try:
        image = nibabel.load(path)
        if not isinstance(image, SpatialImage) or image.affine is None:
            raise TemplateError(f"label file {path} has no place in space: save it as NIfTI with an affine")
        values = np.asanyarray(image.dataobj)
    except (OSError, EOFError, ValueError, zlib.error, ImageFileError, HeaderDataError) as error:
        raise TemplateError(f"label file {path} cannot be read as NIfTI: give the file as it was saved") from error
    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    values = values[..., None] if values.ndim == 2 else values
    if values.ndim != 3:
        raise TemplateError(f"label file {path} has the shape {values.shape}: give one label volume, not several")
    return _as_labels(values, path), np.asarray(image.affine, dtype=np.float64)


def _as_labels(values: NDArray[np.generic], path: Path) -> LabelArray:
    if values.dtype.kind not in "biuf":
        raise TemplateError(f"label file {path} holds {values.dtype}: give one whole number a voxel")
    labels = values.astype(np.float64)
    if not np.isfinite(labels).all() or labels.min() < 0 or labels.max() > 254 or (labels != np.rint(labels)).any():
        raise TemplateError(
            f"label file {path} holds other values than whole numbers 0..254: give a label map, not an image"
        )
    return labels.astype(np.uint8)


def _corner_distance(
    to_index: NDArray[np.float64], axes: tuple[int, ...], flips: tuple[bool, ...], shape: tuple[int, ...]
) -> float:
    """Largest distance, in voxels of the series, of the corner voxels' centres from where they belong."""
    source_shape = [0, 0, 0]
    for row, axis in enumerate(axes):
        source_shape[axis] = shape[row]
    corners = np.stack(np.meshgrid(*((0, size - 1) for size in source_shape), indexing="ij"), -1).reshape(-1, 3)
    mapped = corners @ to_index[:3, :3].T + to_index[:3, 3]
    expected = np.stack(
        [(shape[row] - 1 - corners[:, axis]) if flips[row] else corners[:, axis] for row, axis in enumerate(axes)],
        axis=1,
    )
    return float(np.abs(mapped - expected).max())


def _other_grid(path: Path, shape: tuple[int, ...], volume: Volume, how: str) -> str:
    spacing = " x ".join(f"{one:.3g}" for one in volume.spacing_mm)
    return (
        f"label file {path} ({' x '.join(map(str, shape))}) lies on another grid than series "
        f"{volume.series_instance_uid} ({' x '.join(map(str, volume.array.shape))} slices x rows x columns, "
        f"{spacing} mm): {how}. Draw the labels on this series, or resample them to it (nearest neighbour)"
    )
