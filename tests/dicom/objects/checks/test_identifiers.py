"""Nothing in an object names the patient but what the source says where the source says it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from fewshot_node.dicom.objects.conformance import find_faults
from fewshot_node.records import Code, Label, StructureFinding

RULE = "repeats a value that identifies the patient"


@pytest.mark.parametrize(
    "text",
    ["SECRET^PERSON", "of Secret Person", "person, secret", "case SECRET-ID today", "born 19010203"],
)
@pytest.mark.parametrize("keyword", ["SeriesDescription", "ContentDescription", "ImageComments"])
def test_a_text_that_names_the_patient_does_not_leave(made: Any, keyword: str, text: str) -> None:
    setattr(made.segmentation, keyword, text)
    faults = made.faults(made.segmentation)
    assert faults == [f"{keyword} {RULE}"]
    assert "secret" not in str(faults).casefold()


def test_texts_deep_inside_are_looked_at(made: Any) -> None:
    text = next(element for element in made.report.iterall() if element.keyword == "TextValue")
    text.value = "liver of SECRET-ID"
    assert [fault.split(" ", 1)[1] for fault in made.faults(made.report)] == [RULE]


@pytest.mark.parametrize("text", ["a secretary", "SECRET-IDENTITY", "a person", "190102034"])
def test_like_words_are_no_identifiers(made: Any, text: str) -> None:
    made.segmentation.ImageComments = text
    assert made.faults(made.segmentation) == []


def test_a_short_identifier_has_to_be_the_whole_text(make: Callable[..., Any]) -> None:
    made = make(changes={"PatientID": "3"})
    assert made.faults(made.segmentation) == [], "revision 3 is no patient"
    made.segmentation.ImageComments = "3"
    assert made.faults(made.segmentation) == [f"ImageComments {RULE}"]


def test_a_name_that_is_an_everyday_word_has_to_be_the_whole_text(make: Callable[..., Any]) -> None:
    made = make(changes={"PatientName": "Model", "ReferringPhysicianName": "Segmentation"})
    assert made.faults(made.segmentation) == [], "Model: ... describes the equipment"
    made.segmentation.ImageComments = "Model"
    assert made.faults(made.segmentation) == [f"ImageComments {RULE}"]


def test_a_label_that_is_called_like_the_patient_is_the_tasks_word(make: Callable[..., Any]) -> None:
    made = make(changes={"PatientName": "Liver^Abdomen", "PatientID": "liver"})
    assert made.faults(made.segmentation) == []
    other = Label(1, "Spleen", *[Code("78961009", "SCT", "Spleen")] * 2)
    origin = replace(made.origin, result=replace(made.origin.result, findings=(StructureFinding(other, True, 1.0),)))
    assert any(RULE in str(fault) for fault in find_faults(made.segmentation, origin))


def test_patient_attributes_that_the_source_lacks_do_not_leave(made: Any) -> None:
    made.report.PatientAddress = "1 Main Street"
    made.report.OtherPatientIDsSequence = []
    assert made.faults(made.report) == ["PatientAddress is not that of the source"]
