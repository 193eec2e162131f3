"""One's own series as a lesson: every kind of annotation, and what counts as success."""

import dataclasses
import json
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.sr.codedict import codes

from fewshot_node.demo.cases import Lesson
from fewshot_node.demo.own_data import OwnData, own_lesson
from fewshot_node.demo.scores import SeriesScore, StructureScore, _fetch, _score_mask, all_succeeded
from fewshot_node.demo.tables import print_scores, stages_in_order
from fewshot_node.demo.teach import as_commands, define, select
from fewshot_node.dicom.ledger import SeriesState, TaskOutcome
from fewshot_node.dicom.objects.volume import read_volume
from fewshot_node.errors import DeliveryError, TemplateError
from fewshot_node.evaluation.phantom_ct import TORSO_SETTINGS
from fewshot_node.evaluation.phantom_mr import KNEE_SETTINGS
from fewshot_node.evaluation.phantom_records import Phantom
from fewshot_node.evaluation.phantom_series import PhantomSeries, write_labels_nifti, write_points_json, write_series
from fewshot_node.evaluation.phantoms import knee_mr, torso_ct
from fewshot_node.records import ReceivedSeries, SeriesKey, TaskKind
from fewshot_node.scoring.metrics import Overlap
from fewshot_node.tasks.label_files import read_label_map
from fewshot_node.tasks.templates import read_template


def received(series: PhantomSeries) -> ReceivedSeries:
    return ReceivedSeries(SeriesKey(series.series_instance_uid), series.study_instance_uid, "", series.files)


@pytest.fixture(scope="module")
def torso(tmp_path_factory: pytest.TempPathFactory) -> tuple[Phantom, PhantomSeries]:
    settings = dataclasses.replace(TORSO_SETTINGS, slices=12, rows=64, columns=64, pixel_mm=6, slice_mm=16)
    phantom = torso_ct(3, settings)
    return phantom, write_series(phantom, tmp_path_factory.mktemp("torso"), patient_index=1)


@pytest.fixture
def seg(torso: tuple[Phantom, PhantomSeries], tmp_path: Path) -> Path:
    """Segments in another order than the phantom's values: spleen, liver, and a pancreas that is not there."""
    phantom, series = torso
    named = [("My: spleen", codes.SCT.Spleen), ("Leber", codes.SCT.Liver), ("Pancreas", codes.SCT.Pancreas)]
    numbered = np.zeros_like(phantom.label_map)
    numbered[phantom.label_map == 2], numbered[phantom.label_map == 1] = 1, 2
    segmentation = hd.seg.Segmentation(
        source_images=[dcmread(path) for path in series.files],
        pixel_array=numbered,
        segmentation_type="BINARY",
        segment_descriptions=[
            hd.seg.SegmentDescription(number, name, codes.SCT.Organ, code, algorithm_type="MANUAL")
            for number, (name, code) in enumerate(named, 1)
        ],
        series_instance_uid=hd.UID(),
        series_number=2,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="test",
        manufacturer_model_name="test",
        software_versions="1",
        device_serial_number="1",
    )
    path = tmp_path / "seg.dcm"
    segmentation.save_as(path)
    return path


def test_nifti_labels(torso: tuple[Phantom, PhantomSeries], tmp_path: Path) -> None:
    phantom, series = torso
    write_labels_nifti(phantom, tmp_path / "truth.nii.gz")
    lesson = own_lesson(OwnData(received(series), tmp_path / "truth.nii.gz"))
    present = sorted(set(np.unique(phantom.label_map).tolist()) - {0})
    assert [label.value for label in define(lesson).labels] == present
    assert (lesson.kind, lesson.bar, lesson.rules) == (TaskKind.SEGMENTATION, 0.5, ("Modality=CT",))
    template = read_template(series.files, lesson.pushed[0].truth, define(lesson), select(lesson))
    assert list(template.label_values) == present


def test_named_labels_leave_the_others_out(torso: tuple[Phantom, PhantomSeries], tmp_path: Path) -> None:
    phantom, series = torso
    write_labels_nifti(phantom, tmp_path / "truth.nii")
    lesson = own_lesson(OwnData(received(series), tmp_path / "truth.nii", ("1=Liver",)))
    read = read_label_map(lesson.pushed[0].truth, read_volume(series.files), define(lesson), select(lesson))
    np.testing.assert_array_equal(read, (phantom.label_map == 1).astype(np.uint8))
    commands = as_commands(lesson, tmp_path / "my node.toml")
    assert all(command.startswith(f"fewshot-node --config '{tmp_path / 'my node.toml'}' ") for command in commands)
    assert commands[1].endswith(" --ignore-others")


def test_dicom_seg(torso: tuple[Phantom, PhantomSeries], seg: Path) -> None:
    phantom, series = torso
    lesson = own_lesson(OwnData(received(series), seg))
    labels = define(lesson).labels
    assert [(label.value, label.name, label.type.value) for label in labels] == [
        (1, "My - spleen", "78961009"),
        (2, "Leber", "10200004"),
    ]
    read = read_label_map(seg, read_volume(series.files), define(lesson), select(lesson))
    np.testing.assert_array_equal(read == 1, phantom.label_map == 2)
    np.testing.assert_array_equal(read == 2, phantom.label_map == 1)


def test_json_points(tmp_path: Path) -> None:
    phantom = knee_mr(4, dataclasses.replace(KNEE_SETTINGS, slices=8, rows=48, columns=48, pixel_mm=4, slice_mm=14))
    series = write_series(phantom, tmp_path / "series", patient_index=1)
    write_points_json(phantom, tmp_path / "truth.json")
    lesson = own_lesson(OwnData(received(series), tmp_path / "truth.json", ("1=KPB", "2=KAL", "3=KPLIP")))
    assert (lesson.kind, lesson.bar, lesson.rules) == (TaskKind.LANDMARKS, 10.0, ("Modality=MR",))
    template = read_template(series.files, lesson.pushed[0].truth, define(lesson), select(lesson))
    assert template.label_values == (1, 2, 3)
    with pytest.raises(TemplateError, match=r"truth\.json: give --label VALUE=NAME"):
        own_lesson(OwnData(received(series), tmp_path / "truth.json"))


def test_a_file_of_another_kind_is_named(torso: tuple[Phantom, PhantomSeries], tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text(json.dumps({"no": "labels"}))
    with pytest.raises(TemplateError, match=r"labels\.txt: landmark 'no' is not three numbers"):
        own_lesson(OwnData(received(torso[1]), path))


@pytest.fixture
def lesson(torso: tuple[Phantom, PhantomSeries], seg: Path) -> Lesson:
    return own_lesson(OwnData(received(torso[1]), seg))


@pytest.mark.parametrize(
    ("scores", "expected"),
    [((0.5, 0.5), True), ((0.2, 0.8), True), ((0.4, 0.5), False), ((1.0, None), False), ((), False)],
)
def test_success_of_masks_is_a_mean_and_nothing_missed(
    lesson: Lesson, scores: tuple[float | None, ...], expected: bool
) -> None:
    structures = tuple(StructureScore(str(number), "1 mL", score) for number, score in enumerate(scores))
    assert all_succeeded([SeriesScore(lesson.pushed[0], lesson, structures)]) is expected


@pytest.mark.parametrize(
    ("true_voxels", "predicted_voxels", "iou", "expected"),
    [(10, 0, 0.0, None), (10, 5, 0.5, 0.5), (0, 5, 0.0, 0.0), (0, 0, 1.0, 1.0)],
)
def test_a_structure_of_the_truth_that_was_not_found_is_missed(
    true_voxels: int, predicted_voxels: int, iou: float, expected: float | None
) -> None:
    overlap = Overlap(1, iou, iou, true_voxels, predicted_voxels)
    assert _score_mask("Liver", overlap, ml_per_voxel=0.1).score == expected


def test_success_needs_both_objects_in_the_pacs(lesson: Lesson, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fewshot_node.demo.scores.list_series", lambda *_: ())
    outcome = TaskOutcome("own-task", 1, SeriesState.DELIVERED, report_instance_uid="1.2.3")
    with pytest.raises(DeliveryError, match=r"does not hold SR 1\.2\.3, SEG at all of series"):
        _fetch(lesson.pushed[0], lesson.kind, outcome, None)  # type: ignore[arg-type]


def test_stages_of_several_runs_keep_their_order() -> None:
    masks = ["volume", "route", "encode", "refine", "deliver"]
    points = ["volume", "route", "encode", "landmarks", "report", "deliver"]
    merged = stages_in_order([masks, points, []])
    assert [stage for stage in merged if stage in masks] == masks
    assert [stage for stage in merged if stage in points] == points
    assert len(merged) == 7


def test_the_table_states_bar_and_stages(lesson: Lesson, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    structures = (StructureScore("Leber", "10.0 mL", 0.7), StructureScore("Milz", "not found", None))
    seconds = {"volume": 0.25, "anything new": 1.5}
    print_scores([SeriesScore(lesson.pushed[0], lesson, structures, seconds, Path("own.png"))], Console(width=110))
    printed = capsys.readouterr().out
    for text in ("Leber", "Milz", "missed", ">= 0.50 short", "anything new", "1.5", "own.png"):
        assert text in printed
