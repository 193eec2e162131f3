"""The gate lets good objects through and keeps back each kind of bad one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from fewshot_node.dicom.objects.conformance import check_object
from fewshot_node.dicom.objects.seg import write_segmentation
from fewshot_node.dicom.objects.sr import write_report
from fewshot_node.errors import ConformanceError
from fewshot_node.records import TaskKind

Write = Callable[..., list[Path]]
Break = Callable[[Dataset], None]


@pytest.mark.parametrize("empty", [False, True])
def test_good_objects_pass(write_series: Write, any_spec: Any, make_case: Any, empty: bool) -> None:
    case = make_case(write_series(any_spec), empty=empty)
    segmentation = write_segmentation(case.result, case.volume, case.sources, case.uids)
    check_object(segmentation, case.origin())
    report = write_report(case.result, case.volume, case.sources, case.uids, segmentation)
    check_object(report, case.origin(segmentation))


def test_a_landmark_report_passes(write_series: Write, any_spec: Any, make_case: Any) -> None:
    case = make_case(write_series(any_spec), TaskKind.LANDMARKS)
    check_object(write_report(case.result, case.volume, case.sources, case.uids), case.origin())


def _set(keyword: str, value: Any) -> Break:
    return lambda dataset: setattr(dataset, keyword, value)


def _remove(keyword: str) -> Break:
    return lambda dataset: delattr(dataset, keyword)


def _move(dataset: Dataset) -> None:
    position = dataset.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0]
    position.ImagePositionPatient[0] += 0.5


def _shrink(dataset: Dataset) -> None:
    dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [0.8, 0.75]


def _misplace(dataset: Dataset) -> None:
    del dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence


def _point_elsewhere(dataset: Dataset) -> None:
    group = dataset.PerFrameFunctionalGroupsSequence[0]
    group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID = "1.2.3"


def _foreign_series(dataset: Dataset) -> None:
    item = dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0]
    item.ReferencedSOPInstanceUID = "1.2.3"


def _same_uid(dataset: Dataset) -> None:
    dataset.SOPInstanceUID = dataset.SourceImageSequence[0].ReferencedSOPInstanceUID


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (_remove("SegmentSequence"), "SegmentSequence is absent or empty"),
        (_set("ContentLabel", ""), "ContentLabel is absent or empty"),
        (_remove("PixelData"), "PixelData is absent"),
        (_set("SOPClassUID", "1.2.840.10008.5.1.4.1.1.2"), "none that this node writes"),
        (_set("PatientID", "SOMEBODY"), "PatientID is not that of the source"),
        (_remove("PatientName"), "PatientName is not that of the source"),
        (_set("StudyInstanceUID", "1.2.3"), "StudyInstanceUID is not that of the source"),
        (_same_uid, "SOPInstanceUID is that of its own source"),
        (_set("SeriesInstanceUID", "not a uid"), "SeriesInstanceUID is no UID"),
        (_foreign_series, r"ReferencedSeriesSequence\[1\]/\S+ is an instance that was not used"),
        (_point_elsewhere, r"PerFrame\S+\[1\]/Deriv\S+/ReferencedSOPInstanceUID is an instance that was not used"),
        (_move, r"PerFrameFunctionalGroupsSequence\[1\] is not on a slice"),
        (_shrink, r"PerFrameFunctionalGroupsSequence\[1\] is not on a slice"),
        (_misplace, "has frames without geometry"),
    ],
)
def test_a_bad_segmentation_is_kept_back(
    write_series: Write, spec: Any, make_case: Any, break_it: Break, message: str
) -> None:
    case = make_case(write_series(spec))
    dataset = write_segmentation(case.result, case.volume, case.sources, case.uids)
    break_it(dataset)
    with pytest.raises(ConformanceError, match=message) as caught:
        check_object(dataset, case.origin())
    assert "SECRET" not in str(caught.value)
    assert "SOMEBODY" not in str(caught.value)


def _evidence(dataset: Dataset) -> Dataset:
    study = dataset.CurrentRequestedProcedureEvidenceSequence[0]
    item: Dataset = study.ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    return item


def _add_evidence(dataset: Dataset) -> None:
    _evidence(dataset).ReferencedSOPInstanceUID = "1.2.3"


def _drop_evidence(dataset: Dataset) -> None:
    del dataset.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (_remove("ContentSequence"), "ContentSequence is absent"),
        (_set("CompletionFlag", ""), "CompletionFlag is absent or empty"),
        (_set("PatientBirthDate", "19990101"), "PatientBirthDate is not that of the source"),
        (_add_evidence, r"Evidence\S+/ReferencedSOPInstanceUID is an instance that was not used"),
        (_drop_evidence, "refers to an instance that is no evidence"),
    ],
)
def test_a_bad_report_is_kept_back(
    write_series: Write, spec: Any, make_case: Any, break_it: Break, message: str
) -> None:
    case = make_case(write_series(spec), TaskKind.LANDMARKS)
    dataset = write_report(case.result, case.volume, case.sources, case.uids)
    break_it(dataset)
    with pytest.raises(ConformanceError, match=message) as caught:
        check_object(dataset, case.origin())
    assert "1999" not in str(caught.value)
