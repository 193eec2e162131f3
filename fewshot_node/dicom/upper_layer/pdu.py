"""Protocol data units as an acceptor sends them, and the headers of those that it reads (PS3.8 9.3)."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from fewshot_node.dicom.services import RejectionCode

HEADER_BYTES = 6
PDV_HEADER_BYTES = 6
_SMALLEST_MAXIMUM_BYTES = 1024
_COMMAND, _LAST = 1, 2


class PduType(IntEnum):
    """Types of PDUs (PS3.8 9.3.1)."""

    ASSOCIATE_RQ = 1
    ASSOCIATE_AC = 2
    ASSOCIATE_RJ = 3
    DATA = 4
    RELEASE_RQ = 5
    RELEASE_RP = 6
    ABORT = 7


class AbortReason(IntEnum):
    """Why the upper layer aborts (PS3.8 Table 9-26)."""

    NOT_SPECIFIED = 0
    UNRECOGNIZED_PDU = 1
    UNEXPECTED_PDU = 2
    INVALID_PARAMETER = 6


@dataclass(frozen=True, slots=True)
class PdvHeader:
    """Header of a presentation data value item (PS3.8 9.3.5.1); `size` is that of the fragment."""

    size: int
    context_id: int
    is_command: bool
    is_last: bool


RELEASE_RESPONSE = struct.pack(">BxLxxxx", PduType.RELEASE_RP, 4)


def decode_header(header: bytes) -> tuple[int, int]:
    """Return type and length of the PDU that a header begins."""
    kind, length = struct.unpack(">BxL", header)
    return kind, length


def decode_pdv_header(header: bytes) -> PdvHeader:
    """Return what the header of a PDV item says."""
    length, context_id, control = struct.unpack(">LBB", header)
    return PdvHeader(length - 2, context_id, bool(control & _COMMAND), bool(control & _LAST))


def encode_rejection(code: RejectionCode) -> bytes:
    """Return an A-ASSOCIATE-RJ PDU."""
    return struct.pack(">BxLxBBB", PduType.ASSOCIATE_RJ, 4, code.result, code.source, code.reason)


def encode_abort(reason: AbortReason) -> bytes:
    """Return an A-ABORT PDU whose source is the service provider."""
    return struct.pack(">BxLxxBB", PduType.ABORT, 4, 2, reason)


def encode_message(context_id: int, command: bytes, data_set: bytes, max_pdu_bytes: int) -> Iterator[bytes]:
    """Yield the P-DATA-TF PDUs of a message; an empty `data_set` is none.

    Parameters
    ----------
    max_pdu_bytes
        What the peer takes; 0 is no limit (PS3.8 D.1).
    """
    limit = max(max_pdu_bytes, _SMALLEST_MAXIMUM_BYTES) if max_pdu_bytes else HEADER_BYTES + 2**16
    for content, kind in ((command, _COMMAND), (data_set, 0)):
        room = limit - PDV_HEADER_BYTES
        for start in range(0, len(content), room):
            fragment = content[start : start + room]
            control = kind | (_LAST if start + room >= len(content) else 0)
            pdv = struct.pack(">LBB", len(fragment) + 2, context_id, control) + fragment
            yield struct.pack(">BxL", PduType.DATA, len(pdv)) + pdv
