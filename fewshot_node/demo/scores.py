"""What came back from the PACS, held against the truth."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydicom import Dataset

from fewshot_node.config import PacsSettings
from fewshot_node.demo.cases import Case, Lesson
from fewshot_node.demo.teach import define, select
from fewshot_node.dicom.ledger import SeriesEntry, TaskOutcome
from fewshot_node.dicom.objects.seg_reading import SegmentationLabels, read_segmentation
from fewshot_node.dicom.objects.sr_reading import read_report
from fewshot_node.dicom.objects.volume import read_volume
from fewshot_node.dicom.query import fetch_series, list_series
from fewshot_node.errors import DeliveryError
from fewshot_node.pages.overlays import write_overlay
from fewshot_node.records import Label, LabelArray, TaskKind, Volume
from fewshot_node.scoring.metrics import Overlap, distance_mm, overlap
from fewshot_node.tasks.label_files import read_label_map, read_positions_mm

Position = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class StructureScore:
    """One structure: what was measured, and how far it is from the truth.

    `score` is the IoU of a segmentation, or the distance in mm of a landmark; None where the structure was
    missed, or where a landmark is reported although it is absent.
    """

    name: str
    measured: str
    score: float | None


@dataclass(frozen=True, slots=True)
class SeriesScore:
    """All structures of one series; `overlay` is a picture for people."""

    case: Case
    lesson: Lesson
    structures: tuple[StructureScore, ...]
    seconds: dict[str, float] = field(default_factory=dict)
    overlay: Path | None = None

    @property
    def mean(self) -> float | None:
        """Mean score; None when a structure was missed."""
        scores = [structure.score for structure in self.structures]
        if not scores or any(score is None for score in scores):
            return None
        return float(np.mean([score for score in scores if score is not None]))

    @property
    def succeeded(self) -> bool:
        """Whether no structure was missed and the mean score reaches the lesson's bar."""
        if self.mean is None:
            return False
        if self.lesson.kind is TaskKind.SEGMENTATION:
            return self.mean >= self.lesson.bar
        return self.mean <= self.lesson.bar


def score_series(case: Case, lesson: Lesson, entry: SeriesEntry, pacs: PacsSettings, overlays: Path) -> SeriesScore:
    """Fetch a series' results from the PACS and score them.

    Raises
    ------
    DeliveryError
        The PACS does not hold what the ledger says was delivered.
    """
    outcome = next(one for one in entry.outcomes if one.task_name == lesson.task)
    objects = _fetch(case, lesson.kind, outcome, pacs)
    volume = read_volume(case.files)
    picture = overlays / f"{case.name.replace(' ', '-')}.png"
    if lesson.kind is TaskKind.SEGMENTATION:
        structures = _score_masks(objects["SEG"], volume, case, lesson, picture)
    else:
        structures = _score_points(objects["SR"], volume, case, lesson, picture)
    return SeriesScore(case, lesson, structures, dict(outcome.seconds), picture)


def _fetch(case: Case, kind: TaskKind, outcome: TaskOutcome, pacs: PacsSettings) -> dict[str, Dataset]:
    """Return the report as "SR", and of a segmentation task the masks as "SEG", as the PACS gives them back."""
    wanted = {"SR": outcome.report_instance_uid}
    if kind is TaskKind.SEGMENTATION:
        wanted["SEG"] = outcome.segmentation_instance_uid
    held: dict[str, Dataset] = {}
    listed = list_series(case.study_instance_uid, pacs)
    for uid in sorted({series.series_instance_uid for series in listed if series.modality in wanted}):
        fetched = fetch_series(case.study_instance_uid, uid, pacs)
        held |= {str(dataset.SOPInstanceUID): dataset for dataset in fetched}
    missing = [f"{modality} {instance or 'at all'}" for modality, instance in wanted.items() if instance not in held]
    if missing:
        message = f"the PACS does not hold {', '.join(missing)} of series {case.series_instance_uid}"
        raise DeliveryError(f"{message}: see node.log in the demo's folder")
    return {modality: held[instance] for modality, instance in wanted.items() if instance}


def _score_masks(
    segmentation: Dataset, volume: Volume, case: Case, lesson: Lesson, picture: Path
) -> tuple[StructureScore, ...]:
    labels = define(lesson).labels
    names = {label.value: label.name for label in labels}
    truth = read_label_map(case.truth, volume, define(lesson), select(lesson))
    found = _in_task_values(read_segmentation(segmentation, volume), labels)
    write_overlay(picture, volume, found, names, truth=truth)
    ml_per_voxel = volume.voxel_mm3 / 1000.0
    return tuple(_score_mask(names[score.label], score, ml_per_voxel) for score in overlap(found, truth, tuple(names)))


def _score_mask(name: str, score: Overlap, ml_per_voxel: float) -> StructureScore:
    if score.true_voxels and not score.predicted_voxels:
        return StructureScore(name, "not found", None)
    return StructureScore(name, f"{score.predicted_voxels * ml_per_voxel:.1f} mL", score.iou)


def _in_task_values(read: SegmentationLabels, labels: Sequence[Label]) -> LabelArray:
    """Give segments, which are numbered from 1, the task's own label values again."""
    values = {label.name: label.value for label in labels}
    table = np.zeros(256, dtype=np.uint8)
    for segment in read.labels:
        table[segment.value] = values[segment.name]
    return table[read.label_map]


def _score_points(
    report: Dataset, volume: Volume, case: Case, lesson: Lesson, picture: Path
) -> tuple[StructureScore, ...]:
    labels = define(lesson).labels
    truth = read_positions_mm(case.truth, volume, define(lesson), select(lesson))
    reported = {finding.name: finding.point_mm for finding in read_report(report, volume)}
    found = {label.value: reported.get(f"{lesson.task} {label.name}") for label in labels}
    write_overlay(
        picture,
        volume,
        {value: _index(volume, point) for value, point in found.items() if point},
        {label.value: label.name for label in labels},
        truth={value: _index(volume, point) for value, point in truth.items()},
    )
    return tuple(_score_point(label.name, found[label.value], truth.get(label.value)) for label in labels)


def _index(volume: Volume, point_mm: Position) -> Position:
    slice_index, row, column = volume.to_index(np.asarray(point_mm))
    return float(slice_index), float(row), float(column)


def _score_point(name: str, point: Position | None, truth: Position | None) -> StructureScore:
    if point is None:
        return StructureScore(name, "not found", 0.0 if truth is None else None)
    measured = "(" + ", ".join(f"{value:.1f}" for value in point) + ") mm"
    return StructureScore(name, measured, None if truth is None else distance_mm(point, truth))


def all_succeeded(scores: Sequence[SeriesScore]) -> bool:
    """Whether every series reached its lesson's bar."""
    return bool(scores) and all(score.succeeded for score in scores)
