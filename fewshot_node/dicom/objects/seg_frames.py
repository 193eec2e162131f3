"""The pixels of a Segmentation: segment numbers on the sources' frames, and probabilities."""

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from threadpoolctl import threadpool_limits

from fewshot_node.dicom.objects.segments import segments
from fewshot_node.errors import ConformanceError
from fewshot_node.records import LabelArray, Result, Volume

_LARGEST_FRACTION = 255


def number_labels(result: Result, volume: Volume) -> LabelArray:
    """Return the label map with segment numbers, which are consecutive from 1 (PS3.3 C.8.20.4).

    Raises
    ------
    ConformanceError
        There is no label map, it is not on the volume's grid, or it holds a value that no finding describes.
    """
    label_map = result.label_map
    if label_map is None:
        raise ConformanceError(f"task {result.task_name} gave no label map: write a report only")
    if label_map.shape != volume.array.shape:
        message = f"task {result.task_name}: label map {label_map.shape} is not on the volume's grid"
        raise ConformanceError(f"{message} {volume.array.shape}: fit the task again")
    values = [finding.label.value for finding in segments(result)]
    if values == list(range(1, len(values) + 1)):
        _require_described(int(label_map.max(initial=0)) <= len(values), result)
        return label_map
    numbers = np.zeros(256, dtype=np.uint8)
    numbers[values] = np.arange(1, len(values) + 1)
    renumbered: LabelArray = np.take(numbers, label_map)
    _require_described(np.count_nonzero(renumbered) == np.count_nonzero(label_map), result)
    return renumbered


def _require_described(condition: bool, result: Result) -> None:
    if not condition:
        message = f"task {result.task_name}: the label map holds a value that none of its findings describes"
        raise ConformanceError(f"{message}: publish the task again")


def source_planes(numbers: LabelArray, volume: Volume) -> LabelArray:
    """Return the slices as highdicom pairs them with the sources: by frame number if there are frames."""
    if volume.frames[0].frame_number is None:
        return numbers
    order = np.argsort([frame.frame_number or 0 for frame in volume.frames])
    return numbers[order]


def set_probabilities(segmentation: Dataset, result: Result, volume: Volume) -> None:
    """Replace a FRACTIONAL Segmentation's pixels, written from the masks, by the probabilities of its segments.

    A frame whose mask is empty stays empty. Slices are taken one by one: of all frames, only the
    encoded bytes are in memory.

    Raises
    ------
    ConformanceError
        The result has no probabilities.
    """
    probabilities = result.probabilities
    if probabilities is None:
        message = f"task {result.task_name} gave no probabilities: fit it again, or choose output segmentation=binary"
        raise ConformanceError(message)
    channels = [probabilities.label_values.index(finding.label.value) for finding in segments(result)]
    shape = (segmentation.NumberOfFrames, segmentation.Rows, segmentation.Columns)
    pixels = bytearray(segmentation.PixelData)
    segmentation.PixelData = b""  # let go: it may take a gigabyte
    frames = np.frombuffer(pixels, dtype=np.uint8, count=math.prod(shape)).reshape(shape)
    # The products are small: threads of BLAS would wait for each other, 68 ms of processor time a slice instead of 17.
    with threadpool_limits(1, "blas"):
        for slice_index, places in _frames_by_slice(segmentation, volume).items():
            shown = [(frame, segment) for frame, segment in places if frames[frame].any()]
            if not shown:
                continue
            shares = probabilities.on_slice(slice_index)
            for frame, segment in shown:
                frames[frame] = _stored(shares[channels[segment - 1]])
    segmentation.PixelData = bytes(pixels)
    segmentation.MaximumFractionalValue = _LARGEST_FRACTION
    if len(channels) > 1:  # parts of one voxel's belief: neither apart nor on top of each other
        segmentation.SegmentsOverlap = "UNDEFINED"


def _stored(shares: NDArray[np.float32]) -> NDArray[np.uint8]:
    stored: NDArray[np.uint8] = np.rint(shares * np.float32(_LARGEST_FRACTION)).astype(np.uint8)
    return stored


def _frames_by_slice(segmentation: Dataset, volume: Volume) -> dict[int, list[tuple[int, int]]]:
    """Map slice indices to the (frame index, segment number) that lie there."""
    groups: Sequence[Dataset] = segmentation.PerFrameFunctionalGroupsSequence
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    positions = np.array([group.PlanePositionSequence[0].ImagePositionPatient for group in groups], dtype=np.float64)
    found = defaultdict(list)
    for frame, slice_index in enumerate(np.rint(volume.to_index(positions)[:, 0]).astype(int)):
        # highdicom states a segment that has no other beside it for all frames at once.
        owner = groups[frame] if "SegmentIdentificationSequence" in groups[frame] else shared
        number = int(owner.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        found[int(slice_index)].append((frame, number))
    return found
