"""Command sets of DIMSE messages (PS3.7 6.3.1 and Annex E): elements of group 0000, implicit VR little endian."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from fewshot_node.dicom.identity import decode_uid
from fewshot_node.errors import ProtocolError

NO_DATA_SET = 0x0101
_DATA_SET = 0x0001
RESPONSE = 0x8000
"""The bit that makes a response of a request's command field."""
_ERROR_COMMENT_CHARACTERS = 64

_GROUP_LENGTH, _SOP_CLASS_UID, _REQUESTED_SOP_CLASS_UID = 0x0000, 0x0002, 0x0003
_COMMAND_FIELD, _MESSAGE_ID, _RESPONDED_TO = 0x0100, 0x0110, 0x0120
_DATA_SET_TYPE, _STATUS, _ERROR_COMMENT = 0x0800, 0x0900, 0x0902
_SOP_INSTANCE_UID, _REQUESTED_SOP_INSTANCE_UID = 0x1000, 0x1001
_EVENT_TYPE_ID, _ACTION_TYPE_ID = 0x1002, 0x1008


class CommandField(IntEnum):
    """Requests that mean something to the receiver (PS3.7 E.1)."""

    C_STORE = 0x0001
    C_ECHO = 0x0030
    N_EVENT_REPORT = 0x0100
    N_ACTION = 0x0130
    C_CANCEL = 0x0FFF


@dataclass(frozen=True, slots=True)
class Command:
    """A decoded command set: raw values by element number."""

    elements: Mapping[int, bytes]

    @property
    def field(self) -> int:
        """The command field: which request or response it is."""
        return self._number(_COMMAND_FIELD)

    @property
    def message_id(self) -> int:
        """Message ID of a request."""
        return self._number(_MESSAGE_ID)

    @property
    def responded_to(self) -> int:
        """Message ID of the request that a response answers."""
        return self._number(_RESPONDED_TO)

    @property
    def has_data_set(self) -> bool:
        """Whether a data set follows."""
        return self._number(_DATA_SET_TYPE) != NO_DATA_SET

    @property
    def status(self) -> int:
        """Status of a response."""
        return self._number(_STATUS)

    @property
    def action_type_id(self) -> int:
        """Action Type ID of an N-ACTION request."""
        return self._number(_ACTION_TYPE_ID)

    @property
    def event_type_id(self) -> int:
        """Event Type ID of an N-EVENT-REPORT request."""
        return self._number(_EVENT_TYPE_ID)

    @property
    def sop_class_uid(self) -> str:
        """Affected or Requested SOP Class UID as it came, without padding; it may be no UID at all."""
        return self._uid(_SOP_CLASS_UID, _REQUESTED_SOP_CLASS_UID)

    @property
    def sop_instance_uid(self) -> str:
        """Affected or Requested SOP Instance UID as it came, without padding; it may be no UID at all."""
        return self._uid(_SOP_INSTANCE_UID, _REQUESTED_SOP_INSTANCE_UID)

    def _number(self, element: int) -> int:
        value = self.elements.get(element, b"")
        if len(value) != 2:
            raise ProtocolError(f"command element (0000,{element:04X}) is absent or no US")
        return int.from_bytes(value, "little")

    def _uid(self, affected: int, requested: int) -> str:
        return decode_uid(self.elements.get(affected, self.elements.get(requested, b"")))


def decode_command(encoded: bytes) -> Command:
    """Decode a command set.

    Raises
    ------
    ProtocolError
        The bytes are no command set.
    """
    elements: dict[int, bytes] = {}
    position = 0
    while position < len(encoded):
        header = encoded[position : position + 8]
        if len(header) < 8:
            raise ProtocolError("command set ends within an element")
        group, element, length = struct.unpack("<HHL", header)
        value = encoded[position + 8 : position + 8 + length]
        if group != 0 or len(value) != length:
            raise ProtocolError("command set holds what is no command element")
        elements[element] = value
        position += 8 + length
    return Command(elements)


def encode_response(request: Command, status: int, comment: str = "") -> bytes:
    """Return the command set of a response without a data set; the comment is cut to what an LO holds."""
    elements = {
        _COMMAND_FIELD: _us(request.field | RESPONSE),
        _RESPONDED_TO: _us(request.message_id),
        _DATA_SET_TYPE: _us(NO_DATA_SET),
        _STATUS: _us(status),
    }
    for element, value in ((_SOP_CLASS_UID, request.sop_class_uid), (_SOP_INSTANCE_UID, request.sop_instance_uid)):
        if value and len(value) <= 64:
            elements[element] = _text(value, "\0")
    if comment:
        elements[_ERROR_COMMENT] = _text(comment[:_ERROR_COMMENT_CHARACTERS], " ")
    return _encode(elements)


def encode_event_report(message_id: int, sop: tuple[str, str], event_type_id: int) -> bytes:
    """Return the command set of an N-EVENT-REPORT request with a data set; `sop` is (class UID, instance UID)."""
    return _encode(
        {
            _SOP_CLASS_UID: _text(sop[0], "\0"),
            _COMMAND_FIELD: _us(CommandField.N_EVENT_REPORT),
            _MESSAGE_ID: _us(message_id),
            _DATA_SET_TYPE: _us(_DATA_SET),
            _SOP_INSTANCE_UID: _text(sop[1], "\0"),
            _EVENT_TYPE_ID: _us(event_type_id),
        }
    )


def _encode(elements: Mapping[int, bytes]) -> bytes:
    body = b"".join(
        struct.pack("<HHL", 0, element, len(elements[element])) + elements[element] for element in sorted(elements)
    )
    return struct.pack("<HHLL", 0, _GROUP_LENGTH, 4, len(body)) + body


def _us(value: int) -> bytes:
    return value.to_bytes(2, "little")


def _text(value: str, padding: str) -> bytes:
    encoded = value.encode("ascii", errors="replace")
    return encoded + padding.encode() * (len(encoded) % 2)
