"""The demonstration on one's own series: five of its slices teach, the whole of it is scored."""

from dataclasses import dataclass
from pathlib import Path

from fewshot_node.demo.cases import Case, Lesson
from fewshot_node.dicom.objects.headers import read_header
from fewshot_node.dicom.objects.volume import read_volume
from fewshot_node.errors import TemplateError
from fewshot_node.records import ReceivedSeries, TaskKind
from fewshot_node.tasks.annotations import Annotation, Region, Target, read_annotation

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
    """Return the lesson that one annotated series makes; its annotation has any format that templates may have.

    Raises
    ------
    TemplateError
        The label file cannot be read, holds no label, or its landmarks are not named.
    """
    files = data.received.files
    uid, study = data.received.key.series_instance_uid, data.received.study_instance_uid
    case = Case("own", uid, study, files, data.truth)
    annotation = read_annotation(Target(data.truth, read_volume(files)))
    if annotation.points and not annotation.regions:
        kind, bar, labels = TaskKind.LANDMARKS, OWN_MM, data.labels
    else:
        kind, bar, labels = TaskKind.SEGMENTATION, OWN_IOU, data.labels or _all_labels(annotation, data.truth)
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


def _all_labels(annotation: Annotation, path: Path) -> tuple[str, ...]:
    if not annotation.regions:
        raise TemplateError(f"label file {path} marks nothing: give one with at least one label")
    return tuple(_as_text(region, value) for value, region in enumerate(annotation.regions, 1))


def _as_text(region: Region, value: int) -> str:
    """Write a region as on the command line, with its own code where that is of the usual length."""
    code = region.type
    usual = code is not None and max(len(code.value), len(code.scheme)) <= _LONGEST_CODE
    written = f"{code.scheme}:{code.value}:{code.meaning}" if code is not None and usual else _ANY_STRUCTURE
    if not region.names:
        return f"{region.number}=label {region.number}:{written}"
    name = " ".join(region.names[0].replace(":", " - ").split())  # a colon ends the name there
    return f"{value}={name}:{written}"
