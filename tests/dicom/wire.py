"""A storage SCU made of bytes: PDUs (PS3.8 9.3), command sets (PS3.7 6.3) and data sets written by hand.

It owes nothing to pynetdicom or pydicom, so what it sends may be as wrong as a test wants it, and what it
expects is not what the code under test would have expected.
"""

import socket
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType

VERIFICATION = "1.2.840.10008.1.1"
CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
ECHO_CONTEXT, STORE_CONTEXT = 1, 3
CONTEXTS = ((ECHO_CONTEXT, VERIFICATION, (IMPLICIT,)), (STORE_CONTEXT, CT_IMAGE_STORAGE, (EXPLICIT,)))

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)
COMMAND, LAST = 1, 2
"""Bits of a message control header (PS3.8 E.2)."""

Context = tuple[int, str, Sequence[str]]
Text = str | bytes


class AssociationEndedError(Exception):
    """The peer aborted or hung up."""


class NoAnswerError(AssociationEndedError):
    """The peer keeps the connection and says nothing."""


@dataclass(frozen=True)
class Rejected:
    """Result, source and reason of an A-ASSOCIATE-RJ (PS3.8 9.3.4); result 2 is transient."""

    result: int
    source: int
    reason: int


def pdu(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBI", kind, 0, len(body)) + body


def item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(body)) + body


def associate_rq(
    contexts: Iterable[Context] = CONTEXTS, called: Text = "FEWSHOT", calling: Text = "WIRE", max_pdu_bytes: int = 16384
) -> bytes:
    head = struct.pack(">HH", 1, 0) + _raw(called).ljust(16)[:16] + _raw(calling).ljust(16)[:16] + bytes(32)
    proposed = b"".join(
        item(
            0x20,
            bytes((number, 0, 0, 0)) + item(0x30, _raw(abstract)) + b"".join(item(0x40, _raw(s)) for s in syntaxes),
        )
        for number, abstract, syntaxes in contexts
    )
    user = item(0x51, struct.pack(">I", max_pdu_bytes)) + item(0x52, b"1.2.826.0.1.3680043.8.498.9")
    return pdu(ASSOCIATE_RQ, head + item(0x10, b"1.2.840.10008.3.1.1.1") + proposed + item(0x50, user))


def p_data(context_id: int, control: int, fragment: bytes) -> bytes:
    return pdu(P_DATA, struct.pack(">IBB", len(fragment) + 2, context_id, control) + fragment)


def release_rq() -> bytes:
    return pdu(RELEASE_RQ, bytes(4))


def abort() -> bytes:
    return pdu(ABORT, bytes(4))


def command_set(elements: Mapping[int, Text | int]) -> bytes:
    """Encode elements of group 0000, numbers as US, in implicit VR little endian."""
    encoded = b"".join(_command_element(number, value) for number, value in sorted(elements.items()))
    return _command_element(0x0000, struct.pack("<I", len(encoded))) + encoded


def echo_rq(message_id: int) -> list[bytes]:
    command = command_set({0x0002: VERIFICATION, 0x0100: 0x0030, 0x0110: message_id, 0x0800: 0x0101})
    return [p_data(ECHO_CONTEXT, COMMAND | LAST, command)]


def store_rq(
    message_id: int,
    sop_instance_uid: Text,
    dataset: bytes,
    *,
    sop_class_uid: Text = CT_IMAGE_STORAGE,
    fragment_bytes: int = 16372,
) -> list[bytes]:
    """Give the P-DATA-TF PDUs of one C-STORE request."""
    command = {
        0x0002: sop_class_uid,
        0x0100: 0x0001,
        0x0110: message_id,
        0x0700: 0,
        0x0800: 1,
        0x1000: sop_instance_uid,
    }
    pdus = [p_data(STORE_CONTEXT, COMMAND | LAST, command_set(command))]
    for start in range(0, max(len(dataset), 1), fragment_bytes):
        fragment = dataset[start : start + fragment_bytes]
        pdus.append(p_data(STORE_CONTEXT, LAST if start + fragment_bytes >= len(dataset) else 0, fragment))
    return pdus


def element(tag: int, vr: str, value: Text) -> bytes:
    """Encode one element of a data set in explicit VR little endian (PS3.5 7.1.2)."""
    raw = _raw(value)
    raw += bytes(len(raw) % 2) if vr == "UI" else b" " * (len(raw) % 2)
    if vr in {"OB", "OW", "SQ", "UN"}:
        return struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, vr.encode(), 0, len(raw)) + raw
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr.encode(), len(raw)) + raw


def instance(
    sop_instance_uid: Text,
    series_instance_uid: Text,
    *,
    study_instance_uid: Text = "1.2.826.0.1.3680043.8.498.1",
    sop_class_uid: Text = CT_IMAGE_STORAGE,
    pixels: bytes = bytes(128),
) -> bytes:
    """Encode a small CT image of one row."""
    columns = struct.pack("<H", min(len(pixels) // 2, 65535))
    return b"".join(
        (
            *(element(0x00080016, "UI", sop_class_uid), element(0x00080018, "UI", sop_instance_uid)),
            *(element(0x00080060, "CS", "CT"), element(0x00100010, "PN", "SECRET^PERSON")),
            *(element(0x00100020, "LO", "SECRET-ID"), element(0x0020000D, "UI", study_instance_uid)),
            *(element(0x0020000E, "UI", series_instance_uid), element(0x00280010, "US", b"\1\0")),
            *(element(0x00280011, "US", columns), element(0x7FE00010, "OW", pixels)),
        )
    )


class WireSender:
    """One association, over a socket of its own; `rejected` says so when there is none.

    Raises
    ------
    AssociationEndedError
        From any method: the peer aborted, hung up, or did not answer in time.
    """

    def __init__(
        self,
        port: int,
        *,
        calling: Text = "WIRE",
        called: Text = "FEWSHOT",
        contexts: Iterable[Context] = CONTEXTS,
        timeout_s: float = 30.0,
    ) -> None:
        self.rejected: Rejected | None = None
        self.accepted: set[int] = set()
        self._fragment_bytes = 16372
        self._message_id = 0
        self.socket = connected(port, timeout_s)
        self.send(associate_rq(contexts, called, calling))
        kind, body = self.receive()
        if kind == ASSOCIATE_RJ:
            self.rejected = Rejected(*body[1:4])
        elif kind == ASSOCIATE_AC:
            self._negotiated(body)
        else:
            self.close()
            raise AssociationEndedError(f"PDU of type {kind} in answer to A-ASSOCIATE-RQ")

    def __enter__(self) -> "WireSender":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise AssociationEndedError(str(error)) from error

    def receive(self) -> tuple[int, bytes]:
        """Give type and body of the next PDU."""
        kind, _, length = struct.unpack(">BBI", self._exactly(6))
        return kind, self._exactly(length)

    def echo(self) -> int:
        self._message_id += 1
        return self._answered(echo_rq(self._message_id))

    def store(
        self,
        sop_instance_uid: Text,
        dataset: bytes,
        *,
        sop_class_uid: Text = CT_IMAGE_STORAGE,
        message_id: int | None = None,
    ) -> int:
        """Send one instance and give the status."""
        self._message_id = message_id or self._message_id % 65535 + 1
        pdus = store_rq(
            self._message_id,
            sop_instance_uid,
            dataset,
            sop_class_uid=sop_class_uid,
            fragment_bytes=self._fragment_bytes,
        )
        return self._answered(pdus)

    def release(self) -> None:
        self.send(release_rq())
        kind, _ = self.receive()
        if kind != RELEASE_RP:
            raise AssociationEndedError(f"PDU of type {kind} in answer to A-RELEASE-RQ")
        self.close()

    def close(self) -> None:
        self.socket.close()

    def _answered(self, pdus: list[bytes]) -> int:
        self.send(b"".join(pdus))
        kind, body = self.receive()
        if kind != P_DATA:
            raise AssociationEndedError(f"PDU of type {kind} in answer to a request")
        return status_of(body[6:])

    def _negotiated(self, body: bytes) -> None:
        for kind, value in _items(body[68:]):
            if kind == 0x21 and value[2] == 0:
                self.accepted.add(value[0])
            elif kind == 0x50:
                longest = dict(_items(value)).get(0x51, bytes(4))
                self._fragment_bytes = (struct.unpack(">I", longest)[0] or 131072) - 12

    def _exactly(self, size: int) -> bytes:
        got = bytearray()
        while len(got) < size:
            try:
                chunk = self.socket.recv(size - len(got))
            except TimeoutError as error:
                raise NoAnswerError("no answer in time") from error
            except OSError as error:
                raise AssociationEndedError(str(error)) from error
            if not chunk:
                raise AssociationEndedError("the peer hung up")
            got += chunk
        return bytes(got)


def connected(port: int, timeout_s: float) -> socket.socket:
    """Connect to a port of this machine.

    Raises
    ------
    AssociationEndedError
        Nobody listens.
    """
    try:
        connection = socket.create_connection(("127.0.0.1", port), timeout_s)
    except OSError as error:
        raise AssociationEndedError(str(error)) from error
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def status_of(command: bytes) -> int:
    """Read the status (0000,0900) of an encoded command set."""
    return command_value(command, 0x0900)


def command_value(command: bytes, number: int) -> int:
    """Read a US element of an encoded command set; -1 when it is not there."""
    offset = 0
    while offset + 8 <= len(command):
        group, tag, length = struct.unpack_from("<HHI", command, offset)
        if (group, tag) == (0, number):
            value: int = struct.unpack_from("<H", command, offset + 8)[0]
            return value
        offset += 8 + length
    return -1


def _items(data: bytes) -> Iterable[tuple[int, bytes]]:
    offset = 0
    while offset + 4 <= len(data):
        kind, _, length = struct.unpack_from(">BBH", data, offset)
        yield kind, data[offset + 4 : offset + 4 + length]
        offset += 4 + length


def _proposed(context_id: int, abstract_syntax: str, transfer_syntaxes: Sequence[str]) -> bytes:
    syntaxes = b"".join(item(0x40, _raw(syntax)) for syntax in transfer_syntaxes)
    return item(0x20, bytes((context_id, 0, 0, 0)) + item(0x30, _raw(abstract_syntax)) + syntaxes)


def _command_element(number: int, value: Text | int) -> bytes:
    raw = struct.pack("<H", value) if isinstance(value, int) else _raw(value)
    raw += bytes(len(raw) % 2)
    return struct.pack("<HHI", 0, number, len(raw)) + raw


def _raw(value: Text) -> bytes:
    return value if isinstance(value, bytes) else value.encode("utf-8")
