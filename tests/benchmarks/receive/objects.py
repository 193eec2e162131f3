"""What is sent: CT images of half a megabyte, and one multi-frame object of any size."""

import struct
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian

UID_ROOT = "1.2.826.0.1.3680043.8.498.77"
STUDY_UID = f"{UID_ROOT}.1"
_FRAME_BYTES = 512 * 512 * 2


def series_uid(series: int) -> str:
    return f"{UID_ROOT}.2.{series}"


def write_series(folder: Path, series: int, count: int) -> Path:
    """Write `count` CT images of 0.5 MB (512 x 512 x 16 bit) to a folder of their own."""
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(series).integers(0, 4096, _FRAME_BYTES // 2, dtype=np.uint16)
    for number in range(1, count + 1):
        dataset = _image(CTImageStorage, f"{series_uid(series)}.{number}", series_uid(series))
        dataset.InstanceNumber = number
        dataset.PixelData = np.roll(pixels, number).tobytes()
        dataset.save_as(folder / f"{number:05}.dcm", enforce_file_format=True)
    return folder


def write_split(folder: Path, first_series: int, folders: int, total: int) -> list[Path]:
    """Write `total` images as so many series of equal length."""
    return [write_series(folder / str(number), first_series + number, total // folders) for number in range(folders)]


def write_multiframe(path: Path, series: int, megabytes: int) -> Path:
    """Write an Enhanced CT image, frame by frame."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = megabytes * 10**6 // _FRAME_BYTES
    dataset = _image(EnhancedCTImageStorage, f"{series_uid(series)}.1", series_uid(series))
    dataset.NumberOfFrames = frames
    dataset.SharedFunctionalGroupsSequence = Sequence([_functional_groups(None)])
    dataset.PerFrameFunctionalGroupsSequence = Sequence([_functional_groups(frame) for frame in range(frames)])
    dataset.save_as(path, enforce_file_format=True)
    block = np.random.default_rng(series).integers(0, 4096, _FRAME_BYTES // 2, dtype=np.uint16)
    with path.open("ab") as file:
        file.write(struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, frames * _FRAME_BYTES))
        for frame in range(frames):
            file.write(np.roll(block, frame).tobytes())
    return path


def _image(sop_class_uid: str, sop_instance_uid: str, series_instance_uid: str) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class_uid, sop_instance_uid
    dataset.Modality = "CT"
    dataset.PatientName, dataset.PatientID = "BENCH^MARK", "BENCH"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = STUDY_UID, series_instance_uid
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows = dataset.Columns = 512
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def _functional_groups(frame: int | None) -> Dataset:
    groups = Dataset()
    if frame is None:
        measures = Dataset()
        measures.PixelSpacing, measures.SliceThickness = [0.7, 0.7], 1.0
        groups.PixelMeasuresSequence = Sequence([measures])
    else:
        position = Dataset()
        position.ImagePositionPatient = [0.0, 0.0, float(frame)]
        groups.PlanePositionSequence = Sequence([position])
    return groups
