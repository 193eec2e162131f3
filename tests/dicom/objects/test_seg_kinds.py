"""BINARY, FRACTIONAL and LABELMAP: each written, placed in mm, read back; other readers follow in the matrix."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedCTImageStorage, JPEG2000Lossless, RLELossless

from fewshot_node.dicom.objects.seg import read_segmentation, write_segmentation
from fewshot_node.errors import ConformanceError
from fewshot_node.output import OutputSettings
from fewshot_node.probabilities import LabelProbabilities
from fewshot_node.records import Code

Write = Callable[..., list[Path]]
MakeCase = Callable[..., Any]
Save = Callable[[Dataset, str], Path]

KINDS = ("binary", "fractional", "labelmap")
VALUES = {1: 1, 2: 7, 3: 12}
"""Label value of each segment number of the cases."""


def believed(label_map: np.ndarray) -> np.ndarray:
    """Give a made-up belief in each of the three labels, (slices, labels, rows, columns): 0.8 where it is drawn."""
    share = np.full((len(label_map), 3, *label_map.shape[1:]), 0.05, dtype=np.float32)
    for segment, value in VALUES.items():
        share[:, segment - 1][label_map == value] = 0.8
    return share


def of_kind(case: Any, kind: str, empty_frames: Any = "omit") -> Any:
    """Let a case's task ask for a kind; the adapter's grid is the image's, so that its scores are voxels' own."""
    shares = believed(case.result.label_map)
    scores = np.log(np.concatenate([1 - shares.sum(axis=1, keepdims=True), shares], axis=1))
    result = replace(
        case.result,
        output=OutputSettings(segmentation=kind, empty_frames=empty_frames),  # type: ignore[arg-type]
        probabilities=LabelProbabilities(scores, tuple(VALUES.values()), case.result.label_map.shape[1:]),
    )
    return replace(case, result=result)


def written(case: Any) -> Dataset:
    return write_segmentation(case.result, case.volume, case.sources, case.uids)


def placed_mm(dataset: Dataset) -> dict[int, dict[tuple[float, ...], int]]:
    """Place each stored value by the frames' own attributes (PS3.3 C.7.6.2.1-1): segment -> place -> value."""
    shared = dataset.SharedFunctionalGroupsSequence[0]
    cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float)
    row_mm, column_mm = (float(value) for value in shared.PixelMeasuresSequence[0].PixelSpacing)
    found: dict[int, dict[tuple[float, ...], int]] = {1: {}, 2: {}, 3: {}}
    frames = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    for group, frame in zip(dataset.PerFrameFunctionalGroupsSequence, frames, strict=True):
        position = np.array(group.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        for row, column in np.argwhere(frame):
            place = position + cosines[:3] * column_mm * column + cosines[3:] * row_mm * row
            value = int(frame[row, column])
            named = group.get("SegmentIdentificationSequence")
            segment = value if named is None else named[0].ReferencedSegmentNumber
            found[segment][tuple(np.round(place, 2) + 0.0)] = value
    return found


def expected_mm(case: Any, kind: str) -> dict[int, dict[tuple[float, ...], int]]:
    label_map = case.result.label_map
    expected = {}
    for segment, value in VALUES.items():
        stored = (label_map == value).astype(int) * (segment if kind == "labelmap" else 1)
        if kind == "fractional":
            drawn = (label_map == value).any(axis=(1, 2))
            stored = np.rint(believed(label_map)[:, segment - 1] * 255).astype(int) * drawn[:, None, None]
        voxels = np.argwhere(stored)
        places = case.volume.to_mm(voxels)
        expected[segment] = {
            tuple(np.round(place, 2) + 0.0): int(stored[tuple(voxel)])
            for place, voxel in zip(places, voxels, strict=True)
        }
    return expected


@pytest.mark.parametrize("kind", KINDS)
def test_values_lie_at_their_voxels_in_mm(
    write_series: Write, any_spec: Any, make_case: MakeCase, save: Save, kind: str
) -> None:
    case = of_kind(make_case(write_series(any_spec)), kind)
    dataset = pydicom.dcmread(save(written(case), "seg.dcm"))
    assert dataset.SegmentationType == kind.upper()
    assert placed_mm(dataset) == expected_mm(case, kind)
    read = read_segmentation(dataset, case.volume)
    numbers = np.select([case.result.label_map == value for value in VALUES.values()], list(VALUES), 0)
    np.testing.assert_array_equal(read.label_map, numbers)
    assert [label.name for label in read.labels] == ["liver", "left kidney", "spleen"]


SOURCES: dict[str, dict[str, Any]] = {
    "enhanced-ct": {"multi_frame": True, "changes": {"SOPClassUID": EnhancedCTImageStorage}},
    "enhanced-ct-reversed": {
        "multi_frame": True,
        "reverse": True,
        "changes": {"SOPClassUID": EnhancedCTImageStorage},
    },
    "signed": {"changes": {"PixelRepresentation": 1}},
    "one-frame": {"multi_frame": True, "modality": "MR", "slices": 1},
    "rle": {},
    "jpeg-2000": {"rows": 64, "columns": 64},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("source", SOURCES)
def test_odd_sources_are_met_in_mm(
    write_series: Write, spec: Any, make_case: MakeCase, save: Save, source: str, kind: str
) -> None:
    files = write_series(spec, **SOURCES[source])
    syntax = {"rle": RLELossless, "jpeg-2000": JPEG2000Lossless}.get(source)
    for path in files if syntax else ():
        dataset = pydicom.dcmread(path)
        dataset.compress(syntax, generate_instance_uid=False)
        dataset.save_as(path)
    case = of_kind(make_case(files), kind)
    dataset = pydicom.dcmread(save(written(case), "seg.dcm"))
    assert placed_mm(dataset) == expected_mm(case, kind)
    for group in dataset.PerFrameFunctionalGroupsSequence:
        reference = group.DerivationImageSequence[0].SourceImageSequence[0]
        position = np.array(group.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        frame = case.volume.frames[int(np.rint(case.volume.to_index(position)[0]))]
        assert reference.ReferencedSOPInstanceUID == frame.sop_instance_uid
        assert reference.get("ReferencedFrameNumber") == frame.frame_number


@pytest.mark.dicom3tools
@pytest.mark.parametrize("empty_frames", ["omit", "keep"])
@pytest.mark.parametrize("empty", [False, True], ids=["found", "nothing"])
@pytest.mark.parametrize("kind", ["binary", "fractional"])
def test_dciodvfy_finds_no_error(
    write_series: Write,
    spec: Any,
    make_case: MakeCase,
    save: Save,
    dciodvfy_errors: Any,
    kind: str,
    empty: bool,
    empty_frames: str,
) -> None:
    case = of_kind(make_case(write_series(spec), empty=empty), kind, empty_frames)
    assert dciodvfy_errors(save(written(case), "seg.dcm")) == []


@pytest.mark.parametrize("kind", KINDS)
def test_kept_frames_are_there_and_empty(write_series: Write, spec: Any, make_case: MakeCase, kind: str) -> None:
    case = make_case(write_series(spec))
    omitted, kept = written(of_kind(case, kind)), written(of_kind(case, kind, "keep"))
    shown = sum(int((case.result.label_map == value).any(axis=(1, 2)).sum()) for value in VALUES.values())
    slices = len(case.volume.array)
    assert omitted.NumberOfFrames == (shown if kind != "labelmap" else slices)
    assert kept.NumberOfFrames == (3 * slices if kind != "labelmap" else slices)
    assert placed_mm(kept) == placed_mm(omitted)


@pytest.mark.parametrize("empty_frames", ["omit", "keep"])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_found_keeps_the_descriptions(
    write_series: Write, spec: Any, make_case: MakeCase, kind: str, empty_frames: str
) -> None:
    case = of_kind(make_case(write_series(spec), empty=True), kind, empty_frames)
    dataset = written(case)
    described = [item for item in dataset.SegmentSequence if item.SegmentNumber > 0]
    assert [(item.SegmentNumber, item.SegmentLabel) for item in described] == [
        (1, "liver"),
        (2, "left kidney"),
        (3, "spleen"),
    ]
    assert all(item.TrackingUID == case.uids.tracking(item.SegmentLabel) for item in described)
    assert not dataset.pixel_array.any()
    slices = len(case.volume.array) if empty_frames == "keep" else 1
    assert dataset.NumberOfFrames == slices * (1 if kind == "labelmap" else 3)
    assert not read_segmentation(dataset, case.volume).label_map.any()


def test_a_fractional_one_is_a_probability(write_series: Write, spec: Any, make_case: MakeCase) -> None:
    dataset = written(of_kind(make_case(write_series(spec)), "fractional"))
    assert dataset.SegmentationFractionalType == "PROBABILITY"
    assert dataset.MaximumFractionalValue == 255
    assert dataset.SegmentsOverlap == "UNDEFINED"
    assert set(np.unique(dataset.pixel_array)) == {round(0.05 * 255), round(0.8 * 255)}


def test_a_fractional_one_of_one_label_names_its_segment_once(
    write_series: Write, spec: Any, make_case: MakeCase
) -> None:
    case = of_kind(make_case(write_series(spec)), "fractional")
    (liver,) = (finding for finding in case.result.findings if finding.label.name == "liver")
    label_map = np.where(case.result.label_map == 1, 1, 0).astype(np.uint8)
    shares = np.where(label_map == 1, 0.6, 0.2).astype(np.float32)
    probabilities = LabelProbabilities(np.log(np.stack([1 - shares, shares], axis=1)), (1,), label_map.shape[1:])
    result = replace(case.result, findings=(liver,), label_map=label_map, probabilities=probabilities)
    dataset = written(replace(case, result=result))
    assert set(np.unique(dataset.pixel_array)) == {round(0.2 * 255), round(0.6 * 255)}
    np.testing.assert_array_equal(read_segmentation(dataset, case.volume).label_map, label_map)


def test_without_probabilities_none_are_made_up(write_series: Write, spec: Any, make_case: MakeCase) -> None:
    case = of_kind(make_case(write_series(spec)), "fractional")
    with pytest.raises(ConformanceError, match=r"task abdomen gave no probabilities.*segmentation=binary"):
        written(replace(case, result=replace(case.result, probabilities=None)))


def test_each_kind_and_each_belief_is_another_object(write_series: Write, spec: Any, make_case: MakeCase) -> None:
    case = make_case(write_series(spec))
    objects = {kind: written(of_kind(case, kind)) for kind in KINDS}
    assert len({dataset.SOPInstanceUID for dataset in objects.values()}) == 3
    assert len({dataset.SeriesInstanceUID for dataset in objects.values()}) == 3
    moved = replace(case, result=replace(case.result, label_map=np.roll(case.result.label_map, 1, axis=0)))
    for kind in KINDS:
        assert written(of_kind(case, kind)).SOPInstanceUID == objects[kind].SOPInstanceUID
        assert written(of_kind(moved, kind)).SOPInstanceUID != objects[kind].SOPInstanceUID
    kept = written(of_kind(case, "binary", "keep"))
    assert kept.SOPInstanceUID != objects["binary"].SOPInstanceUID
    surer = of_kind(case, "fractional")
    scores = surer.result.probabilities.scores.copy()
    scores[:, 0] -= 1
    changed = replace(surer.result.probabilities, scores=scores)
    other = written(replace(surer, result=replace(surer.result, probabilities=changed)))
    assert other.SOPInstanceUID != objects["fractional"].SOPInstanceUID
    assert other.SeriesInstanceUID == objects["fractional"].SeriesInstanceUID


@pytest.mark.parametrize("kind", KINDS)
def test_a_side_is_a_modifier(write_series: Write, spec: Any, make_case: MakeCase, kind: str) -> None:
    case = of_kind(make_case(write_series(spec)), kind)
    left, region = Code("7771000", "SCT", "Left"), Code("64033007", "SCT", "Kidney")
    lesion = Code("49755003", "SCT", "Morphologically Abnormal Structure")
    sided = {
        7: {"laterality": left},
        12: {
            "laterality": left,
            "category": lesion,
            "type": Code("108369006", "SCT", "Neoplasm"),
            "anatomic_region": region,
        },
    }
    findings = tuple(
        replace(finding, label=replace(finding.label, **sided.get(finding.label.value, {})))
        for finding in case.result.findings
    )
    dataset = written(replace(case, result=replace(case.result, findings=findings)))
    liver, kidney, tumour = (item for item in dataset.SegmentSequence if item.SegmentNumber > 0)
    assert "SegmentedPropertyTypeModifierCodeSequence" not in liver.SegmentedPropertyTypeCodeSequence[0]
    assert kidney.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Kidney"
    assert modifier(kidney.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence) == left
    assert "AnatomicRegionModifierSequence" not in kidney.AnatomicRegionSequence[0]
    assert "SegmentedPropertyTypeModifierCodeSequence" not in tumour.SegmentedPropertyTypeCodeSequence[0]
    assert modifier(tumour.AnatomicRegionSequence[0].AnatomicRegionModifierSequence) == left
    assert [label.laterality for label in read_segmentation(dataset, case.volume).labels] == [None, left, left]


def modifier(sequence: Any) -> Code:
    (item,) = sequence
    return Code(item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning)
