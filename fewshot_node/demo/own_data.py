"""The demonstration on one's own series: five of its slices teach, the whole of it is scored."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fewshot_node.demo.cases import Case, Lesson
from fewshot_node.dicom.objects.headers import read_header
from fewshot_node.dicom.objects.seg_reading import read_segmentation
from fewshot_node.dicom.objects.volume import read_volume
from fewshot_node.errors import NotDicomError, TemplateError
from fewshot_node.records import Label, LabelArray, ReceivedSeries, TaskKind, Volume
from fewshot_node.tasks.label_files import is_points_file
from fewshot_node.tasks.nifti import read_nifti_labels

OWN_IOU = 0.5
"""Least mean IoU that counts as success on one's own segmentation: found, and more right than wrong."""

OWN_MM = 10.0
"""Largest mean distance that counts as success on one's own landmarks."""

_ANY_STRUCTURE = "SCT:91723000:Anatomical structure"
_LONGEST_CODE = 16


@dataclass(frozen=True, slots=True)
class OwnData:
    """A series and its annotation; `labels` are written as ``VALUE=NAME``, all of the file's if empty."""

    received: ReceivedSeries
    truth: Path
    labels: tuple[str, ...] = ()


def own_lesson(data: OwnData) -> Lesson:
    """Return the lesson that one annotated series makes: NIfTI labels, a DICOM SEG or JSON points.

    Raises
    ------
    TemplateError
        The label file cannot be read, holds no label, or its landmarks are not named.
    """
    files = data.received.files
    uid, study = data.received.key.series_instance_uid, data.received.study_instance_uid
    case = Case("own", uid, study, files, data.truth)
    if is_points_file(data.truth):
        kind, bar, labels = TaskKind.LANDMARKS, OWN_MM, data.labels
    else:
        kind, bar, labels = TaskKind.SEGMENTATION, OWN_IOU, data.labels or _all_labels(data)
    if not labels:
        raise TemplateError(f"name the labels of {data.truth}: give --label VALUE=NAME for each")
    return Lesson(
        task="own-task",
        kind=kind,
        labels=labels,
        rules=(f"Modality={read_header(files).dataset.Modality}",),
        templates=(case,),
        pushed=(case,),
        bar=bar,
        ignore_others=bool(data.labels) and kind is TaskKind.SEGMENTATION,
    )


def _all_labels(data: OwnData) -> tuple[str, ...]:
    volume = read_volume(data.received.files)
    if data.truth.name.lower().endswith((".nii", ".nii.gz")):
        values = _present(read_nifti_labels(data.truth, volume), data.truth)
        return tuple(f"{value}=label {value}:{_ANY_STRUCTURE}" for value in values)
    return _segments(data.truth, volume)


def _segments(path: Path, volume: Volume) -> tuple[str, ...]:
    try:
        read = read_segmentation(path, volume)
    except NotDicomError as error:
        raise TemplateError(f"label file {path} is no DICOM SEG, NIfTI (.nii, .nii.gz) or JSON: convert it") from error
    present = _present(read.label_map, path)
    return tuple(_as_text(label) for label in read.labels if label.value in present)


def _present(label_map: LabelArray, path: Path) -> list[int]:
    values = [int(value) for value in np.unique(label_map) if value]
    if not values:
        raise TemplateError(f"label file {path} marks nothing: give one with at least one label")
    return values


def _as_text(segment: Label) -> str:
    """Write a segment as on the command line, with its own code where that is of the usual length."""
    code = segment.type
    usual = max(len(code.value), len(code.scheme)) <= _LONGEST_CODE
    written = f"{code.scheme}:{code.value}:{code.meaning}" if usual else _ANY_STRUCTURE
    name = " ".join(segment.name.replace(":", " - ").split())  # a colon ends the name there
    return f"{segment.value}={name}:{written}"
