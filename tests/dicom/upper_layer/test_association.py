"""The acceptor against a peer that is made of bytes."""

import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.dicom.wire import (
    ABORT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    CONTEXTS,
    LAST,
    P_DATA,
    RELEASE_RP,
    STORE_CONTEXT,
    AssociationEndedError,
    WireSender,
    associate_rq,
    command_set,
    connected,
    echo_rq,
    instance,
    p_data,
    pdu,
    release_rq,
    store_rq,
)

SERIES = "1.2.826.0.1.3680043.8.498.2"


def answer(connection: socket.socket) -> tuple[int, bytes]:
    """Give type and body of the next PDU; type 0 when the peer hangs up instead."""
    header = _exactly(connection, 6)
    if len(header) < 6:
        return 0, b""
    kind, length = struct.unpack(">BxL", header)
    return kind, _exactly(connection, length)


def _exactly(connection: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size and (chunk := connection.recv(size - len(got))):
        got += chunk
    return got


@pytest.fixture
def wire(intake: Any) -> Iterator[WireSender]:
    with WireSender(intake.receiver.port) as sender:
        yield sender


def test_echo_store_release(intake: Any, wire: WireSender) -> None:
    assert wire.echo() == 0
    assert wire.store(f"{SERIES}.1", instance(f"{SERIES}.1", SERIES)) == 0
    wire.release()
    assert [path.name for path in intake.spool.series_files(SERIES)] == [f"{SERIES}.1.dcm"]


def test_each_proposed_context_gets_its_result(intake: Any) -> None:
    ct, unknown = "1.2.840.10008.5.1.4.1.1.2", "1.2.3.4"
    implicit, unheard = "1.2.840.10008.1.2", "1.2.3.5"
    with connected(intake.receiver.port, 10) as connection:
        connection.sendall(associate_rq([(1, ct, (unheard, implicit)), (3, ct, (unheard,)), (5, unknown, (implicit,))]))
        kind, body = answer(connection)
    assert kind == ASSOCIATE_AC
    results, offset = {}, 68
    while offset < len(body):
        item, length = struct.unpack_from(">BxH", body, offset)
        if item == 0x21:
            results[body[offset + 4]] = body[offset + 6]
        offset += 4 + length
    # PS3.8 Table 9-18: acceptance, transfer-syntaxes-not-supported, abstract-syntax-not-supported
    assert results == {1: 0, 3: 4, 5: 3}


def test_a_message_in_many_tiny_fragments_is_one_message(intake: Any, wire: WireSender) -> None:
    data_set = instance(f"{SERIES}.7", SERIES)
    for fragment in store_rq(1, f"{SERIES}.7", data_set, fragment_bytes=3):
        wire.send(fragment)
    kind, _ = wire.receive()
    assert kind == P_DATA
    (path,) = intake.spool.series_files(SERIES)
    assert path.read_bytes().endswith(data_set)


def test_several_pdvs_in_one_pdu(wire: WireSender, intake: Any) -> None:
    data_set = instance(f"{SERIES}.8", SERIES)
    pdvs = b"".join(one[6:] for one in store_rq(1, f"{SERIES}.8", data_set, fragment_bytes=100))
    wire.send(pdu(P_DATA, pdvs))
    assert wire.receive()[0] == P_DATA
    assert len(intake.spool.series_files(SERIES)) == 1


COMMAND = command_set({0x0002: "1.2.840.10008.1.1", 0x0100: 0x0030, 0x0110: 1, 0x0800: 0x0101})
BROKEN = {
    "a data set without a command": p_data(STORE_CONTEXT, LAST, b"1234"),
    "a context that was not accepted": p_data(99, 3, COMMAND),
    "a PDV that is longer than its PDU": pdu(P_DATA, struct.pack(">LBB", 5000, 1, 3) + b"x"),
    "a PDV without room for its header": pdu(P_DATA, struct.pack(">LBB", 0, 1, 3)),
    "a PDU that ends within a header": pdu(P_DATA, b"\0\0"),
    "a command that is none": p_data(1, 3, b"\xff" * 40),
    "a command that ends early": p_data(1, 3, COMMAND[:-3]),
    "a command without a field": p_data(1, 3, command_set({0x0110: 1, 0x0800: 0x0101})),
    "a command of 100 kB": p_data(1, 1, bytes(100_000)),
    "a command that never ends": b"".join(p_data(1, 1, bytes(8000)) for _ in range(4)),
    "two contexts in one message": p_data(1, 1, COMMAND[:10]) + p_data(3, 3, COMMAND[10:]),
    "a second association request": associate_rq(),
    "a PDU of no known type": pdu(0x4A, b"hello"),
    "a release of 4 GB": struct.pack(">BxL", 5, 2**32 - 1),
}


@pytest.mark.parametrize("sent", BROKEN.values(), ids=BROKEN.keys())
def test_what_breaks_the_rules_is_aborted_and_costs_nobody_else(intake: Any, sent: bytes) -> None:
    with WireSender(intake.receiver.port) as bystander, WireSender(intake.receiver.port) as hostile:
        hostile.send(sent)
        kind, _ = hostile.receive()
        assert kind == ABORT
        with pytest.raises(AssociationEndedError):
            hostile.receive()
        assert bystander.echo() == 0
    with WireSender(intake.receiver.port) as after:
        assert after.store("1.2.3.1", instance("1.2.3.1", "1.2.3")) == 0


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", {ABORT, 0}),
        (release_rq(), {ABORT}),
        (struct.pack(">BxL", 1, 2**31), {ABORT}),
        (pdu(1, b"\xff" * 200), {ABORT, ASSOCIATE_RJ}),
        (pdu(1, b""), {ABORT}),
        (associate_rq(calling="EVIL\nLOG LINE"), {ABORT}),
        (associate_rq(calling=" "), {ABORT}),
        (associate_rq(contexts=[(1, "1.2.840.10008.1.1", ())]), {ABORT}),
        (associate_rq(contexts=[(2, "1.2.840.10008.1.1", ("1.2.840.10008.1.2",))]), {ABORT}),
        (associate_rq(contexts=[(1, "no UID", ("neither",))]), {ASSOCIATE_AC}),
        (associate_rq().replace(b"1.2.840.10008.3.1.1.1", b"1.2.840.10008.3.1.1.2"), {ASSOCIATE_RJ}),
    ],
    ids=[
        *("http", "release", "huge", "ones", "empty", "newline", "nameless"),
        *("no syntax", "even context", "odd names", "application context"),
    ],
)
def test_a_first_pdu_that_is_no_request_is_refused(intake: Any, first: bytes, expected: set[int]) -> None:
    with connected(intake.receiver.port, 10) as connection:
        connection.sendall(first)
        assert answer(connection)[0] in expected
    with WireSender(intake.receiver.port) as after:
        assert after.echo() == 0


def test_an_unknown_operation_is_answered_and_the_association_lives(wire: WireSender) -> None:
    find = command_set({0x0002: "1.2.840.10008.5.1.4.1.2.2.1", 0x0100: 0x0020, 0x0110: 9, 0x0800: 0x0001})
    wire.send(p_data(STORE_CONTEXT, 3, find) + p_data(STORE_CONTEXT, 2, b"\x08\x00\x52\x00CS\x06\x00STUDY "))
    kind, body = wire.receive()
    assert kind == P_DATA
    assert b"\x00\x00\x00\x09\x02\x00\x00\x00\x11\x02" in body  # (0000,0900) Status 0x0211, PS3.7 C.5.24
    assert wire.echo() == 0


def test_a_cancel_is_not_answered(wire: WireSender) -> None:
    wire.send(p_data(1, 3, command_set({0x0100: 0x0FFF, 0x0120: 1, 0x0800: 0x0101})))
    assert wire.echo() == 0


def test_two_requests_in_one_packet_get_two_answers(wire: WireSender) -> None:
    wire.send(b"".join(echo_rq(1) + echo_rq(2) + [release_rq()]))
    assert [wire.receive()[0] for _ in range(3)] == [P_DATA, P_DATA, RELEASE_RP]


def test_a_connection_that_asks_for_nothing_is_closed_in_time(start_intake: Any) -> None:
    intake = start_intake(request_timeout_s=0.3)
    request = associate_rq()
    for begun in (b"", request[:3], request[:50]):
        with connected(intake.receiver.port, 10) as connection:
            connection.sendall(begun)
            started = time.monotonic()
            assert answer(connection)[0] == 0
            assert time.monotonic() - started < 5


BEGUN = store_rq(1, "1.2.3", bytes(5000))


@pytest.mark.parametrize(
    "sent", [b"", BEGUN[0], BEGUN[0] + BEGUN[1][:99]], ids=["nothing", "a command", "a part of a PDU"]
)
def test_a_peer_that_falls_silent_is_aborted(start_intake: Any, eventually: Any, sent: bytes) -> None:
    intake = start_intake(network_timeout_s=0.3)
    with WireSender(intake.receiver.port) as sender:
        sender.send(sent)
        assert sender.receive()[0] == ABORT
    eventually(lambda: not list((intake.spool.root / "incoming").iterdir()))


def test_a_trickle_within_one_pdu_does_not_prolong_it(start_intake: Any) -> None:
    intake = start_intake(network_timeout_s=1.0)
    command, data = store_rq(1, "1.2.3.1", instance("1.2.3.1", "1.2.3", pixels=bytes(8000)))
    ended = threading.Event()
    with WireSender(intake.receiver.port) as slow:

        def trickle() -> None:
            for position in range(len(data)):
                try:
                    slow.socket.sendall(data[position : position + 1])
                except OSError:
                    break
                if ended.wait(0.1):
                    break

        slow.send(command)
        started = time.monotonic()
        thread = threading.Thread(target=trickle)
        thread.start()
        assert slow.receive()[0] == ABORT
        assert time.monotonic() - started < 5
        ended.set()
        thread.join()


def test_connections_that_ask_for_nothing_give_way(intake: Any) -> None:
    idle = [connected(intake.receiver.port, 10) for _ in range(200)]
    with WireSender(intake.receiver.port) as sender:
        assert sender.store("1.2.3.1", instance("1.2.3.1", "1.2.3")) == 0
    assert answer(idle[0])[0] == 0  # the oldest
    for connection in idle:
        connection.close()


def test_one_peer_cannot_take_every_association(start_intake: Any) -> None:
    intake = start_intake(max_associations=4, max_associations_per_peer=2)
    port = intake.receiver.port
    with WireSender(port, calling="GREEDY"), WireSender(port, calling="GREEDY"):
        with WireSender(port, calling="GREEDY") as third:
            assert third.rejected is not None
            assert third.rejected.result == 2
        with WireSender(port, calling="OTHER") as other:
            assert other.echo() == 0


@pytest.mark.parametrize(("networks", "is_served"), [(["127.0.0.0/8"], True), (["::1"], False), (["10.1.2.3"], False)])
def test_only_the_named_addresses_may_connect(start_intake: Any, networks: list[str], is_served: bool) -> None:
    intake = start_intake(source_addresses=networks)
    with connected(intake.receiver.port, 10) as connection:
        try:
            connection.sendall(associate_rq(CONTEXTS))
            kind = answer(connection)[0]
        except ConnectionError:
            kind = 0
    assert kind == (ASSOCIATE_AC if is_served else 0)


def test_private_sop_classes_come_in_only_by_name(start_intake: Any) -> None:
    private = "1.3.12.2.1107.5.9.1"
    contexts = [(3, private, ("1.2.840.10008.1.2.1",))]
    data_set = instance("1.2.3.1", "1.2.3", sop_class_uid=private)
    closed = start_intake()
    with WireSender(closed.receiver.port, contexts=contexts) as sender:
        assert sender.accepted == set()
    closed.receiver.stop()
    opened = start_intake(extra_sop_classes=(private,))
    with WireSender(opened.receiver.port, contexts=contexts) as sender:
        assert sender.accepted == {3}
        assert sender.store("1.2.3.1", data_set, sop_class_uid=private) == 0
