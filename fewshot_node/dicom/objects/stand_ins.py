"""Stand-ins for source images: their references and geometry without any identifier.

highdicom copies attributes from "source images" and quotes some of them in warnings; it is therefore given these.
"""

from collections.abc import Sequence
from copy import deepcopy

import highdicom as hd
from pydicom.dataset import Dataset
from pydicom.valuerep import format_number_as_ds

from fewshot_node.records import Volume

_EMPTY_ATTRIBUTES = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)
"""Type 2 attributes that highdicom reads; absent ones are added empty (PS3.5 7.4.3)."""

_COPIED_ATTRIBUTES = (
    "Modality",
    "PositionReferenceIndicator",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
    "Manufacturer",
    "ManufacturerModelName",
)


def stand_ins(sources: Sequence[Dataset], volume: Volume) -> list[Dataset]:
    """Return what highdicom needs of the sources, in slice order, without identifiers.

    A series without a stated Frame of Reference gets the volume's derived one; a multi-frame instance
    gets functional groups with the volume's geometry, frame by frame.
    """
    if len(sources) == 1 and volume.frames[0].frame_number is not None:
        return [_multi_frame_stand_in(sources[0], volume)]
    common = _common_stand_in(sources[0], volume)
    return [_single_frame_stand_in(source, common) for source in sources]


def _base_stand_in(source: Dataset, volume: Volume) -> Dataset:
    stand_in = Dataset()
    for keyword in _EMPTY_ATTRIBUTES:
        setattr(stand_in, keyword, "")
    for keyword in _COPIED_ATTRIBUTES:
        if keyword in source:
            stand_in[keyword] = deepcopy(source[keyword])
    stand_in.SOPClassUID = source.SOPClassUID
    stand_in.SOPInstanceUID = source.SOPInstanceUID
    stand_in.StudyInstanceUID = volume.study_instance_uid
    stand_in.SeriesInstanceUID = volume.series_instance_uid
    stand_in.FrameOfReferenceUID = volume.frame_of_reference_uid
    stand_in.Rows, stand_in.Columns = volume.array.shape[1:]
    return stand_in


def _common_stand_in(first: Dataset, volume: Volume) -> Dataset:
    """Return what the stand-ins of all single-frame instances of a volume share: one set of elements for all."""
    common = _base_stand_in(first, volume)
    del common.SOPClassUID, common.SOPInstanceUID  # each has its own; setting a shared element would set it for all
    common.ImageOrientationPatient = list(first.ImageOrientationPatient)
    common.PixelSpacing = list(first.PixelSpacing)
    common.SliceThickness = first.get("SliceThickness") or format_number_as_ds(volume.spacing_mm[0])
    common.SpacingBetweenSlices = format_number_as_ds(volume.spacing_mm[0])
    return common


def _single_frame_stand_in(source: Dataset, common: Dataset) -> Dataset:
    stand_in = Dataset()
    stand_in.update(common)
    stand_in.SOPClassUID = source.SOPClassUID
    stand_in.SOPInstanceUID = source.SOPInstanceUID
    stand_in.ImagePositionPatient = list(source.ImagePositionPatient)
    return stand_in


def _multi_frame_stand_in(source: Dataset, volume: Volume) -> Dataset:
    stand_in = _base_stand_in(source, volume)
    slices = {frame.frame_number: index for index, frame in enumerate(volume.frames)}
    shared = Dataset()
    column, row = volume.affine[:3, 2], volume.affine[:3, 1]
    cosines = [*(column / volume.spacing_mm[2]), *(row / volume.spacing_mm[1])]
    shared.PlaneOrientationSequence = hd.PlaneOrientationSequence("PATIENT", cosines)
    shared.PixelMeasuresSequence = hd.PixelMeasuresSequence(
        pixel_spacing=volume.spacing_mm[1:],
        slice_thickness=volume.spacing_mm[0],
        spacing_between_slices=volume.spacing_mm[0],
    )
    stand_in.NumberOfFrames = len(slices)
    stand_in.SharedFunctionalGroupsSequence = [shared]
    stand_in.PerFrameFunctionalGroupsSequence = [
        _frame_group(volume, slices[number]) for number in sorted(slices, key=lambda number: number or 0)
    ]
    return stand_in


def _frame_group(volume: Volume, slice_index: int) -> Dataset:
    group = Dataset()
    position = volume.affine[:3, 0] * slice_index + volume.affine[:3, 3]
    group.PlanePositionSequence = hd.PlanePositionSequence("PATIENT", position.tolist())
    return group
