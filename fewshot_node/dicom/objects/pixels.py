"""Stored pixels to numbers that mean something: decoding and the modality transformation."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut, apply_rescale
from pydicom.pixels.utils import iter_pixels

from fewshot_node.dicom.objects.geometry import Plane, functional_group
from fewshot_node.errors import PixelDataError

_RESCALE = ("RescaleSlope", "RescaleIntercept")


def read_planes(planes: Sequence[Plane]) -> NDArray[np.float32]:
    """Read the pixels of planes of one shape, in their order.

    Modality LUT or rescale is applied, per frame where it is stated so (PS3.3 C.11.1, C.7.6.16.2.9);
    real world value maps are not, since a task is taught on what viewers show.

    Returns
    -------
    array
        float32 (slices, rows, columns).

    Raises
    ------
    PixelDataError
        The pixels of an instance are truncated or cannot be decoded.
    """
    array = np.empty((len(planes), *planes[0].shape), dtype=np.float32)
    slices: dict[Path, list[int]] = defaultdict(list)
    for index, plane in enumerate(planes):
        slices[plane.path].append(index)
    for path, indices in slices.items():
        wanted = [planes[index] for index in indices]
        for index, pixels in zip(indices, _read_frames(path, wanted), strict=True):
            array[index] = pixels
    return array


def _read_frames(path: Path, planes: Sequence[Plane]) -> Iterator[NDArray[np.generic]]:
    """Decode the frames of one file; whatever a decoder raises becomes one named error."""
    uid = planes[0].frame.sop_instance_uid
    try:
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
        frames = [(plane.frame.frame_number or 1) - 1 for plane in planes]
        decoded = iter_pixels(path, indices=frames)
        for plane, frame_index in zip(planes, frames, strict=True):
            pixels = next(decoded)
            if pixels.shape != plane.shape:
                raise ValueError(f"decoded to {pixels.shape}, not to {plane.shape}")
            yield _to_modality_values(pixels, dataset, frame_index)
    except Exception as error:  # a dozen decoders, each with errors of its own
        syntax = _transfer_syntax_name(path)
        message = (
            f"instance {uid}: pixel data cannot be decoded ({syntax}; {type(error).__name__}): "
            "the file is truncated or damaged; send it again"
        )
        raise PixelDataError(message) from error


def _to_modality_values(pixels: NDArray[np.generic], dataset: Dataset, frame_index: int) -> NDArray[np.generic]:
    group = functional_group(dataset, frame_index, "PixelValueTransformationSequence")
    if group is not None:
        return apply_rescale(pixels, group)
    if any(keyword in dataset and dataset[keyword].is_empty for keyword in _RESCALE):
        return pixels
    return apply_modality_lut(pixels, dataset)


def _transfer_syntax_name(path: Path) -> str:
    try:
        meta = pydicom.filereader.read_file_meta_info(path)
    except (OSError, ValueError, pydicom.errors.InvalidDicomError):
        return "transfer syntax unknown"
    return str(meta.get("TransferSyntaxUID", "no transfer syntax").name)
