"""Segments of a DICOM Segmentation (PS3.3 A.51)."""

import sqlite3
from collections.abc import Callable, Iterator

import highdicom as hd
import numpy as np
from pydicom.dataset import Dataset

from fewshot_node.dicom.objects.seg_reading import SegmentationLabels, read_segmentation
from fewshot_node.errors import TemplateError
from fewshot_node.records import Label
from fewshot_node.tasks.annotations.dicom_file import code_of, require_same_space, side_in
from fewshot_node.tasks.annotations.placing import LabelVolume, place
from fewshot_node.tasks.annotations.records import Annotation, AnnotationFormat, BoolArray, Region, Target

_HALF = 0.5


def read(dataset: Dataset, target: Target) -> Annotation:
    """Read the segments that mark something; each keeps its own pixels where binary segments overlap.

    Raises
    ------
    TemplateError
        It belongs to another series or Frame of Reference, or lies on another grid, and may not be resampled.
    """
    referenced = {str(one.SeriesInstanceUID) for one in dataset.get("ReferencedSeriesSequence") or ()}
    require_same_space(referenced, {str(dataset.get("FrameOfReferenceUID") or "")} - {""}, target)
    sides = {int(item.SegmentNumber): _side(item) for item in dataset.get("SegmentSequence") or ()}
    if target.resample:
        regions = tuple(_regions_anywhere(dataset, target, sides))
        return Annotation(AnnotationFormat.SEG, regions, notes=("placed by mm (nearest neighbour)",))
    try:
        read_ = read_segmentation(dataset, target.volume)
    except TemplateError as error:
        raise TemplateError(f"label file {target.path}: {error}, or give --resample") from error
    present = {int(value) for value in np.unique(read_.label_map)}
    labels = [label for label in read_.labels if label.value in present or read_.overlapping]
    regions = tuple(
        Region(label.value, (label.name,), _drawer(label, read_, dataset, target), label.type, sides[label.value])
        for label in labels
    )
    return Annotation(AnnotationFormat.SEG, regions)


def _side(item: Dataset) -> str:
    return side_in(item, "SegmentedPropertyTypeCodeSequence") or side_in(item, "AnatomicRegionSequence")


def _drawer(label: Label, read_: SegmentationLabels, dataset: Dataset, target: Target) -> Callable[[], BoolArray]:
    def draw() -> BoolArray:
        if not read_.overlapping or dataset.get("SegmentationType") == "FRACTIONAL":
            return np.asarray(read_.label_map == label.value)
        return np.asarray(read_segmentation(dataset, target.volume, only=label.value).label_map > 0)

    return draw


def _regions_anywhere(dataset: Dataset, target: Target, sides: dict[int, str]) -> Iterator[Region]:
    try:
        segmentation = hd.seg.Segmentation.from_dataset(dataset)
    except (AttributeError, KeyError, ValueError, TypeError) as error:
        raise _unreadable(target) from error
    for item in dataset.SegmentSequence:
        number = int(item.SegmentNumber)
        if number:
            names = (str(item.get("SegmentLabel") or f"segment {number}"),)
            type_ = code_of(item, "SegmentedPropertyTypeCodeSequence")
            yield Region(number, names, _placer(segmentation, number, target), type_, sides[number])


def _placer(segmentation: hd.seg.Segmentation, number: int, target: Target) -> Callable[[], BoolArray]:
    def draw() -> BoolArray:
        try:
            volume = segmentation.get_volume(segment_numbers=[number])
        except (AttributeError, KeyError, ValueError, TypeError, RuntimeError, sqlite3.Error) as error:
            # highdicom looks planes up in a table, and frames without a place have no column in it
            raise _unreadable(target) from error
        mask = (volume.array[..., 0] >= _HALF).astype(np.uint8)
        affine = np.asarray(volume.affine, dtype=np.float64)
        return np.asarray(place(LabelVolume(mask, affine), target).label_map > 0)

    return draw


def _unreadable(target: Target) -> TemplateError:
    return TemplateError(
        f"label file {target.path}: its frames make no regular volume that could be resampled: "
        "resample it to the series where it was drawn, and export it again"
    )
