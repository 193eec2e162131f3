"""Reports: written, validated, printed by dcmtk, read back by us and by highdicom, compared in mm."""

import io
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from fewshot_node.dicom.objects.seg import write_segmentation
from fewshot_node.dicom.objects.sr import read_report, write_report
from fewshot_node.errors import NotDicomError, SeriesError, TemplateError
from fewshot_node.output import OutputSettings
from fewshot_node.records import Code, Label, TaskKind
from tests.dicom.objects.conftest import CORRECTIONS

Write = Callable[..., list[Path]]
Save = Callable[[Dataset, str], Path]
KINDS = pytest.mark.parametrize("kind", list(TaskKind))


def _write(case: Any) -> Dataset:
    if case.result.label_map is None:
        return write_report(case.result, case.volume, case.sources, case.uids)
    segmentation = write_segmentation(case.result, case.volume, case.sources, case.uids)
    return write_report(case.result, case.volume, case.sources, case.uids, segmentation)


def _bytes(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@pytest.mark.dicom3tools
@KINDS
def test_dciodvfy_finds_no_error(
    write_series: Write, any_spec: Any, make_case: Any, save: Save, dciodvfy_errors: Any, kind: TaskKind
) -> None:
    case = make_case(write_series(any_spec), kind)
    assert dciodvfy_errors(save(_write(case), "sr.dcm")) == []


@pytest.mark.dicom3tools
def test_nothing_found_is_a_valid_report(
    write_series: Write, spec: Any, make_case: Any, save: Save, dciodvfy_errors: Any
) -> None:
    path = save(_write(make_case(write_series(spec), empty=True)), "sr.dcm")
    assert dciodvfy_errors(path) == []
    findings = read_report(path)
    assert len(findings) == 3
    assert not any(finding.found for finding in findings)
    assert all(finding.volume_mm3 is None for finding in findings)


@pytest.mark.dcmtk
def test_dsrdump_prints_it(
    write_series: Write, spec: Any, make_case: Any, save: Save, require_tool: Callable[[str], str]
) -> None:
    path = save(_write(make_case(write_series(spec), TaskKind.LANDMARKS)), "sr.dcm")
    done = subprocess.run([require_tool("dsrdump"), str(path)], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for text in ("Imaging Measurement Report", "COMPLETE", "UNVERIFIED", "SCOORD3D", '"Absent"', '"Present"'):
        assert text in done.stdout


@KINDS
def test_what_was_written_is_read_back(
    write_series: Write, any_spec: Any, make_case: Any, save: Save, kind: TaskKind
) -> None:
    case = make_case(write_series(any_spec), kind)
    found = {finding.name: finding for finding in read_report(save(_write(case), "sr.dcm"), case.volume)}
    assert set(found) == {f"abdomen {finding.label.name}" for finding in case.result.findings}
    for finding in case.result.findings:
        read = found[f"abdomen {finding.label.name}"]
        assert read.found is finding.found
        assert read.tracking_uid == case.uids.tracking(finding.label.name)
        assert read.confidence == pytest.approx(finding.confidence, abs=1e-6)
        if finding.volume_mm3 is not None and len(case.volume.array) > 1:
            assert read.volume_mm3 == pytest.approx(finding.volume_mm3, abs=1e-3)
        assert (read.point_mm is None) is (finding.point_mm is None)


def test_points_lie_at_their_place_in_mm(write_series: Write, any_spec: Any, make_case: Any, save: Save) -> None:
    case = make_case(write_series(any_spec), TaskKind.LANDMARKS)
    read = {finding.name: finding for finding in read_report(save(_write(case), "sr.dcm"), case.volume)}
    expected = case.result.findings[0].point_mm
    # without a Frame of Reference the point moves to its nearest image, half a slice at most
    tolerance = 1e-3 if any_spec.frame_of_reference else any_spec.spacing[0] / 2 + 1e-3
    off = np.linalg.norm(np.array(read["abdomen liver"].point_mm) - expected)
    assert off <= tolerance


def _point(report: Any) -> Any:
    groups = report.content.get_planar_roi_measurement_groups()
    assert len(groups) == 1
    return groups[0].roi


def test_highdicom_reads_the_point_in_patient_coordinates(
    write_series: Write, spec: Any, make_case: Any, save: Save
) -> None:
    case = make_case(write_series(spec), TaskKind.LANDMARKS)
    region = _point(hd.sr.srread(save(_write(case), "sr.dcm")))
    assert region.graphic_type is hd.sr.GraphicTypeValues3D.POINT
    assert region.frame_of_reference_uid == case.volume.frame_of_reference_uid
    np.testing.assert_allclose(region.value[0], case.result.findings[0].point_mm, atol=1e-3)


@pytest.mark.parametrize("multi_frame", [False, True])
def test_without_frame_of_reference_the_point_is_on_its_image(
    write_series: Write, spec: Any, make_case: Any, save: Save, multi_frame: bool
) -> None:
    files = write_series(spec, frame_of_reference=False, multi_frame=multi_frame, modality="MR", reverse=True)
    case = make_case(files, TaskKind.LANDMARKS)
    report = hd.sr.srread(save(_write(case), "sr.dcm"))
    region = _point(report)
    assert region.value_type is hd.sr.ValueTypeValues.SCOORD
    reference = region.ContentSequence[0].ReferencedSOPSequence[0]
    # index (2.5, 4.25, 7.75): slice 2 (half to even), corner-based column and row
    frame = case.volume.frames[2]
    assert reference.ReferencedSOPInstanceUID == frame.sop_instance_uid
    assert reference.get("ReferencedFrameNumber") == frame.frame_number
    np.testing.assert_allclose(region.value[0], [8.25, 4.75], atol=1e-4)
    if multi_frame:
        return
    source = next(item for item in case.sources if item.SOPInstanceUID == frame.sop_instance_uid)
    place = hd.spatial.ImageToReferenceTransformer(
        source.ImagePositionPatient, source.ImageOrientationPatient, source.PixelSpacing
    )(np.asarray(region.value))
    expected = case.volume.to_mm(np.array([2, 4.25, 7.75]))
    np.testing.assert_allclose(place[0], expected, atol=1e-3)
    text = str(report)
    assert case.volume.frame_of_reference_uid not in text


def test_a_point_outside_the_image_stays_on_its_edge(write_series: Write, spec: Any, make_case: Any) -> None:
    case = make_case(write_series(spec, frame_of_reference=False), TaskKind.LANDMARKS)
    outside = tuple(float(value) for value in case.volume.to_mm(np.array([-3.0, -4.0, 90.0])))
    moved = replace(case.result.findings[0], point_mm=outside)
    case = replace(case, result=replace(case.result, findings=(moved,)))
    region = _point(hd.sr.Comprehensive3DSR.from_dataset(_write(case)))
    np.testing.assert_allclose(region.value[0], [spec.columns, 0.0])


def test_highdicom_reads_volumes_of_the_segments(write_series: Write, spec: Any, make_case: Any, save: Save) -> None:
    case = make_case(write_series(spec))
    segmentation = write_segmentation(case.result, case.volume, case.sources, case.uids)
    report = hd.sr.srread(save(_write(case), "sr.dcm"))
    groups = report.content.get_volumetric_roi_measurement_groups()
    assert len(groups) == 2
    for group in groups:
        described = {str(item.TrackingUID): item for item in segmentation.SegmentSequence}
        segment = described[str(group.tracking_uid)]
        items = [item for item in group[0].ContentSequence if item.ValueType == "IMAGE"]
        assert items[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == segmentation.SOPInstanceUID
        assert items[0].ReferencedSOPSequence[0].ReferencedSegmentNumber == segment.SegmentNumber
        assert str(group.tracking_identifier) == segment.TrackingID
        volume = group.get_measurements(hd.sr.CodedConcept("118565006", "SCT", "Volume"))[0]
        assert volume.unit.value == "mm3"
        value = {1: 1, 2: 7}[int(segment.SegmentNumber)]
        voxels = np.count_nonzero(case.result.label_map == value)
        assert volume.value == pytest.approx(voxels * 3.0 * 0.8 * 0.7, rel=1e-5)
    absent = report.content.get_image_measurement_groups()
    assert [str(group.tracking_identifier) for group in absent] == ["abdomen spleen"]


def test_finding_and_site_are_coded(write_series: Write, spec: Any, make_case: Any) -> None:
    case = make_case(write_series(spec))
    report = hd.sr.Comprehensive3DSR.from_dataset(_write(case))
    groups = {str(group.tracking_identifier): group for group in report.content.get_volumetric_roi_measurement_groups()}
    kidney = groups["abdomen left kidney"]
    assert kidney.finding_type == hd.sr.CodedConcept("64033007", "SCT", "Kidney")
    assert kidney.finding_sites[0].value == hd.sr.CodedConcept("818983003", "SCT", "Abdomen")


def test_a_finding_lies_where_its_structure_is_with_its_side(write_series: Write, spec: Any, make_case: Any) -> None:
    case = make_case(write_series(spec))
    sided = tuple(
        replace(one, label=replace(one.label, anatomic_region=None, laterality=Code("7771000", "SCT", "Left")))
        for one in case.result.findings
    )
    report = hd.sr.Comprehensive3DSR.from_dataset(_write(replace(case, result=replace(case.result, findings=sided))))
    groups = {str(group.tracking_identifier): group for group in report.content.get_volumetric_roi_measurement_groups()}
    (site,) = groups["abdomen left kidney"].finding_sites
    assert site.value == hd.sr.CodedConcept("64033007", "SCT", "Kidney")
    assert site.laterality == hd.sr.CodedConcept("7771000", "SCT", "Left")


def test_what_is_no_anatomy_has_no_site_of_its_own(write_series: Write, spec: Any, make_case: Any) -> None:
    case = make_case(write_series(spec), TaskKind.LANDMARKS)
    spot = Label(1, "entry point", Code("309825002", "SCT", "Spatial and Relational Concept"), Code("X", "99SITE", "X"))
    found = replace(case.result.findings[0], label=spot)
    report = hd.sr.Comprehensive3DSR.from_dataset(_write(replace(case, result=replace(case.result, findings=(found,)))))
    (group,) = report.content.get_planar_roi_measurement_groups()
    assert group.finding_sites == []


def test_the_library_has_every_source_image_and_says_once_what_they_share(
    write_series: Write, any_spec: Any, make_case: Any
) -> None:
    case = make_case(write_series(any_spec))
    (group,) = _at_root(_write(case), "111028")
    images = [item for item in group.ContentSequence if item.ValueType == "IMAGE"]
    listed = [str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID) for item in images]
    assert listed == [str(source.SOPInstanceUID) for source in case.sources]
    assert not any("ContentSequence" in item for item in images)
    shared = {item.ConceptNameCodeSequence[0].CodeMeaning: item for item in group.ContentSequence if item not in images}
    modality = shared.pop("Modality").ConceptCodeSequence[0].CodeValue
    sizes = [
        float(shared.pop(f"Pixel Data {name}").MeasuredValueSequence[0].NumericValue) for name in ("Rows", "Columns")
    ]
    assert (modality, sizes) == (any_spec.modality, [any_spec.rows, any_spec.columns])
    frames = [item.UID for item in shared.values()]
    assert frames == ([case.volume.frame_of_reference_uid] if any_spec.frame_of_reference else [])


@pytest.mark.parametrize("multi_frame", [False, True])
def test_on_a_single_slice_a_structure_is_a_frame_of_its_segment_with_an_area(
    write_series: Write, spec: Any, make_case: Any, save: Save, multi_frame: bool
) -> None:
    case = make_case(write_series(spec, slices=1, multi_frame=multi_frame, modality="MR"))
    segmentation = write_segmentation(case.result, case.volume, case.sources, case.uids)
    report = hd.sr.srread(save(_write(case), "sr.dcm"))
    assert report.content.get_volumetric_roi_measurement_groups() == []
    groups = report.content.get_planar_roi_measurement_groups()
    assert {str(group.tracking_identifier) for group in groups} == {"abdomen liver", "abdomen left kidney"}
    for group in groups:
        item = next(item for item in group[0].ContentSequence if item.ValueType == "IMAGE")
        assert item.ConceptNameCodeSequence[0].CodeValue == "121214"
        reference = item.ReferencedSOPSequence[0]
        assert reference.ReferencedSOPInstanceUID == segmentation.SOPInstanceUID
        frame = segmentation.PerFrameFunctionalGroupsSequence[int(reference.ReferencedFrameNumber) - 1]
        number = int(frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        described = segmentation.SegmentSequence[number - 1]
        assert described.TrackingUID == group.tracking_uid
        (area,) = group.get_measurements(hd.sr.CodedConcept("42798000", "SCT", "Area"))
        assert area.unit.value == "mm2"
        pixels = np.count_nonzero(case.result.label_map == {1: 1, 2: 7}[number])
        assert area.value == pytest.approx(pixels * 0.8 * 0.7, rel=1e-4)


@pytest.mark.dicom3tools
def test_on_a_single_slice_of_a_label_map_it_is_the_segment(
    write_series: Write, spec: Any, make_case: Any, save: Save, dciodvfy_errors: Any
) -> None:
    """All segments share the one frame, whose number would say nothing."""
    case = make_case(write_series(spec, slices=1))
    case = replace(case, result=replace(case.result, output=OutputSettings(segmentation="labelmap")))
    segmentation = write_segmentation(case.result, case.volume, case.sources, case.uids)
    path = save(_write(case), "sr.dcm")
    of_old_tables = "Referenced SOP Class that is not segmentation"  # Debian's dciodvfy knows no label map
    assert [error for error in dciodvfy_errors(path) if of_old_tables not in error] == []
    numbers = {
        str(item.TrackingUID): item.SegmentNumber for item in segmentation.SegmentSequence if "TrackingUID" in item
    }
    found = [one for one in read_report(path) if one.found]
    assert len(found) == 2
    for one in found:
        assert one.segment is not None
        assert one.segment.instance_uid == segmentation.SOPInstanceUID
        assert (one.segment.segment_number, one.segment.frame_number) == (numbers[one.tracking_uid], None)


def _at_root(report: Dataset, code: str) -> Any:
    """The items in the root's container of that name."""
    (container,) = [item for item in report.ContentSequence if item.ConceptNameCodeSequence[0].CodeValue == code]
    return container.ContentSequence


@KINDS
@pytest.mark.parametrize("found", [True, False])
def test_the_root_says_whether_anything_was_found(
    write_series: Write, spec: Any, make_case: Any, kind: TaskKind, found: bool
) -> None:
    case = make_case(write_series(spec), kind)
    if not found:
        absent = tuple(replace(one, found=False, point_mm=None, index=None) for one in case.result.findings)
        case = replace(case, result=replace(case.result, findings=absent))
    report = _write(case)
    (summary,) = _at_root(report, "C0034375")
    assert summary.ConceptNameCodeSequence[0].CodeValue == "111017"
    assert summary.ConceptCodeSequence[0].CodeMeaning.endswith("with findings" if found else "without findings")
    procedures = [item for item in report.ContentSequence if item.ConceptNameCodeSequence[0].CodeValue == "121058"]
    assert [item.ConceptCodeSequence[0].CodeMeaning for item in procedures] == ["CT unspecified body region"]


def _other(sop_class_uid: str, number: int, study: str) -> Dataset:
    other = Dataset()
    other.SOPClassUID, other.SOPInstanceUID = sop_class_uid, f"2.25.{number}"
    other.StudyInstanceUID, other.SeriesInstanceUID = study, f"2.25.{number}0"
    return other


@pytest.mark.dicom3tools
@pytest.mark.dcmtk
def test_the_root_leads_to_every_object_of_its_result(
    write_series: Write,
    spec: Any,
    make_case: Any,
    save: Save,
    dciodvfy_errors: Any,
    require_tool: Callable[[str], str],
) -> None:
    """Also where nothing was found, so that no measurement group refers to the segmentation."""
    case = make_case(write_series(spec), empty=True)
    segmentation = write_segmentation(case.result, case.volume, case.sources, case.uids)
    picture = _other("1.2.840.10008.5.1.4.1.1.7.4", 1, case.volume.study_instance_uid)
    contours = _other("1.2.840.10008.5.1.4.1.1.481.3", 2, case.volume.study_instance_uid)
    report = write_report(case.result, case.volume, case.sources, case.uids, segmentation, (picture, contours))
    seen = [
        (item.ValueType, item.ConceptNameCodeSequence[0].CodeMeaning, item.ReferencedSOPSequence[0])
        for item in _at_root(report, "111414")
    ]
    assert [(kind, purpose) for kind, purpose, _ in seen] == [
        ("IMAGE", "Segmentation Result"),
        ("IMAGE", "Partial Rendering for Presentation"),
        ("COMPOSITE", "Segmentation Result"),
    ]
    uids = [reference.ReferencedSOPInstanceUID for *_, reference in seen]
    assert uids == [segmentation.SOPInstanceUID, "2.25.1", "2.25.2"]
    assert set(uids) < _evidence(report)
    path = save(report, "sr.dcm")
    assert dciodvfy_errors(path) == []
    done = subprocess.run([require_tool("dsrdump"), str(path)], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert len(read_report(path)) == 3


def test_the_model_has_a_uid_that_changes_with_it(write_series: Write, spec: Any, make_case: Any) -> None:
    case = make_case(write_series(spec))
    again = replace(case, uids=replace(case.uids, task_digest="fitted again"))
    first, same, second = (
        next(
            item
            for item in _write(one).ContributingEquipmentSequence
            if item.get("ManufacturerModelName") == "fewshot abdomen"
        )
        for one in (case, case, again)
    )
    assert first.DeviceUID == same.DeviceUID != second.DeviceUID
    assert first.PurposeOfReferenceCodeSequence[0].CodeMeaning == "Processing Equipment"


def test_series_numbers_tell_tasks_series_and_kinds_apart(write_series: Write, spec: Any, make_case: Any) -> None:
    case = make_case(write_series(spec))
    other_series = make_case(write_series(spec, name="other", changes={"SeriesNumber": 504}))
    other_task = replace(case, result=replace(case.result, task_name="spine"))
    numbers = [int(_write(one).SeriesNumber) for one in (case, other_series, other_task)]
    numbers.append(int(write_segmentation(case.result, case.volume, case.sources, case.uids).SeriesNumber))
    assert len(set(numbers)) == 4
    assert all(10_000_000 <= number < 100_000_000 for number in numbers)


def test_an_absent_structure_is_absent_with_the_certainty_of_that(
    write_series: Write, spec: Any, make_case: Any
) -> None:
    case = make_case(write_series(spec), TaskKind.LANDMARKS)
    report = hd.sr.Comprehensive3DSR.from_dataset(_write(case))
    (group,) = report.content.get_image_measurement_groups()
    presence = group.get_qualitative_evaluations(hd.sr.CodedConcept("705057003", "SCT", "Presence"))[0]
    assert presence.value.meaning == "Absent"
    (certainty,) = group.get_measurements()
    assert (certainty.name.value, certainty.name.scheme_designator) == ("111012", "DCM")
    assert certainty.value == pytest.approx(90.0)


@KINDS
def test_the_document_says_what_it_is(write_series: Write, spec: Any, make_case: Any, kind: TaskKind) -> None:
    case = make_case(write_series(spec), kind)
    report = _write(case)
    assert report.SeriesDescription == "AI abdomen rev 3 report"
    assert str(report.SeriesNumber)[3:] == "00042"  # of series 4, the second kind of result
    flags = report.CompletionFlag, report.VerificationFlag, report.PreliminaryFlag
    assert flags == ("COMPLETE", "UNVERIFIED", "PRELIMINARY")
    assert (str(report.ContentDate), str(report.ContentTime)) == ("20240102", "102030.500000")
    assert report.SeriesInstanceUID == case.uids.report_series()
    assert report.SOPInstanceUID == report.file_meta.MediaStorageSOPInstanceUID
    assert report.SOPInstanceUID.startswith("2.25.")
    assert len(report.SOPInstanceUID) > 30
    observer = hd.sr.Comprehensive3DSR.from_dataset(report).content.get_observer_contexts()[0]
    assert observer.observer_identifying_attributes.uid == case.uids.device_observer()
    assert report.PatientName == "SECRET^PERSON"
    assert "SECRET" not in str(report.ContentSequence)


def _evidence(report: Dataset) -> set[str]:
    return {
        str(item.ReferencedSOPInstanceUID)
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }


@KINDS
def test_all_that_is_referred_to_is_evidence(write_series: Write, spec: Any, make_case: Any, kind: TaskKind) -> None:
    case = make_case(write_series(spec), kind)
    evidence = _evidence(_write(case))
    expected = {frame.sop_instance_uid for frame in case.volume.frames}
    if kind is TaskKind.SEGMENTATION:
        expected.add(write_segmentation(case.result, case.volume, case.sources, case.uids).SOPInstanceUID)
    assert evidence == expected


@KINDS
def test_two_writes_are_the_same_bytes(write_series: Write, any_spec: Any, make_case: Any, kind: TaskKind) -> None:
    files = write_series(any_spec)
    assert _bytes(_write(make_case(files, kind))) == _bytes(_write(make_case(files[::-1], kind)))


def test_a_segmentation_task_without_its_object_still_reports(write_series: Write, spec: Any, make_case: Any) -> None:
    case = make_case(write_series(spec))
    findings = read_report(write_report(case.result, case.volume, case.sources, case.uids))
    assert sorted(finding.found for finding in findings) == [False, True, True]


def test_a_long_task_name_keeps_the_revision(write_series: Write, spec: Any, make_case: Any) -> None:
    case = make_case(write_series(spec))
    report = _write(replace(case, result=replace(case.result, task_name="very-long-name-" * 8)))
    assert len(report.SeriesDescription) <= 64
    assert report.SeriesDescription.endswith(" rev 3 report")


def test_what_is_no_such_report_is_named(write_series: Write, spec: Any, make_case: Any, tmp_path: Path) -> None:
    case = make_case(write_series(spec))
    with pytest.raises(TemplateError, match="no Comprehensive 3D, Comprehensive or Enhanced SR"):
        read_report(write_segmentation(case.result, case.volume, case.sources, case.uids))
    other = _write(case)
    other.ContentTemplateSequence[0].TemplateIdentifier = "2000"
    with pytest.raises(TemplateError, match="does not follow TID 1500"):
        read_report(other)
    path = tmp_path / "report.txt"
    path.write_text("no DICOM")
    with pytest.raises(NotDicomError, match=r"report\.txt"):
        read_report(path)


@pytest.mark.shared_data
@pytest.mark.dicom3tools
@KINDS
@pytest.mark.parametrize(
    "name",
    [
        "series/ct-liver-3d",
        "series/ct-abdomen-j2k",
        "dicom/pydicom-data/eCT_Supplemental.dcm",
        "dicom/dcmqi-seg/mf.dcm",
    ],
)
def test_real_sources_give_valid_objects(
    shared_data: Path, make_case: Any, save: Save, dciodvfy_errors: Any, name: str, kind: TaskKind
) -> None:
    path = shared_data / name
    case = make_case(sorted(path.iterdir()) if path.is_dir() else [path], kind)
    report = save(_write(case), "sr.dcm")
    assert dciodvfy_errors(report) == []
    assert pydicom.dcmread(report).PatientName == case.sources[0].PatientName
    expected = [finding.found for finding in case.result.findings]
    assert sorted(finding.found for finding in read_report(report)) == sorted(expected)
    if kind is TaskKind.SEGMENTATION:
        segmentation = write_segmentation(case.result, case.volume, case.sources, case.uids)
        assert dciodvfy_errors(save(segmentation, "seg.dcm")) == []


def test_an_unknown_image_class_is_named(write_series: Write, spec: Any, make_case: Any) -> None:
    case = make_case(write_series(spec, changes={"SOPClassUID": "1.2.3.4.5"}), TaskKind.LANDMARKS)
    with pytest.raises(SeriesError, match=r"SOP class 1\.2\.3\.4\.5.*exclude them with a rule"):
        _write(case)


@CORRECTIONS
@KINDS
def test_a_corrected_header_is_another_instance(
    write_series: Write, spec: Any, make_case: Any, change: dict[str, Any], kind: TaskKind
) -> None:
    """Delivery passes over what the PACS has by SOP Instance UID, so changed content must not share one."""
    first = _write(make_case(write_series(spec), kind))
    second = _write(make_case(write_series(spec, "corrected", changes=change), kind))
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert first.SeriesInstanceUID == second.SeriesInstanceUID
