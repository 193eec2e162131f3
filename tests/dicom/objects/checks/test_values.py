"""Values that break their representation or number are named, unless the source itself has them."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
from pydicom import config
from pydicom.dataset import Dataset


def set_unchecked(dataset: Dataset, keyword: str, value: Any) -> None:
    before, config.settings.writing_validation_mode = config.settings.writing_validation_mode, config.IGNORE
    try:
        setattr(dataset, keyword, value)
    finally:
        config.settings.writing_validation_mode = before


@pytest.mark.parametrize(
    ("keyword", "value", "fault"),
    [
        ("SeriesDescription", "x" * 65, "SeriesDescription breaks its value representation LO (PS3.5 6.2)"),
        ("ContentLabel", "lower case", "ContentLabel breaks its value representation CS (PS3.5 6.2)"),
        ("SeriesDate", "2024-01-02", "SeriesDate breaks its value representation DA (PS3.5 6.2)"),
        ("ContentLabel", ["ONE", "TWO"], "ContentLabel has 2 values, not 1"),
        ("ImageType", ["DERIVED"], "ImageType has 1 values, not 2-n"),
    ],
)
def test_a_value_that_does_not_fit_is_named(made: Any, keyword: str, value: Any, fault: str) -> None:
    set_unchecked(made.segmentation, keyword, value)
    faults = made.faults(made.segmentation)
    assert fault in faults
    assert "2024-01" not in str(faults)


def test_values_in_sequences_are_looked_at(made: Any) -> None:
    set_unchecked(made.segmentation.SegmentSequence[2], "SegmentAlgorithmType", "automatic?")
    assert made.faults(made.segmentation) == [
        "SegmentSequence[3]/SegmentAlgorithmType breaks its value representation CS (PS3.5 6.2)"
    ]


def test_private_attributes_do_not_leave(made: Any) -> None:
    made.segmentation.private_block(0x0011, "SOMEBODY", create=True).add_new(1, "LO", "secret")
    faults = made.faults(made.segmentation)
    assert faults == ["(0011,0010) is no attribute of the standard", "(0011,1001) is no attribute of the standard"]


def test_what_the_source_says_of_its_patient_is_its_own_fault(make: Callable[..., Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom names the values
        made = make(changes={"PatientBirthDate": "about 1950", "PatientSex": "unknown", "StudyID": "x" * 20})
        for dataset in (made.segmentation, made.report):
            assert made.faults(dataset) == []
        set_unchecked(made.segmentation, "PatientSex", "unclear")
    assert made.faults(made.segmentation)[0] == "PatientSex is not that of the source"
