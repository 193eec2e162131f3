"""What was said of left-out examples, kept for the page."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from fewshot_node.disk import whole_file
from fewshot_node.errors import TaskError
from fewshot_node.records import LabelArray, Landmark
from fewshot_node.scoring.answers import Prediction

ANSWERS_FILE = "crossval.safetensors"
_BETWEEN = "/"  # in no template's name


@dataclass(frozen=True, slots=True, eq=False)
class LeftOutAnswer:
    """One answer; masks are compressed, for a crossvalidation holds many of them.

    Attributes
    ----------
    unsure
        uint8 (slices, h, w) on the feature grid, see `asking.Seen.unsure`.
    """

    shape: tuple[int, ...]
    packed: bytes
    landmarks: tuple[Landmark, ...]
    unsure: NDArray[np.uint8]

    @classmethod
    def keep(cls, prediction: Prediction, unsure: NDArray[np.uint8]) -> "LeftOutAnswer":
        """Take what is to be kept of a prediction."""
        packed = zlib.compress(prediction.label_map.tobytes(), 1)
        return cls(prediction.label_map.shape, packed, prediction.landmarks, unsure)

    @property
    def label_map(self) -> LabelArray:
        """uint8 (slices, rows, columns)."""
        return np.frombuffer(zlib.decompress(self.packed), dtype=np.uint8).reshape(self.shape)


Answers = Mapping[tuple[str, str], LeftOutAnswer]
"""By the names of the unit and the template."""


def save_answers(draft: Path, answers: Answers) -> None:
    """Write answers beside a draft."""
    arrays: dict[str, NDArray[Any]] = {}
    for (unit, template), one in answers.items():
        key = f"{unit}{_BETWEEN}{template}{_BETWEEN}"
        arrays[f"{key}shape"] = np.array(one.shape, dtype=np.int64)
        arrays[f"{key}packed"] = np.frombuffer(one.packed, dtype=np.uint8)
        arrays[f"{key}landmarks"] = np.array([_row(landmark) for landmark in one.landmarks], dtype=np.float32)
        arrays[f"{key}unsure"] = np.ascontiguousarray(one.unsure)
    with whole_file(draft / ANSWERS_FILE) as path:
        save_file(arrays, path)


def load_answers(draft: Path) -> Answers:
    """Read what `save_answers` wrote; nothing where there is no such file.

    Raises
    ------
    TaskError
        The file cannot be read.
    """
    path = draft / ANSWERS_FILE
    if not path.is_file():
        return {}
    try:
        arrays = load_file(path)
        names = {name.rpartition(_BETWEEN)[0] for name in arrays}
        return {_parts(name): _answer(arrays, f"{name}{_BETWEEN}") for name in sorted(names)}
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise TaskError(f"{path} cannot be read: run task crossval again") from error


def _parts(name: str) -> tuple[str, str]:
    unit, _, template = name.partition(_BETWEEN)
    return unit, template


def _answer(arrays: Mapping[str, NDArray[Any]], key: str) -> LeftOutAnswer:
    return LeftOutAnswer(
        shape=tuple(arrays[f"{key}shape"].tolist()),
        packed=arrays[f"{key}packed"].tobytes(),
        landmarks=tuple(_landmark(row) for row in arrays[f"{key}landmarks"]),
        unsure=arrays[f"{key}unsure"],
    )


def _row(landmark: Landmark) -> tuple[float, ...]:
    return landmark.label_value, landmark.confidence, *(landmark.index or (np.nan,) * 3)


def _landmark(row: NDArray[np.float32]) -> Landmark:
    value, confidence, *index = (float(number) for number in row)
    place = None if np.isnan(index[0]) else (index[0], index[1], index[2])
    return Landmark(int(value), place, confidence)
