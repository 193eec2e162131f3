"""A hundred connections that want nothing, or want it very slowly, beside one sender that works."""

import itertools
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.benchmarks.bars import Board
from tests.benchmarks.receive.objects import write_series
from tests.benchmarks.receive.peers import Peer, receiver, storescu
from tests.benchmarks.receive.stored import sent_digests, stored_digests
from tests.dicom.wire import WireSender, associate_rq, connected, store_rq

# The median of 5 turns was seen to swing by a tenth about 1; that of 11 says what is there.
OBJECTS, REPEATS, CROWD = 400, 11, 100
_SERIES = "1.2.826.0.1.3680043.8.498.66"


def crowd(board: Board) -> None:
    """Compare a sender's throughput with and without the crowd, in turns; medians count."""
    folder = write_series(board.scratch / "crowd", 6_000_000, OBJECTS)
    raised = {"max_associations": 200, "max_associations_per_peer": 200}
    _compare(board, folder, "receive-crowd", raised, with_association=CROWD // 2)
    # As it comes: a crowd with one AE title and address gets as far as the limit per peer, and no further.
    _compare(board, folder, "receive-crowd-default-limits", {}, with_association=10)


def _compare(board: Board, folder: Path, name: str, settings: dict[str, int], with_association: int) -> None:
    rates: dict[bool, list[float]] = {False: [], True: []}
    failures = 0
    sent = sent_digests([folder])
    for turn, crowded in itertools.product(range(REPEATS), (False, True)):
        home = board.scratch / name / f"{turn}-{crowded}"
        with receiver(home, **settings) as peer, ExitStack() as standing:
            if crowded:
                standing.enter_context(gathered(peer, with_association))
            os.sync()
            started = time.monotonic()
            ended = storescu(peer.port, folder)
            seconds = time.monotonic() - started
            stored = stored_digests(home)
            rates[crowded].append(len(stored) / seconds)
            failures += ended.returncode != 0 or stored != sent
    for crowded, measured in rates.items():
        board.detail(f"{'crowded' if crowded else 'alone'}: {' '.join(f'{rate:.1f}' for rate in measured)} objects/s")
    ratio = statistics.median(rates[True]) / statistics.median(rates[False])
    board.bar(f"{name}-throughput", ratio, ">=", 0.9)
    board.bar(f"{name}-failures", failures, "=", 0)


@contextmanager
def gathered(peer: Peer, with_association: int) -> Iterator[None]:
    """Hold 100 connections: silent ones, and ones that send a byte a second, each with and without association."""
    over = threading.Event()
    with ExitStack() as open_connections:
        slow: list[Callable[[bytes], object]] = []
        texts: list[bytes] = []
        for number in range(with_association):
            sender = open_connections.enter_context(WireSender(peer.port, calling="CROWD"))
            if sender.rejected is None and number % 2:
                slow.append(sender.socket.sendall)
                texts.append(b"".join(store_rq(1, f"{_SERIES}.{number}", bytes(1000))))
        for number in range(CROWD - with_association):
            connection = open_connections.enter_context(connected(peer.port, 30.0))
            if number % 2:
                slow.append(connection.sendall)
                texts.append(associate_rq(calling="CROWD"))
        thread = threading.Thread(target=_trickle, args=(slow, texts, over))
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def _trickle(slow: list[Callable[[bytes], object]], texts: list[bytes], over: threading.Event) -> None:
    for index in itertools.count():
        for send, text in zip(slow, texts, strict=True):
            try:
                send(text[index : index + 1])
            except OSError:
                continue  # the receiver has had enough of it, as it may
        if over.wait(1.0):
            return
