"""A result object's bytes in a file, with what its frames have in common encoded once.

Frames of one slice refer to the same source image and lie at the same place, so their functional groups hold the
same items. pydicom encodes each of them anew, which is most of the time that a large Segmentation takes to write.
"""

import struct
from collections.abc import Iterable
from pathlib import Path

from pydicom import dcmwrite
from pydicom.charset import convert_encodings, default_encoding
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import correct_ambiguous_vr, write_data_element
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian

_FRAMES = Tag("PerFrameFunctionalGroupsSequence")
_ITEM = struct.pack("<HH", 0xFFFE, 0xE000)


def write_object(path: Path, dataset: Dataset) -> None:
    """Write a DICOM file (PS3.10), byte for byte what `pydicom.dcmwrite` makes of it.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    shared = _FRAMES in dataset and dataset.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    dcmwrite(path, _with_encoded_frames(dataset) if shared else dataset, enforce_file_format=True)


def encode_frame_groups(dataset: Dataset) -> bytes:
    """Return the items of the Per-Frame Functional Groups Sequence, in Explicit VR Little Endian; none gives none."""
    return _Encoder(_encodings(dataset)).items(dataset.get("PerFrameFunctionalGroupsSequence") or ())


def _encodings(dataset: Dataset) -> list[str]:
    stated = dataset.get("SpecificCharacterSet")
    return convert_encodings(stated) if stated else [default_encoding]


def _with_encoded_frames(dataset: Dataset) -> Dataset:
    lean = Dataset()
    lean.update({element.tag: element for element in dataset if element.tag != _FRAMES})
    lean.file_meta = dataset.file_meta
    correct_ambiguous_vr(lean, is_little_endian=True)
    value = encode_frame_groups(dataset)
    # pydicom passes raw elements through where it believes that the data set was read as it is to be written.
    stated = dataset.get("SpecificCharacterSet")
    lean.set_original_encoding(False, True, _encodings(dataset) if stated else default_encoding)
    lean[_FRAMES] = RawDataElement(_FRAMES, "SQ", len(value), value, 0, False, True)
    return lean


class _Encoder:
    """Encodes sequences in Explicit VR Little Endian (PS3.5 7.5), the same item only once.

    The items are kept by identity, so they must live as long as the encoder.
    """

    def __init__(self, encodings: list[str]) -> None:
        self._encodings = encodings
        self._known: dict[int, bytes] = {}

    def items(self, sequence: Iterable[Dataset]) -> bytes:
        return b"".join(self._item(item) for item in sequence)

    def _item(self, item: Dataset) -> bytes:
        known = self._known.get(id(item))
        if known is None:
            body = b"".join(self._element(element) for element in item)
            known = self._known[id(item)] = _ITEM + struct.pack("<L", len(body)) + body
        return known

    def _element(self, element: DataElement) -> bytes:
        if element.VR == "SQ":
            body = self.items(element.value)
            return struct.pack("<HH4sL", element.tag.group, element.tag.element, b"SQ\0\0", len(body)) + body
        encoded = DicomBytesIO()
        encoded.is_little_endian, encoded.is_implicit_VR = True, False
        write_data_element(encoded, element, self._encodings)
        return encoded.getvalue()
