"""Tracking UIDs (112040, DCM): what a result says under each, and which an object that comes in has.

They are the only thing that a viewer keeps when a person corrects a result: the SOP Instance and the series
are new ones.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from fewshot_node.dicom.objects.headers import read_without_pixels
from fewshot_node.records import LabelArray, Result, TrackedLabel
from fewshot_node.uids import ResultUids, digest_parts

logger = logging.getLogger(__name__)

_SEGMENTATIONS = {"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"}
_REPORTS = {f"1.2.840.10008.5.1.4.1.1.88.{number}" for number in (22, 33, 34)}
_TRACKING_UID = ("112040", "DCM")
_DEEPEST = 16


@dataclass(frozen=True, slots=True)
class TrackedObject:
    """A Segmentation or a report, and the tracking UIDs that it names.

    Attributes
    ----------
    segments
        Tracking UID -> number of the segment that has it; the UIDs of a report stand for 0.
    """

    path: Path
    sop_instance_uid: str
    series_instance_uid: str
    is_segmentation: bool
    segments: dict[str, int]


def track_result(result: Result, uids: ResultUids, instance_uid: str) -> tuple[TrackedLabel, ...]:
    """Return what a result says of each label under its tracking UID.

    Parameters
    ----------
    instance_uid
        SOP Instance UID of the result's Segmentation; without one, of its report.
    """
    label_map = result.label_map
    return tuple(
        TrackedLabel(
            tracking_uid=uids.tracking(finding.label.name),
            label_value=finding.label.value,
            instance_uid=instance_uid,
            mask_digest=None if label_map is None else mask_digest(label_map == finding.label.value),
            point_mm=finding.point_mm if finding.found else None,
        )
        for finding in result.findings
    )


def mask_digest(mask: NDArray[np.bool_]) -> str:
    """Digest of a mask (slices, rows, columns) on the grid of its series."""
    return digest_parts((repr(mask.shape).encode(), np.packbits(mask).tobytes()))


def tracked_object(path: Path) -> TrackedObject | None:
    """Read which tracking UIDs an object names; None for what is neither Segmentation nor report.

    Raises
    ------
    NotDicomError
        The file is no DICOM file.
    """
    dataset = read_without_pixels(path)
    sop_class_uid = str(dataset.SOPClassUID)
    is_segmentation = sop_class_uid in _SEGMENTATIONS
    if not is_segmentation and sop_class_uid not in _REPORTS:
        return None
    try:
        segments = dict(_of_segments(dataset)) if is_segmentation else dict.fromkeys(_of_items(dataset, _DEEPEST), 0)
    except Exception as error:  # noqa: BLE001  hostile bytes raise anything, and this object need not concern us
        logger.warning("%s: tracking UIDs cannot be read (%s)", path, type(error).__name__)
        segments = {}
    uids = (str(dataset.SOPInstanceUID), str(dataset.get("SeriesInstanceUID", "")))
    return TrackedObject(path, *uids, is_segmentation, segments)


def by_label(found: LabelArray, segments: dict[int, int]) -> LabelArray:
    """Turn segment numbers into label values, `segments` mapping the one to the other; others become 0."""
    table = np.zeros(256, dtype=np.uint8)
    for number, value in segments.items():
        table[number] = value
    label_map: LabelArray = table[found]
    return label_map


def _of_segments(dataset: Dataset) -> Iterator[tuple[str, int]]:
    for item in dataset.get("SegmentSequence") or ():
        number = item.get("SegmentNumber")
        if item.get("TrackingUID") and isinstance(number, int) and 0 < number < 255:
            yield str(item.TrackingUID), int(number)


def _of_items(item: Dataset, depth: int) -> Iterator[str]:
    """Find the tracking UIDs in a content tree (PS3.3 C.17.3), to a depth that no report of ours reaches."""
    for child in item.get("ContentSequence") or ():
        name = next(iter(child.get("ConceptNameCodeSequence") or ()), None)
        if name is not None and (name.get("CodeValue"), name.get("CodingSchemeDesignator")) == _TRACKING_UID:
            yield str(child.get("UID", ""))
        if depth:
            yield from _of_items(child, depth - 1)
