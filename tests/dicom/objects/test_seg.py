"""Segmentations: written, validated, read back by us and by highdicom, compared in mm."""

import io
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from fewshot_node.dicom.objects.seg import read_segmentation, write_segmentation
from fewshot_node.dicom.objects.volume import read_volume
from fewshot_node.errors import ConformanceError, NotDicomError, SeriesError, TemplateError
from tests.dicom.objects.conftest import CORRECTIONS

Write = Callable[..., list[Path]]
MakeCase = Callable[..., Any]
Save = Callable[[Dataset, str], Path]


def _write(case: Any) -> Dataset:
    return write_segmentation(case.result, case.volume, case.sources, case.uids)


def _bytes(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@pytest.mark.dicom3tools
@pytest.mark.parametrize("empty", [False, True])
def test_dciodvfy_finds_no_error(
    write_series: Write, any_spec: Any, make_case: MakeCase, save: Save, dciodvfy_errors: Any, empty: bool
) -> None:
    case = make_case(write_series(any_spec), empty=empty)
    assert dciodvfy_errors(save(_write(case), "seg.dcm")) == []


def test_what_was_written_is_read_back(write_series: Write, spec: Any, make_case: MakeCase, save: Save) -> None:
    case = make_case(write_series(spec))
    read = read_segmentation(save(_write(case), "seg.dcm"), case.volume)
    expected = np.select([case.result.label_map == 1, case.result.label_map == 7], [1, 2], 0)
    np.testing.assert_array_equal(read.label_map, expected)
    assert [(label.value, label.name) for label in read.labels] == [
        (1, "liver"),
        (2, "left kidney"),
        (3, "spleen"),
    ]
    assert read.labels[1].type.value == "64033007"
    assert read.labels[1].anatomic_region is not None
    assert read.labels[1].anatomic_region.meaning == "Abdomen"


def test_frames_name_the_images_that_they_were_drawn_on(
    write_series: Write, any_spec: Any, make_case: MakeCase
) -> None:
    case = make_case(write_series(any_spec))
    dataset = _write(case)
    for group in dataset.PerFrameFunctionalGroupsSequence:
        reference = group.DerivationImageSequence[0].SourceImageSequence[0]
        position = np.array(group.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        index = int(np.rint(case.volume.to_index(position)[0]))
        frame = case.volume.frames[index]
        assert reference.ReferencedSOPInstanceUID == frame.sop_instance_uid
        assert reference.get("ReferencedFrameNumber") == frame.frame_number
    references = dataset.ReferencedSeriesSequence[0]
    assert references.SeriesInstanceUID == case.volume.series_instance_uid
    assert {str(item.ReferencedSOPInstanceUID) for item in references.ReferencedInstanceSequence} == {
        frame.sop_instance_uid for frame in case.volume.frames
    }


def test_the_object_says_what_made_it(write_series: Write, spec: Any, make_case: MakeCase) -> None:
    case = make_case(write_series(spec))
    dataset = _write(case)
    assert dataset.SeriesDescription == "AI abdomen rev 3 segmentation"
    assert str(dataset.SeriesNumber)[3:] == "00041"  # of series 4, the first kind of result
    assert dataset.SeriesInstanceUID == case.uids.segmentation_series()
    assert dataset.SOPInstanceUID == dataset.file_meta.MediaStorageSOPInstanceUID
    assert dataset.SOPInstanceUID.startswith("2.25.")
    assert len(dataset.SOPInstanceUID) > 30
    assert (str(dataset.ContentDate), str(dataset.ContentTime)) == ("20240102", "102030.500000")
    liver = dataset.SegmentSequence[0]
    assert liver.SegmentAlgorithmType == "AUTOMATIC"
    assert liver.TrackingID == "abdomen liver"
    assert liver.TrackingUID == case.uids.tracking("liver")
    algorithm = liver.SegmentationAlgorithmIdentificationSequence[0]
    assert algorithm.AlgorithmVersion == "0.1.0"
    assert algorithm.AlgorithmParameters == "task_revision=3,adapter=basic"
    models = [item.get("ManufacturerModelName") for item in dataset.ContributingEquipmentSequence]
    assert "fewshot abdomen" in models
    colours = {tuple(item.RecommendedDisplayCIELabValue) for item in dataset.SegmentSequence}
    assert len(colours) == 3


def test_patient_and_study_are_the_sources(write_series: Write, spec: Any, make_case: MakeCase) -> None:
    case = make_case(write_series(spec))
    dataset = _write(case)
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "StudyInstanceUID", "AccessionNumber"):
        assert dataset[keyword].value == case.sources[0][keyword].value
    elsewhere = [element for element in dataset.iterall() if element.tag.group != 0x0010]
    assert not any("SECRET" in str(element.value) for element in elsewhere if element.VR != "SQ")


def test_odd_identifiers_pass_unchanged_and_unlogged(
    write_series: Write, spec: Any, make_case: MakeCase, caplog: pytest.LogCaptureFixture, recwarn: Any
) -> None:
    changes = {"PatientName": "SECRETSINGLE", "PatientSex": "M", "StudyTime": "101112"}
    files = write_series(spec, changes=changes)
    for path in files:
        dataset = pydicom.dcmread(path)
        dataset["PatientSex"]._value = "secret"
        dataset["StudyTime"]._value = "noon"
        dataset.save_as(path)
    caplog.set_level(logging.DEBUG)
    dataset = _write(make_case(files))
    assert dataset.PatientName == "SECRETSINGLE"
    assert dataset["PatientSex"].value == "secret"
    said = caplog.text + "".join(str(warning.message) for warning in recwarn)
    assert "SECRET" not in said
    assert "secret" not in said


@pytest.mark.parametrize("charset", ["ISO_IR 100", "ISO_IR 192", ["ISO 2022 IR 6", "ISO 2022 IR 87"]])
def test_names_survive_in_their_character_set(
    write_series: Write, spec: Any, make_case: MakeCase, save: Save, charset: Any
) -> None:
    name = "Yamada^Tarou=山田^太郎" if "87" in str(charset) else "Müller^Jörg"
    case = make_case(write_series(spec, changes={"SpecificCharacterSet": charset, "PatientName": name}))
    assert pydicom.dcmread(save(_write(case), "ascii.dcm")).PatientName == name

    german = tuple(
        replace(finding, label=replace(finding.label, name=f"Gefäß {finding.label.value}"))
        for finding in case.result.findings
    )
    case = replace(case, result=replace(case.result, findings=german))
    read = pydicom.dcmread(save(_write(case), "utf8.dcm"))
    assert read.PatientName == name
    assert read.SegmentSequence[0].SegmentLabel == "Gefäß 1"


def test_two_writes_are_the_same_bytes(write_series: Write, any_spec: Any, make_case: MakeCase) -> None:
    files = write_series(any_spec)
    assert _bytes(_write(make_case(files))) == _bytes(_write(make_case(files[::-1])))


def test_another_mask_is_another_instance(write_series: Write, spec: Any, make_case: MakeCase) -> None:
    case = make_case(write_series(spec))
    changed = case.result.label_map.copy()
    changed[0, 0, 0] = 1
    other = replace(case, result=replace(case.result, label_map=changed))
    first, second = _write(case), _write(other)
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert first.SeriesInstanceUID == second.SeriesInstanceUID


def test_nothing_found_keeps_the_descriptions(write_series: Write, spec: Any, make_case: MakeCase) -> None:
    dataset = _write(make_case(write_series(spec), empty=True))
    assert [item.SegmentLabel for item in dataset.SegmentSequence] == ["liver", "left kidney", "spleen"]
    assert dataset.NumberOfFrames == 3
    assert not dataset.pixel_array.any()
    references = dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert len(references) == 6


def test_sources_without_type_2_attributes_are_enough(
    write_series: Write, spec: Any, make_case: MakeCase, save: Save, dciodvfy_errors: Any
) -> None:
    absent = (
        "PatientID PatientName PatientBirthDate PatientSex AccessionNumber StudyID StudyDate StudyTime "
        "ReferringPhysicianName SliceThickness AcquisitionDate AcquisitionTime Manufacturer SeriesNumber"
    )
    changes = dict.fromkeys(absent.split())
    dataset = _write(make_case(write_series(spec, changes=changes)))
    assert dataset.PatientID in ("", None)
    assert dataset.ContentDate.year == 1900
    assert dciodvfy_errors(save(dataset, "seg.dcm")) == []


def test_an_unknown_image_class_is_named(write_series: Write, spec: Any, make_case: MakeCase) -> None:
    case = make_case(write_series(spec, changes={"SOPClassUID": "1.2.3.4.5"}))
    with pytest.raises(SeriesError, match=r"SOP class 1\.2\.3\.4\.5.*exclude them with a rule"):
        _write(case)


def test_a_label_map_that_does_not_fit_is_refused(write_series: Write, spec: Any, make_case: MakeCase) -> None:
    case = make_case(write_series(spec))
    unknown = case.result.label_map.copy()
    unknown[0, 0, 0] = 99
    for label_map in (None, unknown, case.result.label_map[1:]):
        with pytest.raises(ConformanceError, match="task abdomen"):
            _write(replace(case, result=replace(case.result, label_map=label_map)))


def _changed(dataset: Dataset, **changes: Any) -> Dataset:
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    return dataset


def _hostile(dataset: Dataset) -> Iterator[tuple[Dataset, str]]:
    def fresh() -> Dataset:
        return pydicom.dcmread(io.BytesIO(_bytes(dataset)))

    series = fresh()
    series.ReferencedSeriesSequence[0].SeriesInstanceUID = "1.2.3"
    yield series, r"belongs to series 1\.2\.3.*pass the series it was drawn on"
    yield _changed(fresh(), FrameOfReferenceUID="1.2.3"), r"Frame of Reference 1\.2\.3"
    yield _changed(fresh(), SOPClassUID="1.2.3"), "no DICOM Segmentation"
    spacing = fresh()
    spacing.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [0.4, 0.7]
    yield spacing, r"pixel spacing is \(0\.4, 0\.7\) mm, the series' .*resample it, or annotate"
    for move, message in (((0.3, 0, 0), "mm beside"), ((0, 0, 1.2), "mm beside"), ((0, 90, 0), "beyond")):
        moved = fresh()
        for group in moved.PerFrameFunctionalGroupsSequence:
            position = group.PlanePositionSequence[0]
            position.ImagePositionPatient = (np.array(position.ImagePositionPatient) + move).tolist()
        yield moved, message
    truncated = fresh()
    truncated.PixelData = truncated.PixelData[:8]
    yield truncated, "cannot be decoded"
    numbered = fresh()
    numbered.SegmentSequence[0].SegmentNumber = 300
    yield numbered, "segment number 300 is over 254"
    nowhere = fresh()
    del nowhere.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence
    yield nowhere, "cannot be placed in the patient"


def test_a_segmentation_of_something_else_is_refused(write_series: Write, spec: Any, make_case: MakeCase) -> None:
    case = make_case(write_series(spec))
    for dataset, message in _hostile(_write(case)):
        with pytest.raises(TemplateError, match=message):
            read_segmentation(dataset, case.volume)


def test_a_file_that_is_no_dicom_is_named(tmp_path: Path, write_series: Write, spec: Any, make_case: Any) -> None:
    path = tmp_path / "labels.dcm"
    path.write_text("no DICOM")
    with pytest.raises(NotDicomError, match=r"labels\.dcm"):
        read_segmentation(path, make_case(write_series(spec)).volume)


def _by_highdicom(case: Any, masks: np.ndarray, kind: str, **options: Any) -> Dataset:
    descriptions = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label="same name",
            segmented_property_category=hd.sr.CodedConcept("123037004", "SCT", "Anatomical Structure"),
            segmented_property_type=hd.sr.CodedConcept("10200004", "SCT", "Liver"),
            algorithm_type="MANUAL",
        )
        for number in (1, 2)
    ]
    return hd.seg.Segmentation(
        [_with_name(source) for source in case.sources],
        masks,
        kind,
        descriptions,
        hd.UID(),
        7,
        hd.UID(),
        1,
        "maker",
        "model",
        "1",
        "serial",
        **options,
    )


def _with_name(source: Dataset) -> Dataset:
    source.PatientName = "Doe^Jane"
    return source


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP", "FRACTIONAL"])
def test_segmentations_of_others_are_read(write_series: Write, spec: Any, make_case: Any, kind: str) -> None:
    case = make_case(write_series(spec))
    truth = np.zeros(case.volume.array.shape, dtype=np.uint8)
    truth[2:4, 3:6, 4:9] = 1
    truth[3:5, 9:12, 1:3] = 2
    pixels: np.ndarray = truth
    if kind == "FRACTIONAL":
        pixels = np.stack([truth == 1, truth == 2], axis=-1) * 0.75
        pixels[0, 0, 0, 0] = 0.4  # under one half
    read = read_segmentation(_by_highdicom(case, pixels, kind), case.volume)
    np.testing.assert_array_equal(read.label_map, truth)
    assert [label.name for label in read.labels] == ["same name", "same name 2"]


def test_overlaps_go_to_the_higher_segment_and_are_said(
    write_series: Write, spec: Any, make_case: Any, caplog: pytest.LogCaptureFixture
) -> None:
    case = make_case(write_series(spec))
    masks = np.zeros((*case.volume.array.shape, 2), dtype=np.uint8)
    masks[2, 3:6, 4:9, 0] = 1
    masks[2, 4:5, 4:9, 1] = 1
    read = read_segmentation(_by_highdicom(case, masks, "BINARY"), case.volume)
    assert np.count_nonzero(read.label_map == 2) == 5
    assert np.count_nonzero(read.label_map == 1) == 10
    assert "5 voxels in several segments" in caplog.text


def test_flipped_and_cropped_frames_are_placed_in_mm(write_series: Write, spec: Any, make_case: Any) -> None:
    case = make_case(write_series(spec))
    truth = case.result.label_map == 1
    source = case.volume
    last = source.array.shape[2] - 1
    affine = source.affine.copy()
    affine[:3, 3] = source.to_mm(np.array([0, 1, last]))
    affine[:3, 2] *= -1
    mask = truth[:, 1:, ::-1].astype(np.uint8)
    volume = hd.Volume(mask, affine, "PATIENT", frame_of_reference_uid=source.frame_of_reference_uid)
    dataset = _by_highdicom(case, volume, "BINARY")
    np.testing.assert_array_equal(read_segmentation(dataset, source).label_map == 1, truth)


@pytest.mark.shared_data
def test_a_segmentation_of_another_tool_on_its_series(shared_data: Path) -> None:
    """dcmqi's liver example: the CT slices and the Segmentation made from them."""
    folder = shared_data / "dicom" / "dcmqi-seg"
    volume = read_volume([folder / name for name in ("01.dcm", "02.dcm", "03.dcm")])
    read = read_segmentation(folder / "liver.dcm", volume)
    reference = hd.seg.segread(folder / "liver.dcm")
    assert np.count_nonzero(read.label_map) == np.count_nonzero(reference.pixel_array)
    inside = volume.array[read.label_map > 0]
    assert 30 < np.median(inside) < 100


def test_the_object_shares_nothing_with_its_sources(write_series: Write, spec: Any, make_case: MakeCase) -> None:
    case = make_case(write_series(spec))
    dataset = _write(case)
    dataset.PatientID = "changed"
    assert case.sources[0].PatientID == "SECRET-ID"


@CORRECTIONS
def test_a_corrected_header_is_another_instance(
    write_series: Write, spec: Any, make_case: MakeCase, change: dict[str, Any]
) -> None:
    """Delivery passes over what the PACS has by SOP Instance UID, so changed content must not share one."""
    first = _write(make_case(write_series(spec)))
    second = _write(make_case(write_series(spec, "corrected", changes=change)))
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert first.SeriesInstanceUID == second.SeriesInstanceUID
