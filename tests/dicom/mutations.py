"""Valid associations with a seeded fault in them, and data sets with one; made of bytes (see `wire`).

``mutated_association(seed)`` and ``mutated_dataset(seed)`` always give the same for the same seed.
"""

import random
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.dicom import wire
from tests.dicom.wire import AssociationEndedError

SERIES_UID = "1.2.826.0.1.3680043.8.498.88"
_PROPER_ANSWER_S = 30.0
_INTERESTING = (0, 1, 2, 3, 4, 5, 7, 8, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1)
_VRS = (b"SQ", b"UN", b"OB", b"OW", b"UI", b"US", b"FD", b"AT", b"PN", b"UT", b"UC", b"ZZ", b"\0\0", b"\xff\xff")
_CHARSETS = (
    "ISO_IR 100",
    "ISO 2022 IR 87",
    "\\ISO 2022 IR 149",
    "GB18030",
    "ISO_IR 192",
    "nonsense",
    "\\" * 60,
    "../x",
)


@dataclass(frozen=True)
class MutatedAssociation:
    """PDUs to send one after the other.

    Attributes
    ----------
    valid
        How many PDUs at the beginning are as they should be; those are answered as they should be.
    answered
        Whether a PDU ends something that the peer answers: a request, a message, a release.
    """

    pdus: tuple[bytes, ...]
    answered: tuple[bool, ...]
    valid: int


@dataclass(frozen=True)
class Outcome:
    """How a peer took a mutated association.

    Attributes
    ----------
    served
        Whether it answered what was valid.
    ended
        Whether it ended the connection soon after the sender had ended its side.
    """

    served: bool
    ended: bool


def mutated_association(seed: int) -> MutatedAssociation:
    """Make an association that breaks a rule at one PDU, or at several from there on."""
    draw = random.Random(f"association {seed}")
    pdus, answered = _valid_association(draw, seed)
    at = draw.randrange(len(pdus))
    if draw.random() < 0.25:
        rest, rest_answered = _SEQUENCE_FAULTS[draw.randrange(len(_SEQUENCE_FAULTS))](draw, pdus, answered, at)
        pdus, answered = pdus[:at] + rest, answered[:at] + rest_answered
    else:
        pdus[at] = _PDU_FAULTS[draw.randrange(len(_PDU_FAULTS))](draw, pdus[at])
        for later in range(at + 1, len(pdus)):
            if draw.random() < 0.1:
                pdus[later] = damaged(draw, pdus[later])
    return MutatedAssociation(tuple(pdus), tuple(answered), at)


def mutated_dataset(seed: int) -> tuple[str, bytes]:
    """Make a data set with faults in it; gives the SOP Instance UID that the command should name, too."""
    draw = random.Random(f"dataset {seed}")
    uid = f"{SERIES_UID}.2.{seed + 1}"
    encoded = _rich_instance(draw, uid)
    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        encoded = _DATASET_FAULTS[draw.randrange(len(_DATASET_FAULTS))](draw, encoded)
    return uid, encoded


def play(port: int, association: MutatedAssociation, patience_s: float = 1.0) -> Outcome:
    """Send an association: politely as long as it is valid, at once from there on, then end our side.

    Raises
    ------
    AssociationEndedError
        Nobody listens any more.
    """
    with wire.connected(port, _PROPER_ANSWER_S) as connection:
        served = _play_valid(connection, association)
        connection.settimeout(patience_s)
        try:
            if served:
                connection.sendall(b"".join(association.pdus[association.valid :]))
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            return Outcome(served, ended=True)
        return Outcome(served, _drained(connection, patience_s))


def damaged(draw: random.Random, data: bytes) -> bytes:
    """Damage bytes anywhere."""
    return _BYTE_FAULTS[draw.randrange(len(_BYTE_FAULTS))](draw, data)


def _play_valid(connection: socket.socket, association: MutatedAssociation) -> bool:
    try:
        for index in range(association.valid):
            connection.sendall(association.pdus[index])
            if association.answered[index]:
                length = struct.unpack(">2xI", _exactly(connection, 6))[0]
                _exactly(connection, length)
    except OSError:
        return False
    return True


def _exactly(connection: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size:
        chunk = connection.recv(size - len(got))
        if not chunk:
            raise ConnectionResetError("the peer hung up")
        got += chunk
    return got


def _drained(connection: socket.socket, patience_s: float) -> bool:
    """Read until the peer hangs up; tell whether it did."""
    deadline = time.monotonic() + patience_s
    try:
        while time.monotonic() < deadline:
            if not connection.recv(65536):
                return True
    except TimeoutError:
        return False
    except OSError:
        return True
    return False


def _valid_association(draw: random.Random, seed: int) -> tuple[list[bytes], list[bool]]:
    pdus, answered = [wire.associate_rq(calling=f"MUTANT{seed % 7}")], [True]
    for message_id in range(1, draw.randint(2, 4)):
        if draw.random() < 0.3:
            message = wire.echo_rq(message_id)
        else:
            uid = f"{SERIES_UID}.1.{seed + 1}.{message_id}"
            dataset = wire.instance(uid, f"{SERIES_UID}.1", pixels=draw.randbytes(draw.choice((64, 1000, 40_000))))
            message = wire.store_rq(message_id, uid, dataset, fragment_bytes=draw.choice((100, 4000, 16000)) * 10)
        pdus += message
        answered += [False] * (len(message) - 1) + [True]
    if draw.random() < 0.7:
        return [*pdus, wire.release_rq()], [*answered, True]
    return [*pdus, wire.abort()], [*answered, False]


def _rich_instance(draw: random.Random, uid: str) -> bytes:
    """Encode a small CT image with a character set, a nested sequence and private elements."""
    head = wire.element(0x00080005, "CS", "ISO_IR 100")
    inner = wire.element(0x00080100, "SH", "T-04000") + wire.element(0x00080104, "LO", "Breast")
    nested = wire.element(
        0x00082218, "SQ", _sequence_item(inner + wire.element(0x00081140, "SQ", _sequence_item(inner)))
    )
    private = wire.element(0x00290010, "LO", "ACME") + wire.element(0x00291001, "UN", draw.randbytes(20))
    image = wire.instance(uid, f"{SERIES_UID}.2", pixels=draw.randbytes(256))
    split = image.index(struct.pack("<HH", 0x0010, 0x0010))
    tail = image.index(struct.pack("<HH", 0x7FE0, 0x0010))
    return head + image[:split] + nested + image[split:tail] + private + image[tail:]


def _sequence_item(content: bytes) -> bytes:
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(content)) + content


def _flip_bits(draw: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.choice((1, 2, 8, 64))):
        if changed:
            changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _write_number(draw: random.Random, data: bytes) -> bytes:
    """Put a number that is often not thought of where a length, a type or a count may be."""
    form = draw.choice(("B", ">H", "<H", ">I", "<I"))
    size = struct.calcsize(form)
    at = min(draw.choice((draw.randrange(len(data) + 1), draw.randrange(200))), max(len(data) - size, 0))
    number = draw.choice(_INTERESTING) & (256**size - 1)
    return data[:at] + struct.pack(form, number) + data[at + size :]


def _cut(draw: random.Random, data: bytes) -> bytes:
    return data[: draw.randrange(len(data) + 1)]


def _remove(draw: random.Random, data: bytes) -> bytes:
    at = draw.randrange(len(data) + 1)
    return data[:at] + data[at + draw.choice((1, 2, 4, 16, 100)) :]


def _insert(draw: random.Random, data: bytes) -> bytes:
    at = draw.randrange(len(data) + 1)
    return data[:at] + draw.choice((draw.randbytes(draw.choice((1, 7, 300))), b"\0" * 64, b"\xff" * 64)) + data[at:]


def _repeat(draw: random.Random, data: bytes) -> bytes:
    start = draw.randrange(len(data) + 1)
    piece = data[start : start + draw.choice((4, 50, 500))]
    return data[:start] + piece * draw.choice((2, 20, 200)) + data[start:]


def _noise(draw: random.Random, data: bytes) -> bytes:
    return draw.randbytes(draw.choice((0, 1, 5, 6, 100, len(data))))


_BYTE_FAULTS: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    *(_flip_bits, _flip_bits, _write_number, _write_number, _write_number),
    *(_cut, _remove, _insert, _repeat, _noise),
)


def _set_length(draw: random.Random, data: bytes) -> bytes:
    """Let a PDU claim another length than it has (PS3.8 9.3.1)."""
    close = len(data) - 6 + draw.choice((-7, -1, 1, 2, 6))
    length = draw.choice((*_INTERESTING, close)) & 0xFFFFFFFF
    return data[:2] + struct.pack(">I", length) + data[6:]


def _set_type(draw: random.Random, data: bytes) -> bytes:
    return bytes((draw.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 0x16, 0x47, 0xFF)),)) + data[1:]


def _fitting(fault: Callable[[random.Random, bytes], bytes]) -> Callable[[random.Random, bytes], bytes]:
    """Damage the body of a PDU and let its length fit again, so that the fault gets past the first check."""

    def apply(draw: random.Random, data: bytes) -> bytes:
        body = fault(draw, data[6:])
        return data[:2] + struct.pack(">I", len(body)) + body

    return apply


def _damage_items(draw: random.Random, data: bytes) -> bytes:
    """Damage what begins after the fixed fields of an A-ASSOCIATE-RQ, or after a PDV's length."""
    fixed = 74 if data[:1] == b"\x01" else 10
    return data[:fixed] + damaged(draw, data[fixed:])


def _set_context(draw: random.Random, data: bytes) -> bytes:
    """Set context ID and control header of a PDV (PS3.8 9.3.5.1)."""
    return data[:10] + bytes((draw.choice((0, 1, 2, 3, 5, 255)), draw.choice((0, 1, 2, 3, 4, 255)))) + data[12:]


def _many_contexts(draw: random.Random, _data: bytes) -> bytes:
    """Propose more presentation contexts than there are numbers for (PS3.8 9.3.2.2), or odd ones."""
    count = draw.choice((128, 129, 400, 1500))
    syntaxes = [wire.EXPLICIT] * draw.choice((0, 1, 30))
    contexts = [(number % 256, draw.choice((wire.CT_IMAGE_STORAGE, "", "1" * 70)), syntaxes) for number in range(count)]
    return wire.associate_rq(contexts)


_PDU_FAULTS: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    *(damaged, _fitting(damaged), _fitting(_flip_bits), _fitting(_write_number), _fitting(_cut)),
    *(_damage_items, _fitting(_damage_items), _set_length, _set_type, _set_context, _many_contexts),
)

_Rest = tuple[list[bytes], list[bool]]


def _dropped(_draw: random.Random, pdus: list[bytes], answered: list[bool], at: int) -> _Rest:
    return pdus[at + 1 :], answered[at + 1 :]


def _doubled(draw: random.Random, pdus: list[bytes], answered: list[bool], at: int) -> _Rest:
    times = draw.choice((2, 50))
    return [pdus[at]] * times + pdus[at + 1 :], [answered[at]] * times + answered[at + 1 :]


def _shuffled(draw: random.Random, pdus: list[bytes], answered: list[bool], at: int) -> _Rest:
    order = draw.sample(range(at, len(pdus)), len(pdus) - at)
    return [pdus[index] for index in order], [answered[index] for index in order]


def _intruding(draw: random.Random, pdus: list[bytes], answered: list[bool], at: int) -> _Rest:
    """Put a PDU of another state in between."""
    strangers = (wire.associate_rq(), wire.release_rq(), wire.pdu(wire.RELEASE_RP, bytes(4)), wire.abort())
    strangers += (wire.pdu(wire.ASSOCIATE_AC, wire.associate_rq()[6:]), wire.pdu(wire.ASSOCIATE_RJ, b"\0\1\1\1"))
    return [draw.choice(strangers), *pdus[at:]], [False, *answered[at:]]


def _endless_command(draw: random.Random, _pdus: list[bytes], _answered: list[bool], _at: int) -> _Rest:
    """Send fragments of a command set that does not end."""
    count = draw.choice((10, 200))
    return [wire.p_data(wire.STORE_CONTEXT, wire.COMMAND, draw.randbytes(16000))] * count, [False] * count


_SEQUENCE_FAULTS: tuple[Callable[[random.Random, list[bytes], list[bool], int], _Rest], ...] = (
    *(_dropped, _doubled, _shuffled, _intruding, _endless_command),
)


def _set_vr(draw: random.Random, encoded: bytes) -> bytes:
    found = [
        at
        for at in range(len(encoded) - 1)
        if encoded[at : at + 2] in {b"UI", b"SQ", b"LO", b"CS", b"PN", b"US", b"OW"}
    ]
    at = draw.choice(found or [0])
    return encoded[:at] + draw.choice(_VRS) + encoded[at + 2 :]


def _set_charset(draw: random.Random, encoded: bytes) -> bytes:
    names = wire.element(0x00080005, "CS", draw.choice(_CHARSETS))
    person = wire.element(0x00100010, "PN", draw.randbytes(40))
    return names + encoded[18:] + person


def _nest(draw: random.Random, encoded: bytes) -> bytes:
    """Open sequences of undefined length inside each other and close none."""
    opening = b"\x09\x00\x10\x10SQ\x00\x00\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    at = draw.choice((0, len(encoded) // 2, len(encoded)))
    return encoded[:at] + opening * draw.choice((1, 30, 3000)) + encoded[at:]


def _drop_element(draw: random.Random, encoded: bytes) -> bytes:
    """Leave out one of the elements that an instance is filed by."""
    for tag in draw.sample(((8, 0x16), (8, 0x18), (0x20, 0x0D), (0x20, 0x0E)), 4):
        at = encoded.find(struct.pack("<HH", *tag))
        if at >= 0:
            return encoded[:at] + encoded[at + 8 + int.from_bytes(encoded[at + 6 : at + 8], "little") :]
    return encoded


_DATASET_FAULTS: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    *(damaged, damaged, _flip_bits, _write_number, _set_vr, _set_charset, _nest, _drop_element),
)


def store_mutated(sender: wire.WireSender, seed: int) -> int | None:
    """Send a mutated data set on an open association; None when the peer ended that over it."""
    uid, encoded = mutated_dataset(seed)
    try:
        return sender.store(uid, encoded)
    except AssociationEndedError:
        return None
