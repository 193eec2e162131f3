"""Phantoms as multi-slice DICOM series, and their truth as label files."""

import json
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, MRImageStorage

from fewshot_node.evaluation.phantom_records import Phantom
from fewshot_node.uids import derive_uid

_STUDY_DATE, _STUDY_TIME = "20240102", "030405"
_CT_INTERCEPT = -1024


@dataclass(frozen=True, slots=True)
class PhantomSeries:
    """A phantom as it lies on disk; `files` are in the order of the phantom's slices."""

    folder: Path
    study_instance_uid: str
    series_instance_uid: str
    files: tuple[Path, ...]


def write_series(
    phantom: Phantom, folder: Path, *, patient_index: int, compress: str | None = None, salt: str = ""
) -> PhantomSeries:
    """Write a phantom as CT or MR Image Storage instances, one a slice.

    Parameters
    ----------
    phantom
        What to write; CT gets a modality LUT (PS3.3 C.8.2.1), MR is written as it is.
    folder
        Folder for the files; made if it is absent. File names do not follow the order of the slices.
    patient_index
        Number of the invented patient, in name and identifier.
    compress
        Transfer Syntax UID to compress the pixels to, for example pydicom's ``JPEG2000Lossless``.
    salt
        Any other text makes it another study with other UIDs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    identity = _Identity(phantom, patient_index, salt)
    files = []
    for index in range(len(phantom.array)):
        instance = _instance(phantom, identity, index)
        if compress is not None:
            instance.compress(UID(compress), generate_instance_uid=False)
        path = folder / f"{instance.SOPInstanceUID}.dcm"
        instance.save_as(path, enforce_file_format=True)
        files.append(path)
    return PhantomSeries(folder, identity.uid("study"), identity.uid("series"), tuple(files))


def write_labels_nifti(phantom: Phantom, path: Path) -> None:
    """Write the label map as NIfTI: axes (column, row, slice), affine to RAS mm."""
    columns_first = phantom.affine[:, [2, 1, 0, 3]]
    ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ columns_first
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(phantom.label_map.transpose(2, 1, 0), ras)  # type: ignore[no-untyped-call]
    image.header.set_xyzt_units("mm")  # type: ignore[no-untyped-call]
    nib.save(image, path)


def write_points_json(phantom: Phantom, path: Path) -> None:
    """Write the landmarks as ``{"landmarks": {name: {"position_mm": [x, y, z]}}}``, LPS mm."""
    landmarks = {name: {"position_mm": list(place)} for name, place in phantom.landmarks.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"landmarks": landmarks}, indent=2) + "\n", encoding="utf-8")


@dataclass(frozen=True, slots=True)
class _Identity:
    """One method for each UID role of a phantom's series."""

    phantom: Phantom
    patient_index: int
    salt: str

    def uid(self, role: str, *extra: str) -> str:
        """UID for a role, derived from everything that decides the content."""
        return derive_uid(
            f"phantom-{role}",
            self.phantom.kind,
            str(self.phantom.seed),
            repr(self.phantom.settings),
            str(self.patient_index),
            self.salt,
            *extra,
        )


def _instance(phantom: Phantom, identity: _Identity, index: int) -> Dataset:
    instance = Dataset()
    instance.SOPClassUID = CTImageStorage if phantom.modality == "CT" else MRImageStorage
    instance.SOPInstanceUID = identity.uid("instance", str(index))
    instance.InstanceNumber = index + 1
    _add_patient_and_study(instance, phantom, identity)
    _add_series(instance, phantom, identity)
    _add_plane(instance, phantom, index)
    if phantom.modality == "CT":
        _add_ct(instance)
    else:
        _add_mr(instance, phantom)
    _add_pixels(instance, phantom.array[index])
    instance.file_meta = FileMetaDataset()
    instance.file_meta.MediaStorageSOPClassUID = instance.SOPClassUID
    instance.file_meta.MediaStorageSOPInstanceUID = instance.SOPInstanceUID
    instance.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return instance


def _add_patient_and_study(instance: Dataset, phantom: Phantom, identity: _Identity) -> None:
    kind = phantom.kind.upper()
    instance.PatientName = f"PHANTOM^{kind} {identity.patient_index:02d}"
    instance.PatientID = f"PHANTOM-{kind}-{identity.patient_index:02d}"
    instance.PatientBirthDate = "19610713"
    instance.PatientSex = "O"
    instance.StudyInstanceUID = identity.uid("study")
    instance.StudyID = str(identity.patient_index)
    instance.StudyDate = instance.SeriesDate = instance.ContentDate = instance.AcquisitionDate = _STUDY_DATE
    instance.StudyTime = instance.SeriesTime = instance.ContentTime = instance.AcquisitionTime = _STUDY_TIME
    instance.StudyDescription = f"Phantom {phantom.kind}"
    instance.ReferringPhysicianName = ""
    instance.AccessionNumber = ""


def _add_series(instance: Dataset, phantom: Phantom, identity: _Identity) -> None:
    ct = phantom.modality == "CT"
    instance.Modality = phantom.modality
    instance.SeriesInstanceUID = identity.uid("series")
    instance.SeriesNumber = 1
    instance.AcquisitionNumber = 1
    instance.BodyPartExamined = "ABDOMEN" if ct else "KNEE"
    instance.ProtocolName = "ABDOMEN ROUTINE" if ct else "KNEE SAGITTAL PD"
    instance.SeriesDescription = "Torso axial 5.0" if ct else "PD sagittal knee"
    instance.PatientPosition = "HFS" if ct else "FFS"
    if phantom.laterality:
        instance.Laterality = phantom.laterality
    instance.FrameOfReferenceUID = identity.uid("frame-of-reference")
    instance.PositionReferenceIndicator = ""
    instance.Manufacturer = "fewshot-node"
    instance.ManufacturerModelName = "phantom"
    instance.DeviceSerialNumber = "0"
    instance.SoftwareVersions = "1"


def _add_plane(instance: Dataset, phantom: Phantom, index: int) -> None:
    """Image Plane Module (PS3.3 C.7.6.2): first the direction of a row, then that of a column."""
    slice_mm, row_mm, column_mm = np.linalg.norm(phantom.affine[:3, :3], axis=0)
    position = phantom.affine @ [index, 0, 0, 1]
    orientation = np.concatenate([phantom.affine[:3, 2] / column_mm, phantom.affine[:3, 1] / row_mm])
    instance.ImagePositionPatient = _decimals(position[:3])
    instance.ImageOrientationPatient = _decimals(orientation)
    instance.PixelSpacing = _decimals(np.array([row_mm, column_mm]))
    instance.SliceThickness = instance.SpacingBetweenSlices = _decimals(np.array([slice_mm]))[0]
    instance.SliceLocation = _decimals(np.array([index * slice_mm]))[0]


def _decimals(values: NDArray[np.float64]) -> list[str]:
    """Values as Decimal Strings of at most 16 characters (PS3.5 6.2)."""
    return [f"{value + 0.0:.10f}"[:16].rstrip("0").rstrip(".") for value in values]


def _add_ct(instance: Dataset) -> None:
    instance.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    instance.RescaleIntercept = _CT_INTERCEPT
    instance.RescaleSlope = 1
    instance.RescaleType = "HU"
    instance.KVP = 120
    instance.ConvolutionKernel = "SOFT"
    instance.WindowCenter, instance.WindowWidth = 40, 400


def _add_mr(instance: Dataset, phantom: Phantom) -> None:
    instance.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
    instance.ScanningSequence = "SE"
    instance.SequenceVariant = "SK"
    instance.ScanOptions = ""
    instance.MRAcquisitionType = "2D"
    instance.RepetitionTime = 2800
    instance.EchoTime = 30
    instance.EchoTrainLength = 7
    instance.MagneticFieldStrength = 1.5
    top = float(np.percentile(phantom.array, 99.5))
    instance.WindowCenter, instance.WindowWidth = round(top / 2), max(round(top), 1)


def _add_pixels(instance: Dataset, plane: NDArray[np.float32]) -> None:
    """Image Pixel Module (PS3.3 C.7.6.3): 16 bit allocated, 12 stored, unsigned."""
    stored = np.round(plane) - (_CT_INTERCEPT if instance.Modality == "CT" else 0)
    instance.SamplesPerPixel = 1
    instance.PhotometricInterpretation = "MONOCHROME2"
    instance.Rows, instance.Columns = plane.shape
    instance.BitsAllocated, instance.BitsStored, instance.HighBit = 16, 12, 11
    instance.PixelRepresentation = 0
    instance.PixelData = np.clip(stored, 0, 4095).astype("<u2").tobytes()
