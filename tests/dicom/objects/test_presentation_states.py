"""Presentation states: graphics on the right image, at the right place, that the gate and dciodvfy let out."""

import io
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from skimage.measure import points_in_poly

from fewshot_node.dicom.objects.conformance import find_faults
from fewshot_node.dicom.objects.outbox import write_result_files
from fewshot_node.dicom.objects.presentation_states import write_presentation_states
from fewshot_node.output import OutputSettings
from fewshot_node.records import TaskKind
from tests.dicom.objects.conftest import Case

Write = Callable[..., list[Path]]
KINDS = pytest.mark.parametrize("kind", list(TaskKind))


def states(case: Case) -> list[Dataset]:
    return write_presentation_states(case.result, case.volume, case.sources, case.uids)


def drawn(case: Case) -> Iterator[tuple[str, int, str, np.ndarray]]:
    """Every graphic: its layer, the slice of its image, its type, its (column, row) places."""
    slices = {(frame.sop_instance_uid, frame.frame_number): index for index, frame in enumerate(case.volume.frames)}
    for state in states(case):
        described = {layer.GraphicLayer: layer.GraphicLayerDescription for layer in state.GraphicLayerSequence}
        for annotation in state.GraphicAnnotationSequence:
            (image,) = annotation.ReferencedImageSequence
            index = slices[image.ReferencedSOPInstanceUID, image.get("ReferencedFrameNumber")]
            for graphic in annotation.GraphicObjectSequence:
                places = np.array(graphic.GraphicData).reshape(-1, 2)
                assert len(places) == graphic.NumberOfGraphicPoints
                assert graphic.GraphicAnnotationUnits == "PIXEL"
                yield described[annotation.GraphicLayer], index, graphic.GraphicType, places


@pytest.mark.dicom3tools
@KINDS
def test_dciodvfy_and_the_gate_find_no_error(
    write_series: Write, any_spec: Any, make_case: Any, save: Any, dciodvfy_errors: Any, kind: TaskKind
) -> None:
    case = make_case(write_series(any_spec, slices=min(any_spec.slices, 3)), kind)
    made = states(case)
    assert [state.InstanceNumber for state in made] == list(range(1, len(made) + 1))
    for state in made:
        assert list(map(str, find_faults(state, case.origin()))) == []
        assert dciodvfy_errors(save(state, "pr.dcm")) == []


@pytest.mark.dcmtk
@KINDS
def test_dcmtk_checks_it_and_renders_it(
    write_series: Write, spec: Any, make_case: Any, save: Any, require_tool: Callable[[str], str], kind: TaskKind
) -> None:
    case = make_case(write_series(spec), kind)
    path = save(states(case)[0], "pr.dcm")
    checked = subprocess.run([require_tool("dcmpschk"), str(path)], check=False, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "Test passed" in checked.stdout + checked.stderr
    _, index, *_ = next(drawn(case))
    picture = path.with_suffix(".pgm")
    command = [require_tool("dcmp2pgm"), "-p", str(path), str(file_of(case, index)), str(picture)]
    rendered = subprocess.run(command, check=False, capture_output=True, text=True)
    assert rendered.returncode == 0, rendered.stdout + rendered.stderr
    assert picture.read_bytes().startswith(b"P5")


def file_of(case: Case, index: int) -> Path:
    wanted = case.volume.frames[index].sop_instance_uid
    return next(path for path in case.files if pydicom.dcmread(path).SOPInstanceUID == wanted)


@pytest.mark.parametrize("multi_frame", [False, True])
def test_outlines_enclose_the_masks(write_series: Write, spec: Any, make_case: Any, multi_frame: bool) -> None:
    case = make_case(write_series(spec, multi_frame=multi_frame, modality="MR", reverse=True))
    rows, columns = np.meshgrid(np.arange(spec.rows), np.arange(spec.columns), indexing="ij")
    centres = np.column_stack([columns.ravel() + 0.5, rows.ravel() + 0.5])
    seen = {name: np.zeros(case.volume.array.shape, dtype=bool) for name in ("liver", "left kidney")}
    for name, index, kind, places in drawn(case):
        assert kind == "POLYLINE"
        assert np.array_equal(places[0], places[-1])
        seen[name][index] |= points_in_poly(centres, places).reshape(rows.shape)
    for value, name in ((1, "liver"), (7, "left kidney")):
        assert np.array_equal(seen[name], case.result.label_map == value)


def test_a_landmark_lies_at_its_place_in_mm(write_series: Write, spec: Any, make_case: Any) -> None:
    case = make_case(write_series(spec), TaskKind.LANDMARKS)
    ((name, index, kind, places),) = drawn(case)
    assert (name, kind) == ("liver", "POINT")
    source = case.sources[index]
    to_mm = hd.spatial.ImageToReferenceTransformer(
        source.ImagePositionPatient, source.ImageOrientationPatient, source.PixelSpacing
    )
    off = to_mm(places)[0] - np.array(case.result.findings[0].point_mm)
    assert np.linalg.norm(off) <= spec.spacing[0] / 2 + 1e-3  # on its nearest slice
    (state,) = states(case)
    (text,) = state.GraphicAnnotationSequence[0].TextObjectSequence
    assert text.UnformattedTextValue == "liver"
    np.testing.assert_allclose(text.AnchorPoint, places[0], atol=1e-4)


def test_slices_that_are_stored_differently_get_states_of_their_own(
    write_series: Write, spec: Any, make_case: Any
) -> None:
    steep = {index: {"RescaleSlope": "2"} for index in range(0, spec.slices, 2)}
    case = make_case(write_series(spec, slice_changes=steep))
    made = states(case)
    assert sorted(float(state.RescaleSlope) for state in made) == [1.0, 2.0]
    slopes = {str(source.SOPInstanceUID): float(source.RescaleSlope) for source in case.sources}
    for state in made:
        (series,) = state.ReferencedSeriesSequence
        assert {slopes[item.ReferencedSOPInstanceUID] for item in series.ReferencedImageSequence} == {
            float(state.RescaleSlope)
        }


def test_the_window_is_that_of_the_source(write_series: Write, spec: Any, make_case: Any) -> None:
    case = make_case(write_series(spec, changes={"WindowCenter": "40", "WindowWidth": "400"}))
    (item,) = states(case)[0].SoftcopyVOILUTSequence
    assert (float(item.WindowCenter), float(item.WindowWidth)) == (40.0, 400.0)


def test_nothing_found_gives_none_and_the_same_again_the_same_bytes(
    write_series: Write, spec: Any, make_case: Any
) -> None:
    files = write_series(spec)
    assert states(make_case(files, empty=True)) == []
    buffers = [io.BytesIO(), io.BytesIO()]
    for buffer in buffers:
        states(make_case(files))[0].save_as(buffer, enforce_file_format=True)
    assert buffers[0].getvalue() == buffers[1].getvalue()


@KINDS
def test_a_task_that_asks_for_them_gets_them_before_its_report(
    write_series: Write, spec: Any, make_case: Any, tmp_path: Path, kind: TaskKind
) -> None:
    case = make_case(write_series(spec), kind)
    result = replace(case.result, output=OutputSettings(presentation_state=True))
    written = write_result_files(result, case.volume, case.files, case.uids, tmp_path / "out")
    *_, state, report = (pydicom.dcmread(path) for path in written.paths)
    assert (state.Modality, report.Modality) == ("PR", "SR")
    assert state.SeriesDescription == "AI abdomen rev 3 presentation"
    items = [
        item
        for one in report.ContentSequence
        for item in one.get("ContentSequence", ())
        if item.ValueType == "COMPOSITE"
    ]
    assert [item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in items] == [state.SOPInstanceUID]
    assert items[0].ConceptNameCodeSequence[0].CodeMeaning == "Presentation State"
