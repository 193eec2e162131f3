"""One series of images to one regular grid of numbers in LPS mm."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from fewshot_node.dicom.objects.geometry import arrange, planes_of
from fewshot_node.dicom.objects.headers import ImageHeader, image_headers
from fewshot_node.dicom.objects.pixels import read_planes
from fewshot_node.dicom.objects.values import number, number_of_frames
from fewshot_node.errors import GeometryError, SeriesError
from fewshot_node.records import Volume
from fewshot_node.uids import fallback_frame_of_reference

_GRAYSCALE = {"MONOCHROME1", "MONOCHROME2"}


def read_volume(files: Sequence[Path]) -> Volume:
    """Read the images among `files` as one volume.

    Single-frame stacks and one (enhanced) multi-frame instance are read; slices are sorted along their
    normal, whatever order the files come in. MONOCHROME1 is inverted within the volume's own range, except
    for CT, whose Hounsfield units mean the same in either display convention.

    Raises
    ------
    NotDicomError
        A file is no DICOM file.
    SeriesError
        No image, colour images, images of several series, or a header value that is no number.
    GeometryError
        Mixed, irregular or absent geometry, missing or repeated slices.
    PixelDataError
        Truncated or undecodable pixels.
    """
    headers = image_headers(files)
    first = headers[0].dataset
    series_uid = str(first.SeriesInstanceUID)
    _require_grayscale(headers, series_uid)
    _require_one_multi_frame(headers, series_uid)
    stack = arrange([plane for header in headers for plane in planes_of(*_parts(header))], series_uid)
    frame_of_reference = _frame_of_reference(headers, series_uid)
    array = read_planes(stack.planes)
    return Volume(
        array=_inverted(array) if _is_inverted(first) else array,
        affine=stack.affine,
        frames=tuple(plane.frame for plane in stack.planes),
        modality=str(first.get("Modality") or "OT"),
        study_instance_uid=str(first.StudyInstanceUID),
        series_instance_uid=series_uid,
        frame_of_reference_uid=frame_of_reference or fallback_frame_of_reference(series_uid),
        frame_of_reference_stated=frame_of_reference is not None,
    )


def read_sources(files: Sequence[Path], volume: Volume) -> list[Dataset]:
    """Read the headers, without pixels, of the instances that `volume` was made of, in slice order.

    A multi-frame instance appears once.

    Raises
    ------
    SeriesError
        An instance of the volume is not among `files`.
    """
    headers = {str(header.dataset.SOPInstanceUID): header.dataset for header in image_headers(files)}
    used = dict.fromkeys(frame.sop_instance_uid for frame in volume.frames)
    missing = [uid for uid in used if uid not in headers]
    if missing:
        raise SeriesError(f"instance {missing[0]} of the volume is not among the files: pass the same files")
    return [headers[uid] for uid in used]


def _parts(header: ImageHeader) -> tuple[Dataset, Path]:
    return header.dataset, header.path


def _require_grayscale(headers: Sequence[ImageHeader], series_uid: str) -> None:
    kinds = {str(header.dataset.get("PhotometricInterpretation", "")) for header in headers}
    samples = {
        number(header.dataset, "SamplesPerPixel", 1, str(header.dataset.SOPInstanceUID)) or 1 for header in headers
    }
    if samples != {1} or not kinds <= _GRAYSCALE:
        message = (
            f"series {series_uid}: colour images ({', '.join(sorted(kinds))}) cannot be processed: "
            "route grayscale series only"
        )
        raise SeriesError(message)
    if len(kinds) > 1:
        message = f"series {series_uid} mixes MONOCHROME1 and MONOCHROME2 images: export it in one convention"
        raise SeriesError(message)


def _require_one_multi_frame(headers: Sequence[ImageHeader], series_uid: str) -> None:
    frames = [number_of_frames(header.dataset) for header in headers]
    if len(headers) > 1 and max(frames) > 1:
        message = (
            f"series {series_uid} has {len(headers)} instances, some of several frames: "
            "one multi-frame instance makes one volume; send each as a series of its own"
        )
        raise GeometryError(message)


def _frame_of_reference(headers: Sequence[ImageHeader], series_uid: str) -> str | None:
    stated = {str(header.dataset.get("FrameOfReferenceUID") or "") for header in headers} - {""}
    if len(stated) > 1:
        message = (
            f"series {series_uid} states {len(stated)} Frames of Reference: positions cannot be compared; "
            "export it as several series"
        )
        raise GeometryError(message)
    return stated.pop() if stated else None


def _is_inverted(dataset: Dataset) -> bool:
    return str(dataset.PhotometricInterpretation) == "MONOCHROME1" and dataset.get("Modality") != "CT"


def _inverted(array: NDArray[np.float32]) -> NDArray[np.float32]:
    inverted: NDArray[np.float32] = array.min() + array.max() - array
    return inverted
