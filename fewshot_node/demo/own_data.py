"""The demonstration on one's own series: five of its slices teach, the whole of it is scored."""

from dataclasses import dataclass
from pathlib import Path

from fewshot_node.demo.cases import Case, Lesson
from fewshot_node.dicom.headers import read_header
from fewshot_node.dicom.volume import read_volume
from fewshot_node.errors import TemplateError
from fewshot_node.records import ReceivedSeries, TaskKind
from fewshot_node.tasks.nifti import read_nifti_labels

_ANY_STRUCTURE = "SCT:91723000:Anatomical structure"


@dataclass(frozen=True, slots=True)
class OwnData:
    """A series and its annotation; `labels` are written as ``VALUE=NAME``, all of the file's if empty."""

    received: ReceivedSeries
    truth: Path
    labels: tuple[str, ...] = ()


def own_lesson(data: OwnData) -> Lesson:
    """Return the lesson that one annotated series makes; its bar is 0, because nobody knows a fair one.

    Raises
    ------
    TemplateError
        The label file holds no label.
    """
    files = data.received.files
    uid, study = data.received.key.series_instance_uid, data.received.study_instance_uid
    case = Case("own", uid, study, files, data.truth)
    if data.truth.suffix == ".json":
        kind, labels = TaskKind.LANDMARKS, data.labels
    else:
        kind, labels = TaskKind.SEGMENTATION, data.labels or _all_labels(data)
    if not labels:
        raise TemplateError(f"{data.truth} holds no label; name them with --label VALUE=NAME")
    modality = read_header(files).dataset.Modality
    bar = 0.0 if kind is TaskKind.SEGMENTATION else float("inf")
    return Lesson("own-task", kind, labels, (f"Modality={modality}",), (case,), (case,), bar)


def _all_labels(data: OwnData) -> tuple[str, ...]:
    label_map = read_nifti_labels(data.truth, read_volume(data.received.files))
    values = sorted(set(label_map[label_map > 0].tolist()))
    return tuple(f"{value}=label {value}:{_ANY_STRUCTURE}" for value in values)
