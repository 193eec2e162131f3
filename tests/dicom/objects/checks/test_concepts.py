"""Codes can be looked up, or the task itself has stated them."""

from typing import Any

import pytest
from pydicom.dataset import Dataset


def finding(segmentation: Dataset) -> Dataset:
    code: Dataset = segmentation.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0]
    return code


PATH = "SegmentSequence[1]/SegmentedPropertyTypeCodeSequence[1]"


@pytest.mark.parametrize(
    ("scheme", "value", "meaning", "rule"),
    [
        ("SCT", "999999999", "Nothing", "is a code that neither the dictionary of SCT nor the task has"),
        ("99OTHER", "A1", "Something", "is a code of a scheme that is neither the standard's nor the task's"),
        ("NONSENSE", "A1", "Something", "is a code of a scheme that is neither the standard's nor the task's"),
        ("SCT", "64033007", "", "is a code without a meaning"),
    ],
)
def test_a_code_that_nobody_knows_is_named(made: Any, scheme: str, value: str, meaning: str, rule: str) -> None:
    code = finding(made.segmentation)
    code.CodingSchemeDesignator, code.CodeValue, code.CodeMeaning = scheme, value, meaning
    assert f"{PATH} {rule}" in made.faults(made.segmentation)


@pytest.mark.parametrize(("scheme", "value"), [("SCT", "64033007"), ("LN", "25045-6"), ("FMA", "7203")])
def test_codes_of_the_dictionaries_pass(made: Any, scheme: str, value: str) -> None:
    code = finding(made.segmentation)
    code.CodingSchemeDesignator, code.CodeValue = scheme, value
    assert made.faults(made.segmentation) == []


def test_a_unit_has_to_be_one_of_ucum(made: Any) -> None:
    named = "MeasurementUnitsCodeSequence"
    units = [element.value[0] for element in made.report.iterall() if element.keyword == named]
    assert {unit.CodeValue for unit in units} == {"%", "mm3", "{pixels}"}
    units[-1].CodeValue = "furlong"
    assert [fault.split(" ", 1)[1] for fault in made.faults(made.report)] == [
        "is a code that neither the dictionary of UCUM nor the task has"
    ]
