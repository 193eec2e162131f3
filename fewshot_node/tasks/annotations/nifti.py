"""Label volumes in NIfTI files, whose coordinates are RAS mm."""

import gzip
import zlib
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError, SpatialImage
from numpy.typing import NDArray

from fewshot_node.errors import TemplateError
from fewshot_node.records import LabelArray
from fewshot_node.tasks.annotations.placing import RAS_TO_LPS, LabelVolume, place
from fewshot_node.tasks.annotations.records import Annotation, AnnotationFormat, Target, value_regions

_LARGEST = 255


def read(target: Target) -> Annotation:
    """Read a label volume; its values are the regions' numbers.

    Raises
    ------
    TemplateError
        The file cannot be read, holds no label values, or lies on another grid.
    """
    placed = place(_load(target.path), target)
    return Annotation(AnnotationFormat.NIFTI, value_regions(placed.label_map, {}), notes=placed.notes)


def marks_nothing(path: Path) -> bool:
    """Tell whether every voxel of a file is background.

    Raises
    ------
    TemplateError
        The file cannot be read as a label map.
    """
    return not _load(path).labels.any()


def _load(path: Path) -> LabelVolume:
    try:
        image = _open(path)
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
    return LabelVolume(as_labels(values, path), RAS_TO_LPS @ np.asarray(image.affine, dtype=np.float64))


def _open(path: Path) -> Any:
    """Open one file whatever its name; nibabel goes by that, and finds the second file of a pair by it."""
    content = path.read_bytes()
    content = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
    for kind, magic, start in ((nibabel.Nifti1Image, b"n+1", 344), (nibabel.Nifti2Image, b"n+2", 4)):
        if content[start : start + 3] == magic:
            return kind.from_bytes(content)
    return nibabel.load(path)


def as_labels(values: NDArray[np.generic], path: Path) -> LabelArray:
    """Return whole numbers from 0 to 255 as uint8.

    Raises
    ------
    TemplateError
        There are other values.
    """
    if values.dtype.kind not in "biuf":
        raise TemplateError(f"label file {path} holds {values.dtype}: give one whole number a voxel")
    labels = values.astype(np.float64)
    if (
        not np.isfinite(labels).all()
        or labels.min() < 0
        or labels.max() > _LARGEST
        or (labels != np.rint(labels)).any()
    ):
        raise TemplateError(
            f"label file {path} holds other values than whole numbers 0..{_LARGEST}: give a label map, not an image"
        )
    return labels.astype(np.uint8)
