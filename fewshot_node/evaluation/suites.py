"""Annotated images of many patients, read from a suite's folder.

``suite.toml`` says modality, kind (``segmentation``, ``landmarks``), dimension (``slice``, ``volume``) and
labels; ``cases/<patient>/<case>.image.png|nii.gz`` lies beside ``<case>.labels.png|nii.gz`` (label values) or
``<case>.points.json`` (``{label value: [column, row]}`` in pixels of the image; a missing point is absent).
"""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import nrrd
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fewshot_node.errors import EvaluationError
from fewshot_node.records import Code, Label, LabelArray, TaskKind

ANATOMICAL_STRUCTURE = Code("91723000", "SCT", "Anatomical Structure")
_IMAGE_ENDS = (".image.png", ".image.nii.gz")


@dataclass(frozen=True, slots=True, eq=False)
class CaseData:
    """One image with its truth.

    Attributes
    ----------
    array
        float32 (slices, rows, columns).
    label_map
        uint8, the same shape; for landmarks the structures whose centres they are, as far as they are known.
    points
        Label value -> fractional (slice, row, column) for landmarks.
    spacing_mm
        Along slices, rows and columns; None when the file does not say.
    """

    array: NDArray[np.float32]
    label_map: LabelArray
    points: Mapping[int, tuple[float, float, float]]
    spacing_mm: tuple[float, float, float] | None


@dataclass(frozen=True, slots=True)
class Case:
    """Where one image of one patient lies.

    Attributes
    ----------
    truth
        File of label values or points; the folder of `masks` where each label has a file of its own.
    masks
        Label value and file of each; where masks overlap, the later one has the voxel.
    """

    patient: str
    name: str
    image: Path
    truth: Path
    masks: tuple[tuple[int, Path], ...] = ()

    def load(self) -> CaseData:
        """Read image and truth.

        Raises
        ------
        EvaluationError
            A file cannot be read, or the two differ in shape.
        """
        array, spacing_mm = read_array(self.image)
        if self.truth.suffix == ".json":
            none = np.zeros(array.shape, np.uint8)
            return CaseData(array.astype(np.float32), none, _read_points(self.truth), spacing_mm)
        labels = self._merged(array.shape) if self.truth.is_dir() else _alike(self.truth, array.shape)
        return CaseData(array.astype(np.float32), labels.astype(np.uint8), {}, spacing_mm)

    def _merged(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        labels = np.zeros(shape, dtype=np.uint8)
        for value, path in self.masks:
            labels[_alike(path, shape) > 0] = value
        return labels


@dataclass(frozen=True, slots=True)
class Suite:
    """What a suite's folder holds; cases sorted by patient and name."""

    name: str
    modality: str
    kind: TaskKind
    is_volume: bool
    labels: tuple[Label, ...]
    cases: tuple[Case, ...]

    @property
    def patients(self) -> tuple[str, ...]:
        """Every patient once, sorted."""
        return tuple(sorted({case.patient for case in self.cases}))


class _LabelEntry(BaseModel):
    model_config = ConfigDict(extra="ignore")
    value: int = Field(ge=1, le=254)
    name: str
    sct: str = ""
    meaning: str = ""


class _SuiteFile(BaseModel):
    model_config = ConfigDict(extra="ignore")
    name: str
    modality: str
    kind: TaskKind
    dimension: str = Field(pattern="^(slice|volume)$")
    label: list[_LabelEntry] = Field(min_length=1)


def read_suite(folder: Path) -> Suite:
    """Read a suite's description and list its cases.

    Raises
    ------
    EvaluationError
        Names the file and what is wrong with it.
    """
    stated = _read_description(folder / "suite.toml")
    cases = _list_cases(folder / "cases", stated.kind)
    if not cases:
        raise EvaluationError(f"{folder}: no case; put images into cases/<patient>/<case>.image.png or .image.nii.gz")
    labels = tuple(_label(entry) for entry in stated.label)
    return Suite(stated.name, stated.modality, stated.kind, stated.dimension == "volume", labels, cases)


def _read_description(path: Path) -> _SuiteFile:
    try:
        return _SuiteFile.model_validate(tomllib.loads(path.read_text()))
    except OSError as error:
        raise EvaluationError(f"{path}: cannot be read ({error.strerror}); give the folder of a suite") from error
    except tomllib.TOMLDecodeError as error:
        raise EvaluationError(f"{path}: no valid TOML ({error}); correct it") from error
    except ValidationError as error:
        first: Any = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise EvaluationError(f"{path}: {key}: {first['msg']}; correct it") from error


def _label(entry: _LabelEntry) -> Label:
    kind = Code(entry.sct, "SCT", entry.meaning or entry.name) if entry.sct else ANATOMICAL_STRUCTURE
    return Label(entry.value, entry.name, ANATOMICAL_STRUCTURE, kind)


def _list_cases(folder: Path, kind: TaskKind) -> tuple[Case, ...]:
    cases = []
    for image in sorted(path for path in folder.glob("*/*") if path.name.endswith(_IMAGE_ENDS)):
        stem, end = image.name.split(".image.", maxsplit=1)
        truth = image.with_name(f"{stem}.points.json" if kind is TaskKind.LANDMARKS else f"{stem}.labels.{end}")
        if not truth.is_file():
            raise EvaluationError(f"{image}: no {truth.name} beside it; add the truth or remove the image")
        cases.append(Case(image.parent.name, stem, image, truth))
    return tuple(cases)


def _alike(path: Path, shape: tuple[int, ...]) -> NDArray[Any]:
    """Read labels that must have an image's shape."""
    labels, _ = read_array(path)
    if labels.shape != shape:
        raise EvaluationError(f"{path}: {labels.shape}, but its image is {shape}: export both alike")
    return labels


def read_array(path: Path) -> tuple[NDArray[Any], tuple[float, float, float] | None]:
    """Return (slices, rows, columns) and the spacing; a picture is one slice without spacing.

    Raises
    ------
    EvaluationError
        The file is not there or holds no such image.
    """
    try:
        if path.suffix == ".png":
            with Image.open(path) as picture:
                return np.asarray(picture)[None], None
        if path.suffix == ".nrrd":
            return _read_nrrd(path)
        loaded: Any = nibabel.load(path)
        columns_mm, rows_mm, slices_mm = (float(size) for size in loaded.header.get_zooms()[:3])
        return np.asarray(loaded.dataobj).transpose(2, 1, 0), (slices_mm, rows_mm, columns_mm)
    except (OSError, ValueError, nibabel.filebasedimages.ImageFileError, nrrd.NRRDError) as error:
        raise EvaluationError(f"{path}: cannot be read as an image; export it again") from error


def _read_nrrd(path: Path) -> tuple[NDArray[Any], tuple[float, float, float]]:
    array, header = nrrd.read(str(path))
    columns_mm, rows_mm, slices_mm = (float(size) for size in np.linalg.norm(header["space directions"], axis=1)[-3:])
    # A segmentation may come with layers as its first axis; masks of one structure have one.
    flat = array[0] if array.ndim == 4 else array
    return flat.transpose(2, 1, 0), (slices_mm, rows_mm, columns_mm)


def _read_points(path: Path) -> dict[int, tuple[float, float, float]]:
    try:
        stored = json.loads(path.read_text())
        return {int(value): (0.0, float(row), float(column)) for value, (column, row) in stored.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise EvaluationError(f'{path}: no points; expected {{"label value": [column, row]}}') from error
