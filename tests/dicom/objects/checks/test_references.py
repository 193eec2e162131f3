"""References lead to what was used, as what it is, and to frames and segments that exist."""

from collections.abc import Callable
from typing import Any

import pytest
from pydicom.dataset import Dataset


def references(dataset: Dataset) -> list[Dataset]:
    named = ("ReferencedSOPSequence", "ReferencedInstanceSequence", "SourceImageSequence")
    return [item for element in dataset.iterall() if element.keyword in named for item in element.value]


def to_segmentation(made: Any) -> Dataset:
    uid = made.segmentation.SOPInstanceUID
    return next(
        one
        for one in references(made.report)
        if one.get("ReferencedSegmentNumber") and one.ReferencedSOPInstanceUID == uid
    )


def test_a_segment_that_does_not_exist_is_not_referred_to(made: Any) -> None:
    to_segmentation(made).ReferencedSegmentNumber = 9
    assert [fault.rpartition("/")[2] for fault in made.faults(made.report)] == [
        "ReferencedSegmentNumber is no segment of that instance"
    ]


def test_a_class_is_the_true_one(made: Any) -> None:
    to_segmentation(made).ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    assert [fault.rpartition("/")[2] for fault in made.faults(made.report)] == [
        "ReferencedSOPClassUID is not the class of that instance"
    ]


def test_a_report_of_another_segmentation_does_not_leave(made: Any) -> None:
    uid = made.segmentation.SOPInstanceUID
    for one in references(made.report):
        if one.ReferencedSOPInstanceUID == uid:
            one.ReferencedSOPInstanceUID = "1.2.3"
    assert {fault.rpartition("/")[2] for fault in made.faults(made.report)} == {
        "ReferencedSOPInstanceUID is an instance that was not used"
    }


@pytest.mark.parametrize("number", [0, 7, [1, 7]])
def test_a_frame_that_does_not_exist_is_not_referred_to(make: Callable[..., Any], number: Any) -> None:
    made = make(multi_frame=True, modality="MR")
    assert made.faults(made.segmentation) == []
    group = made.segmentation.PerFrameFunctionalGroupsSequence[0]
    group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber = number
    rules = {fault.rpartition("/")[2] for fault in made.faults(made.segmentation)}
    assert rules == {"ReferencedFrameNumber is no frame of that instance"}


def test_a_series_that_was_not_used_is_not_referred_to(made: Any) -> None:
    made.segmentation.ReferencedSeriesSequence[0].SeriesInstanceUID = "1.2.3"
    assert made.faults(made.segmentation) == [
        "ReferencedSeriesSequence[1]/SeriesInstanceUID is a series that was not used"
    ]


def test_an_earlier_report_may_be_named(made: Any) -> None:
    """A report that follows an earlier one names it, and has not used it (PS3.3 C.17.2)."""
    earlier = Dataset()
    earlier.ReferencedSOPClassUID, earlier.ReferencedSOPInstanceUID = made.report.SOPClassUID, "1.2.3.4"
    series, study = Dataset(), Dataset()
    series.SeriesInstanceUID, series.ReferencedSOPSequence = "1.2.3", [earlier]
    study.StudyInstanceUID, study.ReferencedSeriesSequence = made.report.StudyInstanceUID, [series]
    made.report.PredecessorDocumentsSequence = [study]
    assert made.faults(made.report) == []
