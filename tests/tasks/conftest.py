"""A small CT series with two organs, and the same labels in every form that people bring."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

from fewshot_node.records import TaskKind
from fewshot_node.tasks.augment import AugmentSettings
from fewshot_node.tasks.codes import parse_label
from fewshot_node.tasks.task import TaskDefinition, TaskSettings
from fewshot_node.vision.adapters import AdapterSettings
from fewshot_node.vision.backbone import DenseEncoder, load_encoder
from fewshot_node.vision.encode import EncodeSettings

SHAPE = (20, 48, 40)
SPACING_MM = (2.5, 0.8, 0.9)
ORIGIN_LPS = (-15.0, 7.5, 100.0)


@dataclass(frozen=True)
class Example:
    """A series on disk, its arrays, and the affine (slice, row, column) -> LPS mm behind it."""

    folder: Path
    files: tuple[Path, ...]
    series_instance_uid: str
    array: NDArray[np.float32]
    labels: NDArray[np.uint8]
    affine: NDArray[np.float64]


def ball(centre: tuple[float, float, float], radius: float) -> NDArray[np.bool_]:
    grid = np.stack(np.meshgrid(*(np.arange(size) for size in SHAPE), indexing="ij"), -1)
    return np.asarray((((grid - centre) / [0.4, 1, 1]) ** 2).sum(-1) < radius**2)


def labels_and_image(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[ball((9, 20, 12), 9)] = 1
    labels[ball((11, 24, 31), 5)] = 3
    image = np.full(SHAPE, -900.0, dtype=np.float32)
    image[:, 4:-4, 3:-3] = 0
    image[labels == 1] = 110
    image[labels == 3] = -120
    image += np.random.default_rng(seed).normal(0, 8, SHAPE).astype(np.float32)
    return labels, np.rint(image).astype(np.float32)


def write_slice(path: Path, example: "Example", index: int, modality: str, study_uid: str) -> None:
    dataset = Dataset()
    dataset.SOPClassUID = CTImageStorage if modality == "CT" else MRImageStorage
    dataset.SOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study_uid, example.series_instance_uid
    dataset.FrameOfReferenceUID = study_uid + ".9"
    dataset.PatientID = dataset.PatientName = "Secret^Person"
    dataset.PatientBirthDate, dataset.PatientSex = "19500101", "O"
    dataset.StudyDate = dataset.StudyTime = dataset.AccessionNumber = dataset.StudyID = ""
    dataset.ReferringPhysicianName = dataset.Manufacturer = dataset.PositionReferenceIndicator = ""
    dataset.Modality, dataset.SeriesNumber, dataset.InstanceNumber = modality, 1, index + 1
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.ImagePositionPatient = [ORIGIN_LPS[0], ORIGIN_LPS[1], ORIGIN_LPS[2] + SPACING_MM[0] * index]
    dataset.PixelSpacing, dataset.SliceThickness = [SPACING_MM[1], SPACING_MM[2]], SPACING_MM[0]
    dataset.Rows, dataset.Columns = SHAPE[1:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 1
    dataset.RescaleIntercept, dataset.RescaleSlope = 0, 1
    dataset.PixelData = example.array[index].astype("<i2").tobytes()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(path, enforce_file_format=True)


@pytest.fixture(scope="session")
def make_example(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Example]:
    """Write a series; the seed makes the patient."""

    def make(seed: int = 0, modality: str = "CT", bright_end: bool = False) -> Example:
        folder = tmp_path_factory.mktemp("series")
        labels, image = labels_and_image(seed)
        if modality != "CT":
            image = image + 1000
        if bright_end:
            image[17:] = 3000
        affine = np.eye(4)
        affine[:3, :3] = [[0, 0, SPACING_MM[2]], [0, SPACING_MM[1], 0], [SPACING_MM[0], 0, 0]]
        affine[:3, 3] = ORIGIN_LPS
        files = tuple(folder / f"{index * 7 % SHAPE[0]:03d}.dcm" for index in range(SHAPE[0]))
        example = Example(folder, files, generate_uid(), image, labels, affine)
        study_uid = generate_uid()
        for index, path in enumerate(files):
            write_slice(path, example, index, modality, study_uid)
        return example

    return make


@pytest.fixture(scope="session")
def example(make_example: Callable[..., Example]) -> Example:
    return make_example()


@pytest.fixture(scope="session")
def save_nifti() -> Callable[..., Path]:
    """Write labels as NIfTI; `axes` and `flips` say how the file's voxels lie, the place in mm stays."""

    def save(
        path: Path,
        labels: NDArray[np.generic],
        affine_lps: NDArray[np.float64],
        axes: tuple[int, int, int] = (2, 1, 0),
        flips: tuple[bool, bool, bool] = (False, False, False),
    ) -> Path:
        matrix = affine_lps[:, [*axes, 3]].copy()
        stored = labels.transpose(axes)
        for axis, flipped in enumerate(flips):
            if flipped:
                matrix[:, 3] += matrix[:, axis] * (stored.shape[axis] - 1)
                matrix[:, axis] *= -1
                stored = np.flip(stored, axis)
        nib.save(nib.Nifti1Image(np.ascontiguousarray(stored), np.diag([-1, -1, 1, 1]) @ matrix), path)
        return path

    return save


@pytest.fixture(scope="session")
def nifti(example: Example, save_nifti: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_nifti(tmp_path_factory.mktemp("labels") / "labels.nii.gz", example.labels, example.affine)


@pytest.fixture(scope="session")
def save_seg() -> Callable[..., Path]:
    """Write labels as a DICOM Segmentation with highdicom: segments (name, code), values 1.. in order."""

    def save(path: Path, example: Example, labels: NDArray[np.uint8], segments: list[tuple[str, object]]) -> Path:
        described = [
            hd.seg.SegmentDescription(
                segment_number=number,
                segment_label=name,
                segmented_property_category=codes.SCT.AnatomicalStructure,
                segmented_property_type=code,
                algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
            )
            for number, (name, code) in enumerate(segments, 1)
        ]
        segmentation = hd.seg.Segmentation(
            source_images=[pydicom.dcmread(file) for file in example.files],
            pixel_array=labels,
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=described,
            series_instance_uid=generate_uid(),
            series_number=2,
            sop_instance_uid=generate_uid(),
            instance_number=1,
            manufacturer="test",
            manufacturer_model_name="test",
            software_versions="1",
            device_serial_number="1",
        )
        segmentation.save_as(path)
        return path

    return save


@pytest.fixture(scope="session")
def settings() -> TaskSettings:
    return TaskSettings(
        adapter=AdapterSettings(name="basic"),
        encode=EncodeSettings(input_px=64, precision="float32"),
        augment=AugmentSettings(count=0),
    )


@pytest.fixture(scope="session")
def definition(settings: TaskSettings) -> TaskDefinition:
    labels = (parse_label("1=Liver"), parse_label("3=Spleen"))
    return TaskDefinition("organs", kind=TaskKind.SEGMENTATION, labels=labels, settings=settings)


@pytest.fixture(scope="session")
def encoder() -> DenseEncoder:
    return load_encoder("embedded")
