"""Which patients teach and which are asked: patients are never both (method, Scoring)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fewshot_node.errors import EvaluationError
from fewshot_node.evaluation.suites import Case, CaseData, Suite
from fewshot_node.records import TaskKind
from fewshot_node.tasks.points import LandmarkPoint
from fewshot_node.tasks.templates import Template

Unit = Literal["slice", "volume"]

_SAMPLED_VOXELS = 262_144
_UNIT_SPACING = (1.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Draw:
    """One random choice of teaching patients; all others are asked."""

    number: int
    teaching: tuple[str, ...]
    asked: tuple[str, ...]


def draws(suite: Suite, shots: int, count: int) -> Iterator[Draw]:
    """Yield `count` draws of `shots` teaching patients, the same for every method.

    Raises
    ------
    EvaluationError
        The suite has no patient left to ask.
    """
    patients = suite.patients
    if not 1 <= shots < len(patients):
        raise EvaluationError(
            f"{suite.name}: {shots} teaching patients of {len(patients)} leave none to ask; give fewer"
        )
    for number in range(count):
        order = np.random.default_rng([number, shots]).permutation(len(patients))
        teaching = tuple(patients[index] for index in order[:shots])
        yield Draw(number, teaching, tuple(patient for patient in patients if patient not in teaching))


def ceiling_draws(suite: Suite) -> Iterator[Draw]:
    """Yield the two draws of a ceiling: each half of the patients teaches the other.

    With every slice of half a suite as template, what is still missing is the features' and the head's limit,
    not the templates'.

    Raises
    ------
    EvaluationError
        There is only one patient.
    """
    patients = suite.patients
    if len(patients) < 2:
        raise EvaluationError(f"{suite.name}: a ceiling needs 2 patients, there is {len(patients)}; add one")
    order = np.random.default_rng(0).permutation(len(patients))
    middle = len(patients) // 2
    halves = [tuple(sorted(patients[index] for index in part)) for part in (order[:middle], order[middle:])]
    yield Draw(0, halves[0], halves[1])
    yield Draw(1, halves[1], halves[0])


def templates_of(suite: Suite, patient: str, unit: Unit, data: Sequence[tuple[Case, CaseData]]) -> list[Template]:
    """Return a patient's templates: the slice with most labels, or all slices.

    Of slices with as many labels, the one with most labelled pixels is taken.
    """
    own = [(case, one) for case, one in data if case.patient == patient]
    if unit == "volume":
        return [_template(suite, case, one, range(len(one.array))) for case, one in own]
    ranked = [(_richness(one, index), case, one, index) for case, one in own for index in range(len(one.array))]
    _, case, one, index = max(ranked, key=lambda entry: entry[0])
    return [_template(suite, case, one, [index])]


def _richness(data: CaseData, index: int) -> tuple[int, int]:
    labels = data.label_map[index]
    points = {value for value, place in data.points.items() if round(place[0]) == index}
    return len(points | set(np.unique(labels).tolist())), int((labels > 0).sum())


def _template(suite: Suite, case: Case, data: CaseData, indices: Sequence[int]) -> Template:
    chosen = list(indices)
    label_map = data.label_map[chosen]
    asked_about = np.isin(label_map, [label.value for label in suite.labels])
    points: tuple[LandmarkPoint, ...] = ()
    if suite.kind is TaskKind.LANDMARKS:
        points = tuple(point for place, index in enumerate(chosen) for point in _points(data, index, place))
        asked_about = np.zeros(label_map.shape, dtype=bool)
    return Template(
        name=f"{case.patient}-{case.name}",
        series_instance_uid=f"{case.patient}/{case.name}",
        modality=suite.modality,
        array=data.array[chosen],
        label_map=np.where(asked_about, label_map, 0).astype(np.uint8),
        intensity_sample=_sample(data),
        points=points,
        spacing_mm=data.spacing_mm or _UNIT_SPACING,
        orientation=None,
        slice_indices=tuple(chosen),
        instance_uids=tuple(str(index) for index in chosen),
    )


def _points(data: CaseData, index: int, place: int) -> Iterator[LandmarkPoint]:
    """Yield the landmarks of one slice: of a structure the middle on that slice, else the point itself."""
    labels = data.label_map[index]
    for value, centre in sorted(data.points.items()):
        if (labels == value).any():
            row, column = np.argwhere(labels == value).mean(axis=0).tolist()
            yield LandmarkPoint(value, place, row, column)
        elif round(centre[0]) == index and not (data.label_map == value).any():
            yield LandmarkPoint(value, place, centre[1], centre[2])


def _sample(data: CaseData) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Return voxels of the whole image, its least value among them."""
    flat = data.array.reshape(-1)
    return np.append(flat[:: max(1, flat.size // _SAMPLED_VOXELS)], flat.min()).astype(np.float32)
