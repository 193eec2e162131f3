"""The stored pixels of a Segmentation, in the encodings that pydicom does not decode too."""

import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import RLELossless

from fewshot_node.dicom.objects.values import number_of_frames

DEFLATED_IMAGE_FRAME = "1.2.840.10008.1.2.8.1"
"""Deflated Image Frame Compression (PS3.5 A.4.12), which pydicom 3.0 does not know."""

FrameArray = NDArray[np.unsignedinteger]


def stored_frames(dataset: Dataset) -> Iterator[FrameArray]:
    """Give each frame's stored values, (rows, columns), in their order.

    Raises
    ------
    ValueError, AttributeError, RuntimeError, NotImplementedError, zlib.error
        The pixel data are truncated, absent or in an encoding that nothing here decodes.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax == DEFLATED_IMAGE_FRAME:
        yield from (_shaped(frame, dataset) for frame in _inflated(dataset))
    elif syntax == RLELossless and dataset.BitsAllocated == 1:
        yield from (_shaped(frame.tobytes(), dataset) for frame in iter_pixels(_packed_view(dataset), raw=True))
    else:
        yield from iter_pixels(dataset, raw=True)


def _frame_bytes(dataset: Dataset) -> int:
    """Return how many bytes a frame takes when each frame begins with a byte of its own."""
    return -(-int(dataset.Rows) * int(dataset.Columns) * int(dataset.BitsAllocated) // 8)


def _inflated(dataset: Dataset) -> Iterator[bytes]:
    size = _frame_bytes(dataset)
    for frame in generate_frames(dataset.PixelData, number_of_frames=number_of_frames(dataset)):
        yield zlib.decompressobj(wbits=-zlib.MAX_WBITS).decompress(frame, size)


def _packed_view(dataset: Dataset) -> Dataset:
    """Return the image as rows of packed bytes: run lengths are those of bytes, whatever the bits mean."""
    packed = Dataset()
    packed.file_meta = dataset.file_meta
    for keyword in ("SamplesPerPixel", "PhotometricInterpretation", "PixelRepresentation", "PixelData"):
        packed[keyword] = dataset[keyword]
    packed.NumberOfFrames = number_of_frames(dataset)
    packed.Rows, packed.Columns = 1, _frame_bytes(dataset)
    packed.BitsAllocated = packed.BitsStored = 8
    packed.HighBit = 7
    return packed


def _shaped(frame: bytes, dataset: Dataset) -> FrameArray:
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    if dataset.BitsAllocated == 1:
        bits = np.unpackbits(np.frombuffer(frame, np.uint8), bitorder="little")
        return bits[: rows * columns].reshape(rows, columns)
    kind = np.dtype(f"<u{int(dataset.BitsAllocated) // 8}")
    return np.frombuffer(frame, kind)[: rows * columns].reshape(rows, columns)
