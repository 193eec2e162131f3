"""What the demonstration teaches, and what it pushes afterwards."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fewshot_node.evaluation.phantom_series import write_labels_nifti, write_points_json, write_series
from fewshot_node.evaluation.phantoms import Phantom, knee_mr, torso_ct
from fewshot_node.records import TaskKind

TORSO_IOU = 0.75
"""Least mean IoU over the structures of a torso that counts as success."""

KNEE_MM = 6.0
"""Largest mean distance over the landmarks of a knee that counts as success."""

_TEMPLATE_SALT = "templates"
_TORSO_TEMPLATES, _TORSO_PUSHED = (11, 12), (101, 102)
_KNEE_TEMPLATES, _KNEE_PUSHED = (21, 22, 23), (201, 202)


@dataclass(frozen=True, slots=True)
class Case:
    """One annotated series on disk; `truth` holds a DICOM SEG, NIfTI labels or JSON points."""

    name: str
    series_instance_uid: str
    study_instance_uid: str
    files: tuple[Path, ...]
    truth: Path


@dataclass(frozen=True, slots=True)
class Lesson:
    """One task: what it is taught from, and what is pushed to it afterwards.

    `labels` and `rules` are written as on the command line; `bar` is the least mean IoU of a
    segmentation task, or the largest mean distance in mm of a landmark task, that counts as success;
    `ignore_others` drops what the truth holds beside `labels`.
    """

    task: str
    kind: TaskKind
    labels: tuple[str, ...]
    rules: tuple[str, ...]
    templates: tuple[Case, ...]
    pushed: tuple[Case, ...]
    bar: float
    ignore_others: bool = False


def phantom_lessons(folder: Path, salt: str) -> tuple[Lesson, Lesson]:
    """Write the phantoms below `folder`: a torso CT to segment and a knee MR with landmarks.

    `salt` makes the pushed studies new ones: other UIDs than those of an earlier demonstration.
    """
    torso = Lesson(
        task="torso-organs",
        kind=TaskKind.SEGMENTATION,
        labels=("1=Liver", "2=Spleen", "3=Left kidney", "4=Right kidney"),
        rules=("Modality=CT", "BodyPartExamined=ABDOMEN", "number_of_slices>=10"),
        templates=_torsos(_TORSO_TEMPLATES, folder, _TEMPLATE_SALT),
        pushed=_torsos(_TORSO_PUSHED, folder, salt),
        bar=TORSO_IOU,
    )
    knee = Lesson(
        task="knee-landmarks",
        kind=TaskKind.LANDMARKS,
        labels=("1=KPB", "2=KAL", "3=KPLIP"),
        rules=("Modality=MR", "BodyPartExamined=KNEE", "orientation=sagittal"),
        templates=_knees(_KNEE_TEMPLATES, folder, _TEMPLATE_SALT),
        pushed=_knees(_KNEE_PUSHED, folder, salt),
        bar=KNEE_MM,
    )
    return torso, knee


def _torsos(seeds: Sequence[int], folder: Path, salt: str) -> tuple[Case, ...]:
    return tuple(_write(torso_ct(seed), folder, salt, ".nii.gz", write_labels_nifti) for seed in seeds)


def _knees(seeds: Sequence[int], folder: Path, salt: str) -> tuple[Case, ...]:
    return tuple(_write(knee_mr(seed), folder, salt, ".json", write_points_json) for seed in seeds)


def _write(
    phantom: Phantom, folder: Path, salt: str, suffix: str, write_truth: Callable[[Phantom, Path], None]
) -> Case:
    stem = f"{phantom.kind}-{phantom.seed}"
    series = write_series(phantom, folder / stem, patient_index=phantom.seed, salt=salt)
    truth = folder / f"{stem}{suffix}"
    write_truth(phantom, truth)
    name = f"{phantom.kind} {phantom.seed}"
    return Case(name, series.series_instance_uid, series.study_instance_uid, series.files, truth)
