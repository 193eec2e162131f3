"""Headers of files: which of them are images of which series, and what a routing rule may look at."""

import logging
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset

from fewshot_node.dicom.objects.geometry import orientation_name, plane_orientations
from fewshot_node.dicom.objects.values import number, number_of_frames
from fewshot_node.errors import NotDicomError, SeriesError
from fewshot_node.uids import derive_uid

logger = logging.getLogger(__name__)

_DERIVED_SOP_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.66.4": "Segmentation",
    "1.2.840.10008.5.1.4.1.1.66.7": "Label Map Segmentation",
    "1.2.840.10008.5.1.4.1.1.30": "Parametric Map",
    "1.2.840.10008.5.1.4.1.1.481.2": "RT Dose",
}
"""SOP classes that have rows and columns and still are no images to work on."""

_ROUTING_TAGS = [
    "SpecificCharacterSet",
    "ImageType",
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "StudyDate",
    "SeriesDate",
    "SeriesTime",
    "Modality",
    "SeriesNumber",
    "InstanceNumber",
    "Rows",
    "Columns",
    "BitsAllocated",
    "NumberOfFrames",
    "ImageOrientationPatient",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
]


@dataclass(frozen=True, slots=True, eq=False)
class ImageHeader:
    """One image file and its header, without pixels; the four identifying UIDs are never empty."""

    path: Path
    dataset: Dataset


@dataclass(frozen=True, slots=True, eq=False)
class SeriesHeader:
    """What routing rules look at.

    Attributes
    ----------
    dataset
        Header of the first image (by instance number), without pixels.
    number_of_slices
        Image instances, or frames of a multi-frame instance.
    orientation
        ``axial``, ``coronal``, ``sagittal`` or ``oblique``; None when the images state none or disagree.
    """

    dataset: Dataset
    number_of_slices: int
    orientation: str | None
    sop_class_uid: str


def read_header(files: Sequence[Path]) -> SeriesHeader:
    """Read the header of the series that `files` belong to.

    Raises
    ------
    NotDicomError
        A file is no DICOM file.
    SeriesError
        The files hold no image, images of several series, or a header value that is no number.
    """
    headers = image_headers(files, tags=_ROUTING_TAGS)
    first = min(headers, key=lambda header: _place_in_series(header.dataset))
    names = {orientation_name(cosines) for header in headers for cosines in plane_orientations(header.dataset)}
    return SeriesHeader(
        dataset=_read(first.path, tags=None),
        number_of_slices=sum(number_of_frames(header.dataset) for header in headers),
        orientation=names.pop() if len(names) == 1 else None,
        sop_class_uid=str(first.dataset.SOPClassUID),
    )


def read_without_pixels(path: Path) -> Dataset:
    """Read everything of an object but its pixels.

    Raises
    ------
    NotDicomError
        The file is no DICOM file.
    """
    return _read(path, tags=None)


def read_object(source: Path | Dataset) -> Dataset:
    """Read an object, pixels and all; one that was read already is given back.

    Raises
    ------
    NotDicomError
        `source` is a path to something else than DICOM.
    """
    if isinstance(source, Dataset):
        return source
    try:
        return pydicom.dcmread(source)
    except (pydicom.errors.InvalidDicomError, OSError, EOFError, ValueError) as error:
        raise NotDicomError(f"{source} is no readable DICOM file: check the path") from error


def image_headers(files: Sequence[Path], tags: list[str] | None = None) -> tuple[ImageHeader, ...]:
    """Read the headers of the images among `files`, sorted by SOP Instance UID, each instance once.

    Objects that are no source images (reports, presentation states, segmentations) are left out.

    Parameters
    ----------
    tags
        Keywords that are enough; None reads all but the pixels.

    Raises
    ------
    NotDicomError
        A file is no DICOM file.
    SeriesError
        The files hold no image, or images of several series.
    """
    images: dict[str, ImageHeader] = {}
    others: set[str] = set()
    for path in files:
        dataset = _read(path, tags)
        if is_image(dataset):
            images.setdefault(str(dataset.SOPInstanceUID), ImageHeader(path, dataset))
        else:
            others.add(dataset.SOPClassUID.name)
    _require_one_series(images.values(), others)
    return tuple(images[uid] for uid in sorted(images))


def holds_images(files: Sequence[Path]) -> bool:
    """Tell whether there is an image among `files`; a series may hold reports or segmentations only."""
    return any(is_image(_read(path, _ROUTING_TAGS)) for path in files)


def model_name(path: Path) -> str:
    """Return what an object gives as the model of the equipment that made it (PS3.3 C.7.5.1); empty if nothing."""
    return str(_read(path, [*_ROUTING_TAGS, "ManufacturerModelName"]).get("ManufacturerModelName", ""))


def series_in_folder(folder: Path) -> dict[str, tuple[Path, ...]]:
    """Find the image series below `folder`: Series Instance UID -> files; what is no DICOM is passed over."""
    found: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            dataset = _read(path, _ROUTING_TAGS)
        except (NotDicomError, SeriesError) as error:
            logger.debug("%s", error)
            continue
        if is_image(dataset):
            found[str(dataset.SeriesInstanceUID)].append(path)
    return {uid: tuple(paths) for uid, paths in found.items()}


def is_image(dataset: Dataset) -> bool:
    """Tell whether an object is an image that a task could work on."""
    pixels = all(dataset.get(keyword) for keyword in ("Rows", "Columns", "BitsAllocated"))
    return pixels and str(dataset.SOPClassUID) not in _DERIVED_SOP_CLASSES


def _read(path: Path, tags: list[str] | None) -> Dataset:
    try:
        dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(tags) if tags else None)
    except OSError as error:
        if error.strerror is None:  # pydicom's own, for bytes that make no sense
            raise NotDicomError(f"{path} cannot be parsed as DICOM: send or export it again") from error
        raise NotDicomError(f"{path} cannot be read ({error.strerror}): check the path") from error
    except Exception as error:  # hostile bytes raise anything, RecursionError included
        message = f"{path} is no DICOM file ({type(error).__name__}): remove it or export it again"
        raise NotDicomError(message) from error
    _complete_uids(dataset, path)
    return dataset


def _complete_uids(dataset: Dataset, path: Path) -> None:
    """Fill in empty UIDs, in memory only.

    De-identified exports exist whose identifying UIDs were blanked. The instance is still named by the
    File Meta Information (PS3.10 7.1); for study and series the Frame of Reference is taken as the thing
    that its images share.
    """
    for keyword in ("SOPClassUID", "SOPInstanceUID"):
        if not dataset.get(keyword):
            setattr(dataset, keyword, dataset.file_meta.get(f"MediaStorage{keyword}"))
            if not dataset.get(keyword):
                raise NotDicomError(f"{path} has no SOP Class or SOP Instance UID: export it again")
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID"):
        if not dataset.get(keyword) and is_image(dataset):
            setattr(dataset, keyword, _derived_uid(dataset, keyword, path))


def _derived_uid(dataset: Dataset, keyword: str, path: Path) -> str:
    frame_of_reference_uid = dataset.get("FrameOfReferenceUID")
    if not frame_of_reference_uid:
        raise SeriesError(f"{path} has neither {keyword} nor Frame of Reference UID: export it again")
    parts = [str(frame_of_reference_uid), str(dataset.get("StudyDate", ""))]
    if keyword == "SeriesInstanceUID":
        keywords = ("Modality", "SeriesDate", "SeriesTime", "SeriesNumber")
        parts += [str(dataset.get(other) or "") for other in keywords]
    return derive_uid(f"absent-{keyword}", *parts)


def _require_one_series(images: Iterable[ImageHeader], others: set[str]) -> None:
    series = sorted({str(header.dataset.SeriesInstanceUID) for header in images})
    if not series:
        found = ", ".join(sorted(others)) or "nothing"
        raise SeriesError(f"no image among the files, only {found}: choose a series of images")
    if len(series) > 1:
        raise SeriesError(f"files of {len(series)} series ({', '.join(series)}): pass one series at a time")


def _place_in_series(dataset: Dataset) -> tuple[float, str]:
    """Return what images are sorted by; an unreadable Instance Number comes last, since it is only a label."""
    uid = str(dataset.SOPInstanceUID)
    try:
        return number(dataset, "InstanceNumber", 0, uid), uid
    except SeriesError:
        return math.inf, uid
