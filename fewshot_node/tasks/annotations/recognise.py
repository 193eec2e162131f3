"""Which format a file has, by its content; its name decides nothing."""

import gzip
import zlib
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import UID

from fewshot_node.errors import TemplateError
from fewshot_node.tasks.annotations.records import AnnotationFormat

_HEAD_BYTES = 4096
_NIFTI_SIZES = (348, 540)
_PREFIX = b"DICM"
_FIRST_ELEMENTS = tuple(bytes([group, 0, element, 0]) for group in (2, 8) for element in (0, 1, 5, 8, 0x12, 0x16))
"""Tags of little endian data sets without the preamble of PS3.10: File Meta Information, or what sorts first."""
_DICOM = {
    "1.2.840.10008.5.1.4.1.1.66.4": AnnotationFormat.SEG,
    "1.2.840.10008.5.1.4.1.1.66.7": AnnotationFormat.SEG,
    "1.2.840.10008.5.1.4.1.1.481.3": AnnotationFormat.RTSTRUCT,
    "1.2.840.10008.5.1.4.1.1.88.22": AnnotationFormat.REPORT,
    "1.2.840.10008.5.1.4.1.1.88.33": AnnotationFormat.REPORT,
    "1.2.840.10008.5.1.4.1.1.88.34": AnnotationFormat.REPORT,
}
READABLE = (
    "a DICOM SEG, RTSTRUCT or TID 1500 SR, NIfTI or NRRD labels, PNG labels (with JSON), 3D Slicer markups, "
    "JSON points or CSV points"
)


def read_head(path: Path) -> bytes:
    """Return the first bytes of a file, decompressed where it is gzip.

    Raises
    ------
    TemplateError
        There is no such file, or it cannot be read.
    """
    try:
        if path.is_dir():
            raise TemplateError(f"label file {path} is a folder: give one file, {READABLE}")
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
        if not head.startswith(b"\x1f\x8b"):
            return head
        return zlib.decompressobj(31).decompress(head, _HEAD_BYTES)
    except OSError as error:
        raise TemplateError(f"label file {path} cannot be read ({error.strerror or error}): check the path") from error
    except (zlib.error, gzip.BadGzipFile, EOFError) as error:
        raise TemplateError(f"label file {path} is damaged gzip: copy it again") from error


def recognise(path: Path) -> AnnotationFormat | None:
    """Return a file's format; None is text or JSON, whose content decides, or something that is not read.

    Raises
    ------
    TemplateError
        It cannot be read, or is DICOM but no annotation.
    """
    head = read_head(path)
    if head.startswith(b"NRRD"):
        return AnnotationFormat.NRRD
    if head.startswith(b"\x89PNG"):
        return AnnotationFormat.PNG
    if _is_nifti(head):
        return AnnotationFormat.NIFTI
    return format_of(read_dicom(path, ["SOPClassUID"]), path) if _is_dicom(head) else None


def _is_dicom(head: bytes) -> bool:
    """Tell whether a file is DICOM, also one that begins with its first element: old planning systems wrote such."""
    return head[128:132] == _PREFIX or head[:4] in _FIRST_ELEMENTS


def _is_nifti(head: bytes) -> bool:
    sizes = {int.from_bytes(head[:4], order) for order in ("little", "big")}
    return len(head) >= _NIFTI_SIZES[0] and not sizes.isdisjoint(_NIFTI_SIZES)


def read_dicom(path: Path, tags: list[str] | None = None) -> Dataset:
    """Read a DICOM file, or only some of its attributes.

    Raises
    ------
    TemplateError
        It is damaged.
    """
    try:
        bare = read_head(path)[128:132] != _PREFIX
        wanted = list(tags) if tags else None
        return pydicom.dcmread(path, force=bare, stop_before_pixels=tags is not None, specific_tags=wanted)
    except Exception as error:
        raise TemplateError(f"label file {path} is damaged DICOM ({type(error).__name__}): export it again") from error


def format_of(dataset: Dataset, path: Path) -> AnnotationFormat:
    """Return the format of a DICOM object.

    Raises
    ------
    TemplateError
        It is no annotation.
    """
    sop_class = str(dataset.get("SOPClassUID", ""))
    if sop_class not in _DICOM:
        what = UID(sop_class).name or "an object without a SOP class"
        raise TemplateError(f"label file {path} is {what}, no annotation: give {READABLE}")
    return _DICOM[sop_class]
