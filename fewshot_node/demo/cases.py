"""What the demonstration teaches and what it pushes afterwards."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fewshot_node.evaluation.phantom_series import (
    PhantomSeries,
    write_labels_nifti,
    write_points_json,
    write_series,
)
from fewshot_node.evaluation.phantoms import Phantom, knee_mr, torso_ct
from fewshot_node.records import TaskKind


@dataclass(frozen=True, slots=True)
class Case:
    """One annotated series on disk; `truth` is NIfTI labels or JSON points."""

    files: tuple[Path, ...]
    series_instance_uid: str
    study_instance_uid: str
    truth: Path
    patient: str


@dataclass(frozen=True, slots=True)
class Lesson:
    """One task: what it is taught from, and what is pushed to it afterwards."""

    task: str
    kind: TaskKind
    labels: tuple[str, ...]
    rules: tuple[str, ...]
    templates: tuple[Case, ...]
    pushed: tuple[Case, ...]
    bar: float
    """Least mean IoU, or largest mean distance in mm, that counts as success."""


TORSO_LABELS = ("1=Liver", "2=Spleen", "3=Left kidney", "4=Right kidney")
TORSO_IOU = 0.60
KNEE_MM = 6.0
