"""Series, results and checks for the tests of volumes, SEG, SR and delivery."""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
)

from fewshot_node.dicom.objects.conformance import Origin
from fewshot_node.dicom.objects.volume import read_sources, read_volume
from fewshot_node.records import (
    AlgorithmIdentity,
    Code,
    Label,
    Result,
    StructureFinding,
    TaskKind,
    Volume,
)
from fewshot_node.uids import ResultUids

ROOT = "1.2.826.0.1.3680043.8.498.77"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
OBLIQUE = (0.8, 0.6, 0.0, -0.36, 0.48, -0.8)
PATIENT = {"PatientName": "SECRET^PERSON", "PatientID": "SECRET-ID", "PatientBirthDate": "19010203"}


@dataclass(frozen=True)
class SeriesSpec:
    """What a test series looks like; stored pixels hold 1000 * slice + 20 * row + column."""

    slices: int = 6
    rows: int = 16
    columns: int = 12
    spacing: tuple[float, float, float] = (3.0, 0.8, 0.7)
    cosines: tuple[float, ...] = AXIAL
    origin: tuple[float, float, float] = (-40.0, 25.5, 110.25)
    modality: str = "CT"
    reverse: bool = False
    frame_of_reference: bool = True
    multi_frame: bool = False
    changes: dict[str, Any] = field(default_factory=dict)
    slice_changes: dict[int, dict[str, Any]] = field(default_factory=dict)

    def position(self, index: int) -> np.ndarray:
        normal = np.cross(self.cosines[:3], self.cosines[3:])
        return np.array(self.origin) + normal * self.spacing[0] * index

    def stored(self, index: int) -> np.ndarray:
        rows, columns = np.mgrid[: self.rows, : self.columns]
        return (1000 * index + 20 * rows + columns).astype(np.uint16)


def _common(spec: SeriesSpec) -> Dataset:
    dataset = Dataset()
    for keyword, value in PATIENT.items():
        setattr(dataset, keyword, value)
    dataset.PatientSex = "O"
    dataset.StudyInstanceUID = f"{ROOT}.1"
    dataset.SeriesInstanceUID = f"{ROOT}.2"
    if spec.frame_of_reference:
        dataset.FrameOfReferenceUID = f"{ROOT}.3"
        dataset.PositionReferenceIndicator = ""
    dataset.StudyDate, dataset.StudyTime = "20240102", "101112"
    dataset.AcquisitionDate, dataset.AcquisitionTime = "20240102", "102030.5"
    dataset.AccessionNumber = "A1"
    dataset.StudyID = "S1"
    dataset.ReferringPhysicianName = ""
    dataset.SeriesNumber = 4
    dataset.Modality = spec.modality
    dataset.Manufacturer = "maker"
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = spec.rows, spec.columns
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 0
    return dataset


def _save(dataset: Dataset, path: Path) -> Path:
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.save_as(path, enforce_file_format=True)
    return path


def _apply(dataset: Dataset, changes: dict[str, Any]) -> None:
    for keyword, value in changes.items():
        if value is None:
            if keyword in dataset:
                delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)


def _write_single_frames(spec: SeriesSpec, folder: Path) -> list[Path]:
    paths = []
    order = list(range(spec.slices))
    for number, index in enumerate(reversed(order) if spec.reverse else order, 1):
        dataset = _common(spec)
        dataset.SOPClassUID = CTImageStorage if spec.modality == "CT" else MRImageStorage
        dataset.SOPInstanceUID = f"{ROOT}.4.{(number * 7) % 101}"  # sorted UIDs are not sorted slices
        dataset.InstanceNumber = number
        dataset.ImagePositionPatient = [f"{value:.6f}" for value in spec.position(index)]
        dataset.ImageOrientationPatient = [str(value) for value in spec.cosines]
        dataset.PixelSpacing = [str(value) for value in spec.spacing[1:]]
        dataset.SliceThickness = str(spec.spacing[0])
        dataset.RescaleSlope, dataset.RescaleIntercept = "1", "-1024"
        dataset.PixelData = spec.stored(index).tobytes()
        _apply(dataset, spec.changes)
        _apply(dataset, spec.slice_changes.get(index, {}))
        paths.append(_save(dataset, folder / f"{number:03d}.dcm"))
    return paths


def _item(**values: Any) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def _write_multi_frame(spec: SeriesSpec, folder: Path) -> list[Path]:
    dataset = _common(spec)
    dataset.SOPClassUID = EnhancedMRImageStorage
    dataset.SOPInstanceUID = f"{ROOT}.5"
    dataset.InstanceNumber = 1
    dataset.NumberOfFrames = spec.slices
    dataset.SharedFunctionalGroupsSequence = [
        _item(
            PlaneOrientationSequence=[_item(ImageOrientationPatient=list(spec.cosines))],
            PixelMeasuresSequence=[_item(PixelSpacing=list(spec.spacing[1:]), SliceThickness=spec.spacing[0])],
        )
    ]
    order = list(range(spec.slices))
    order = order[::-1] if spec.reverse else order
    dataset.PerFrameFunctionalGroupsSequence = [
        _item(
            FrameContentSequence=[_item(StackID="1", InStackPositionNumber=number)],
            PlanePositionSequence=[_item(ImagePositionPatient=[f"{value:.6f}" for value in spec.position(index)])],
            PixelValueTransformationSequence=[
                _item(RescaleSlope=str(1 + index), RescaleIntercept="-1024", RescaleType="US")
            ],
        )
        for number, index in enumerate(order, 1)
    ]
    dataset.PixelData = b"".join(spec.stored(index).tobytes() for index in order)
    _apply(dataset, spec.changes)
    return [_save(dataset, folder / "multi.dcm")]


CORRECTIONS = pytest.mark.parametrize(
    "change",
    [
        {"PatientName": "CORRECTED^PERSON"},
        {"PatientID": "CORRECTED"},
        {"PatientBirthDate": "19020304"},
        {"AccessionNumber": "A2"},
        {"StudyInstanceUID": "1.2.3.4"},
        {"StudyDate": "20240103"},
        {"AcquisitionTime": "112030.5"},
        {"SpecificCharacterSet": "ISO_IR 100"},
        {"SeriesNumber": 5},
    ],
    ids=str,
)
"""Corrected headers of the source, each of which makes another result."""


@pytest.fixture
def spec() -> SeriesSpec:
    return SeriesSpec()


@pytest.fixture
def write_series(tmp_path: Path) -> Callable[..., list[Path]]:
    """Write a series by its specification, changed by keywords; give its files."""

    def write(spec: SeriesSpec, name: str = "series", **changes: Any) -> list[Path]:
        return write_files(replace(spec, **changes), tmp_path / name)

    return write


def write_files(spec: SeriesSpec, folder: Path) -> list[Path]:
    """Write a series by its specification into a new folder."""
    folder.mkdir()
    return (_write_multi_frame if spec.multi_frame else _write_single_frames)(spec, folder)


@pytest.fixture(
    params=[
        "axial",
        "reversed",
        "sagittal",
        "oblique",
        "no-frame-of-reference",
        "single-slice",
        "mr",
        "multi-frame",
        "multi-frame-reversed-oblique",
        "multi-frame-no-frame-of-reference",
    ]
)
def any_spec(request: pytest.FixtureRequest) -> SeriesSpec:
    """Every kind of geometry that a source may have."""
    multi: dict[str, Any] = {"multi_frame": True, "modality": "MR"}
    kinds: dict[str, dict[str, Any]] = {
        "axial": {},
        "reversed": {"reverse": True},
        "sagittal": {"cosines": SAGITTAL},
        "oblique": {"cosines": OBLIQUE},
        "no-frame-of-reference": {"frame_of_reference": False},
        "single-slice": {"slices": 1},
        "mr": {"modality": "MR"},
        "multi-frame": multi,
        "multi-frame-reversed-oblique": {**multi, "reverse": True, "cosines": OBLIQUE},
        "multi-frame-no-frame-of-reference": {**multi, "frame_of_reference": False},
    }
    return SeriesSpec(**kinds[request.param])


ANATOMY = Code("91723000", "SCT", "Anatomical Structure")
LIVER = Label(1, "liver", ANATOMY, Code("10200004", "SCT", "Liver"))
KIDNEY = Label(7, "left kidney", ANATOMY, Code("64033007", "SCT", "Kidney"), Code("818983003", "SCT", "Abdomen"))
SPLEEN = Label(12, "spleen", ANATOMY, Code("78961009", "SCT", "Spleen"))


@dataclass(frozen=True)
class Case:
    """A volume, its sources, and what a task said about it."""

    files: list[Path]
    volume: Volume
    sources: list[Dataset]
    result: Result
    uids: ResultUids

    def origin(self, *companions: Dataset) -> Origin:
        """What the gate holds this case's objects against."""
        return Origin(self.volume, self.sources, self.result, companions)


def _findings(volume: Volume, kind: TaskKind, label_map: np.ndarray) -> tuple[StructureFinding, ...]:
    if kind is TaskKind.SEGMENTATION:
        return tuple(
            StructureFinding(
                label,
                bool((label_map == label.value).any()),
                0.875 if (label_map == label.value).any() else 0.1,
                float((label_map == label.value).sum() * volume.voxel_mm3) or None,
            )
            for label in (SPLEEN, LIVER, KIDNEY)
        )
    index = (len(volume.array) - 1) * 0.5, 4.25, 7.75
    x, y, z = (float(value) for value in volume.to_mm(np.array(index)))
    return (
        StructureFinding(LIVER, True, 0.875, None, (x, y, z), index),
        StructureFinding(SPLEEN, False, 0.1),
    )


@pytest.fixture
def make_case() -> Callable[..., Case]:
    """Read files and make a result on them: liver and kidney found, spleen not."""
    return case_of


def case_of(files: list[Path], kind: TaskKind = TaskKind.SEGMENTATION, empty: bool = False) -> Case:
    """Read files and make a result on them: liver and kidney found, spleen not."""
    volume = read_volume(files)
    sources = read_sources(files, volume)
    label_map = np.zeros(volume.array.shape, dtype=np.uint8)
    if not empty:
        label_map[: max(1, len(label_map) // 2), 2:9, 3:8] = LIVER.value
        label_map[len(label_map) // 3 :, 10:14, 1:4] = KIDNEY.value
    result = Result(
        task_name="abdomen",
        task_revision=3,
        kind=kind,
        findings=_findings(volume, kind, label_map),
        label_map=label_map if kind is TaskKind.SEGMENTATION else None,
        algorithm=AlgorithmIdentity("fewshot abdomen", "0.1.0", ("task_revision=3", "adapter=basic")),
    )
    return Case(files, volume, sources, result, _uids(volume, sources))


def _uids(volume: Volume, sources: list[Dataset]) -> ResultUids:
    uids = tuple(str(source.SOPInstanceUID) for source in sources)
    return ResultUids(uids, volume.digest(), "abdomen", "task-digest", "weights", "0.1.0")


@pytest.fixture
def save(tmp_path: Path) -> Callable[[Dataset, str], Path]:
    def write(dataset: Dataset, name: str) -> Path:
        path = tmp_path / name
        dataset.save_as(path, enforce_file_format=True)
        return path

    return write


@pytest.fixture
def dciodvfy_errors(require_tool: Callable[[str], str]) -> Callable[[Path], list[str]]:
    """Give the lines in which dicom3tools' validator finds an error."""
    tool = require_tool("dciodvfy")

    def run(path: Path) -> list[str]:
        done = subprocess.run([tool, str(path)], check=False, capture_output=True, text=True, timeout=60)
        lines = (done.stdout + done.stderr).splitlines()
        assert lines, "dciodvfy said nothing"
        return [line for line in lines if "Error" in line]

    return run
