"""What the conformance statement promises of the created objects, looked up in created objects."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from fewshot_node.dicom.objects.captures import write_captures
from fewshot_node.dicom.objects.presentation_states import write_presentation_states
from fewshot_node.dicom.objects.seg import write_segmentation
from fewshot_node.dicom.objects.sr import write_report
from fewshot_node.dicom.objects.structure_set import write_structure_set
from fewshot_node.dicom.statement import conformance_statement
from fewshot_node.records import TaskKind


def section(begin: str, end: str) -> str:
    return conformance_statement().partition(begin)[2].partition(end)[0]


def stated_tags(text: str) -> list[Tag]:
    return [Tag(int(group, 16), int(element, 16)) for group, element in re.findall(r"^\| \((\w+),(\w+)\)", text, re.M)]


def rules(text: str) -> dict[str, str]:
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {row[0]: row[1] for row in rows if len(row) == 2}


BOTH = section("<summary><b>8 ", "### 8.1")
SEGMENTATION = section("### 8.1", "### 8.2")
REPORT = section("### 8.2", "### 8.3")
STRUCTURE_SET = section("### 8.3", "### 8.4")
CAPTURE = section("### 8.4", "### 8.5")
PRESENTATION = section("### 8.5", "</details>")


@pytest.fixture(params=[False, True], ids=["found", "nothing found"])
def objects(
    request: pytest.FixtureRequest, write_series: Callable[..., list[Path]], any_spec: Any, make_case: Any
) -> tuple[Dataset, Dataset]:
    case = make_case(write_series(any_spec), empty=request.param)
    segmentation = write_segmentation(case.result, case.volume, case.sources, case.uids)
    return segmentation, write_report(case.result, case.volume, case.sources, case.uids, segmentation)


def test_the_attributes_that_are_always_there_are_there(objects: tuple[Dataset, Dataset]) -> None:
    for text, dataset in zip((SEGMENTATION, REPORT), objects, strict=True):
        tags = [*stated_tags(BOTH), *stated_tags(text)]
        assert len(tags) > 20
        assert [tag for tag in tags if tag not in dataset or dataset[tag].is_empty] == []


def test_secondary_captures_are_as_stated(
    write_series: Callable[..., list[Path]], any_spec: Any, make_case: Any
) -> None:
    case = make_case(write_series(any_spec, slices=1))
    (capture,) = write_captures(case.result, case.volume, case.sources, case.uids)
    tags = [*stated_tags(BOTH), *stated_tags(CAPTURE)]
    assert [tag for tag in tags if tag not in capture or capture[tag].is_empty] == []
    assert rules(CAPTURE)["Burned In Annotation"].startswith(f"{capture.BurnedInAnnotation}, ")


@pytest.mark.parametrize("kind", list(TaskKind))
def test_presentation_states_are_as_stated(
    write_series: Callable[..., list[Path]], spec: Any, make_case: Any, kind: TaskKind
) -> None:
    case = make_case(write_series(spec), kind)
    (state,) = write_presentation_states(case.result, case.volume, case.sources, case.uids)
    tags = [*stated_tags(BOTH), *stated_tags(PRESENTATION)]
    assert len(tags) > 20
    assert [tag for tag in tags if tag not in state or state[tag].is_empty] == []
    stated = rules(PRESENTATION)
    assert stated["Content Label"] == state.ContentLabel
    assert stated["Presentation LUT Shape"].startswith(f"{state.PresentationLUTShape};")
    graphics = [one for item in state.GraphicAnnotationSequence for one in item.GraphicObjectSequence]
    assert {f"{one.GraphicType} " in stated["Graphic Annotation Sequence"] for one in graphics} == {True}


def test_a_structure_set_is_as_stated(write_series: Callable[..., list[Path]], any_spec: Any, make_case: Any) -> None:
    case = make_case(write_series(any_spec))
    structures = write_structure_set(case.result, case.volume, case.sources, case.uids)
    tags = [*stated_tags(BOTH), *stated_tags(STRUCTURE_SET)]
    assert len(tags) > 20
    assert [tag for tag in tags if tag not in structures or structures[tag].is_empty] == []
    stated = rules(STRUCTURE_SET)
    generated = {item.ROIGenerationAlgorithm for item in structures.StructureSetROISequence}
    assert stated["ROI Generation Algorithm, Approval Status"] == ", ".join((*generated, structures.ApprovalStatus))


def test_the_stated_values_are_those_of_the_objects(objects: tuple[Dataset, Dataset]) -> None:
    segmentation, report = objects
    stated, of_report = rules(SEGMENTATION), rules(REPORT)
    assert stated["Content Label"] == segmentation.ContentLabel
    assert stated["Segmentation Type"].startswith(f"{segmentation.SegmentationType}; {segmentation.BitsAllocated} bit")
    assert f"{segmentation.SOPClassUID}, Segmentation IOD" in SEGMENTATION
    assert f"{report.SOPClassUID}, Comprehensive 3D SR IOD" in REPORT
    flags = (report.CompletionFlag, report.VerificationFlag, report.PreliminaryFlag)
    assert of_report["Completion, Verification, Preliminary Flag"] == ", ".join(flags)
    numbers = rules(BOTH)["Series Number, Instance Number"]
    for kind, dataset in (("segmentation", segmentation), ("report", report)):
        assert f"{str(dataset.SeriesNumber)[-1]} {kind}" in numbers
        assert len(str(dataset.SeriesNumber)) == 8
        assert dataset.InstanceNumber == 1
        maker = f"{dataset.Manufacturer}, {dataset.ManufacturerModelName}"
        assert rules(BOTH)["Manufacturer, Manufacturer's Model Name"] == maker
    for segment in segmentation.SegmentSequence:
        assert segment.SegmentAlgorithmType in stated["Segment Algorithm Type"]
        family = segment.SegmentationAlgorithmIdentificationSequence[0].AlgorithmFamilyCodeSequence[0].CodeMeaning
        assert family in stated["Segment Algorithm Type"]
    assert f"TID {report.ContentTemplateSequence[0].TemplateIdentifier} " in REPORT


def test_each_group_of_a_report_has_the_stated_content(objects: tuple[Dataset, Dataset]) -> None:
    report = objects[1]
    measured = next(one for one in report.ContentSequence if concept(one)[0] == "126010")  # Imaging Measurements
    names = re.findall(r"\((\w+), (\w+), \"([^\"]*)\"\)(?:: | in percent)", rules(REPORT)["In each group"])
    assert len(names) == 2
    for group in measured.ContentSequence:
        template = group.ContentTemplateSequence[0].TemplateIdentifier
        assert f"TID {template}" in rules(REPORT)["Measurement groups"]
        concepts = [concept(item) for item in group.ContentSequence]
        assert set(names) <= set(concepts)
        sizes = {one[2] for one in concepts} & {"Volume", "Area"}
        assert sizes == {"1411": {"Volume"}, "1410": {"Area"}, "1501": set()}[template]


def test_the_root_has_the_stated_content(objects: tuple[Dataset, Dataset]) -> None:
    names = [concept(one) for one in objects[1].ContentSequence]
    assert ("C0034375", "UMLS", "Qualitative Evaluations") in names
    (objects_name,) = [name for name in names if name[2] == "Supplementary Data"]
    assert f'({objects_name[0]}, {objects_name[1]}, "{objects_name[2]}")' in rules(REPORT)


def concept(item: Dataset) -> tuple[str, str, str]:
    code = item.ConceptNameCodeSequence[0]
    return code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning


def test_landmarks_are_in_the_stated_template(
    write_series: Callable[..., list[Path]], any_spec: Any, make_case: Any
) -> None:
    case = make_case(write_series(any_spec), TaskKind.LANDMARKS)
    report = write_report(case.result, case.volume, case.sources, case.uids)
    measured = next(one for one in report.ContentSequence if concept(one)[0] == "126010")
    templates = {group.ContentTemplateSequence[0].TemplateIdentifier for group in measured.ContentSequence}
    assert "1410" in templates
    assert "TID 1410 with a point" in rules(REPORT)["Measurement groups"]
