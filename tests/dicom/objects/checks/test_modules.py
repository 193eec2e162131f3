"""Attributes of type 1 and 2 are missed where PS3.3 asks for them, by path."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset

from fewshot_node.dicom.objects.conformance import find_faults

Break = Callable[[Dataset], None]


def drop(keyword: str) -> Break:
    return lambda dataset: delattr(dataset, keyword)


def empty(keyword: str) -> Break:
    return lambda dataset: setattr(dataset, keyword, None)


def drop_label(dataset: Dataset) -> None:
    del dataset.SegmentSequence[1].SegmentLabel


def drop_spacing(dataset: Dataset) -> None:
    del dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence


def drop_segment_of_a_frame(dataset: Dataset) -> None:
    del dataset.PerFrameFunctionalGroupsSequence[2].SegmentIdentificationSequence


def empty_dimensions(dataset: Dataset) -> None:
    dataset.DimensionIndexSequence = []


def test_unbroken_objects_have_no_fault(made: Any) -> None:
    for dataset in (made.segmentation, made.report, made.landmarks):
        assert made.faults(dataset) == []


@pytest.mark.parametrize(
    ("break_it", "fault"),
    [
        (drop("PatientSex"), "PatientSex is absent, but of type 2 (patient)"),
        (drop("ReferringPhysicianName"), "ReferringPhysicianName is absent, but of type 2 (general-study)"),
        (drop("ContentDescription"), "ContentDescription is absent, but of type 2 (segmentation-image)"),
        (drop("BitsStored"), "BitsStored is absent or empty, but of type 1 (image-pixel)"),
        (
            empty("LossyImageCompression"),
            "LossyImageCompression is absent or empty, but of type 1 (segmentation-image)",
        ),
        (drop_label, "SegmentSequence[2]/SegmentLabel is absent or empty, but of type 1 (segmentation-image)"),
        (drop_spacing, "PerFrameFunctionalGroupsSequence[1]/PixelMeasuresSequence is absent, and not shared either"),
        (
            drop_segment_of_a_frame,
            "PerFrameFunctionalGroupsSequence[3]/SegmentIdentificationSequence is absent, and not shared either",
        ),
        (empty_dimensions, "DimensionIndexSequence is absent or empty, and always promised"),
    ],
)
def test_what_a_segmentation_lacks_is_named(made: Any, break_it: Break, fault: str) -> None:
    break_it(made.segmentation)
    assert fault in made.faults(made.segmentation)


def test_empty_attributes_of_type_2_are_right(made: Any) -> None:
    assert made.segmentation.ReferringPhysicianName == ""
    made.segmentation.ContentDescription = ""
    assert made.faults(made.segmentation) == []


def item(report: Dataset, value_type: str) -> Dataset:
    def search(node: Dataset) -> Dataset | None:
        if node.get("ValueType") == value_type:
            return node
        found = (search(child) for child in node.get("ContentSequence") or ())
        return next((one for one in found if one is not None), None)

    return next(one for one in map(search, report.ContentSequence) if one is not None)


@pytest.mark.parametrize(
    ("value_type", "keyword"),
    [
        ("CODE", "ConceptCodeSequence"),
        ("TEXT", "TextValue"),
        ("UIDREF", "UID"),
        ("NUM", "MeasuredValueSequence"),
        ("SCOORD3D", "GraphicData"),
        ("CONTAINER", "ContinuityOfContent"),
        ("IMAGE", "ReferencedSOPSequence"),
        ("NUM", "RelationshipType"),
        ("TEXT", "ValueType"),
    ],
)
def test_each_kind_of_content_item_has_its_value(made: Any, value_type: str, keyword: str) -> None:
    delattr(item(made.landmarks, value_type), keyword)
    faults = made.faults(made.landmarks)
    assert any(f"/{keyword} is" in fault and fault.startswith("ContentSequence[") for fault in faults), faults


@pytest.mark.shared_data
@pytest.mark.parametrize("folder", ["dcmqi-seg", "highdicom", "pydicom-data"])
def test_objects_of_others_are_judged_without_a_crash_and_their_modules_are_whole(
    made: Any, shared_data: Path, folder: str
) -> None:
    """The writers of these objects fill what PS3.3 asks for; a false alarm of ours would show here."""
    judged = 0
    for path in sorted((shared_data / "dicom" / folder).iterdir()):
        try:
            modality = pydicom.dcmread(path, specific_tags=["Modality"], stop_before_pixels=True).get("Modality")
        except (pydicom.errors.InvalidDicomError, OSError):
            continue
        if modality in {"SEG", "SR"}:
            dataset = pydicom.dcmread(path)
            judged += 1
            rules = [str(fault) for fault in find_faults(dataset, made.origin)]
            assert [rule for rule in rules if "but of type" in rule or "content item" in rule] == [], path.name
            assert any("is not that of the source" in rule for rule in rules), "it is of another patient"
    assert judged >= 7
