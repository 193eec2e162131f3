"""The head of an encoded data set, walked element by element and not decoded (PS3.5 7).

Whoever may send can send anything: a decoded item takes a hundred times the memory of an encoded one, and a
UID may claim a length of gigabytes. So nothing is kept but the beginnings of the wanted values, and what
nests is stepped through and counted.
"""

from collections.abc import Collection, Iterator
from struct import Struct
from typing import BinaryIO

from pydicom.uid import UID

from fewshot_node.errors import NotDicomError

_LONGEST_VALUE = 256
_MOST_HEADERS = 2**18
_DEEPEST = 64
_UNDEFINED = 0xFFFFFFFF
_DELIMITERS = {0xFFFEE00D, 0xFFFEE0DD}
_LONG_VRS = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
"""Value representations with a length of 32 bits (PS3.5 7.1.2)."""
_SHORT_VRS = {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH"}
_SHORT_VRS |= {b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US"}


def head_values(file: BinaryIO, transfer_syntax: UID, tags: Collection[int]) -> Iterator[tuple[int, bytes]]:
    """Yield the wanted elements of a data set as encoded, up to the largest of the wanted tags.

    Of a value that is longer than any UID or number the beginning is given. A data set that ends early
    gives what it has.

    Raises
    ------
    NotDicomError
        The data set nests too deeply, or has too much before the wanted elements.
    """
    walk = _Walk(file, transfer_syntax)
    last = max(tags)
    while (header := walk.next_header()) is not None and header[0] <= last:
        tag, vr, length = header
        if length == _UNDEFINED:
            walk.skip_undefined(vr)
        elif tag in tags:
            value = file.read(min(length, _LONGEST_VALUE))
            walk.skip(length - len(value))
            yield tag, value
        else:
            walk.skip(length)


class _Walk:
    """A position in a data set, and how the elements there are encoded."""

    def __init__(self, file: BinaryIO, transfer_syntax: UID) -> None:
        order = "<" if transfer_syntax.is_little_endian else ">"
        self._file = file
        self._tag = Struct(f"{order}HH")
        self._short = Struct(f"{order}H")
        self._long = Struct(f"{order}L")
        self._is_implicit = transfer_syntax.is_implicit_VR
        self._headers = 0

    def next_header(self) -> tuple[int, bytes, int] | None:
        """Return tag, VR (empty where there is none) and length of the next element; None at the end.

        Raises
        ------
        NotDicomError
            There have been more elements than a data set has before its UIDs.
        """
        self._headers += 1
        if self._headers > _MOST_HEADERS:
            raise NotDicomError("data set has too many elements before its UIDs")
        header = self._file.read(8)
        if len(header) < 8:
            return None
        group, element = self._tag.unpack_from(header)
        tag, vr = group << 16 | element, header[4:6]
        if self._headers == 1 and vr in _SHORT_VRS | _LONG_VRS:
            self._is_implicit = False  # some writers name the one syntax and use the other
        if self._is_implicit or group == 0xFFFE or not (vr.isalpha() and vr.isupper()):
            return tag, b"", self._long.unpack_from(header, 4)[0]
        if vr not in _LONG_VRS:
            return tag, vr, self._short.unpack_from(header, 6)[0]
        length = self._file.read(4)
        return (tag, vr, self._long.unpack(length)[0]) if len(length) == 4 else None

    def skip(self, length: int) -> None:
        """Go past a value."""
        self._file.seek(length, 1)

    def skip_undefined(self, vr: bytes) -> None:
        """Go past the end of a value of undefined length, however deep what it holds is nested (PS3.5 7.5).

        What is inside of one whose VR is UN is in implicit VR (PS3.5 6.2.2).

        Raises
        ------
        NotDicomError
            It is nested more deeply than any real data set.
        """
        outside = self._is_implicit
        levels = [outside]
        self._is_implicit |= vr == b"UN"
        while levels and (header := self.next_header()) is not None:
            tag, inner_vr, length = header
            if tag in _DELIMITERS:
                self._is_implicit = levels.pop()
            elif length != _UNDEFINED:
                self.skip(length)
            elif len(levels) == _DEEPEST:
                raise NotDicomError("data set nests too deeply before its UIDs")
            else:
                levels.append(self._is_implicit)
                self._is_implicit |= inner_vr == b"UN"
