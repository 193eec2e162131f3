"""Resident memory of the receiver while much arrives, and while one large object does."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.benchmarks.bars import Board
from tests.benchmarks.receive.objects import write_multiframe, write_split
from tests.benchmarks.receive.peers import Peer, receiver, storescu
from tests.benchmarks.receive.stored import file_digest, sent_digests, stored_digests, stored_files

LIMIT_MB = 200.0
INSTANCES, SENDERS = 2000, 4
_EVERY_S = 0.02


@dataclass
class Resident:
    """Resident bytes before, and the most since."""

    before: int
    most: int

    @property
    def growth_mb(self) -> float:
        return (self.most - self.before) / 10**6


@contextmanager
def watched(peer: Peer) -> Iterator[Resident]:
    """Look at a peer's memory all the time until the block ends."""
    before = peer.resident_bytes()
    resident = Resident(before, before)
    over = threading.Event()

    def look() -> None:
        while not over.wait(_EVERY_S):
            try:
                resident.most = max(resident.most, peer.resident_bytes())
            except psutil.Error:
                return  # it has died, which others will tell

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield resident
    finally:
        over.set()
        thread.join()


def memory(board: Board) -> None:
    """Measure growth over 2,000 instances and over multi-frame objects of 500 MB and 1 GB."""
    folders = write_split(board.scratch / "many", 2000, SENDERS, INSTANCES)
    with receiver(board.scratch / "memory-many") as peer, watched(peer) as resident:
        _send_all(peer, folders)
        if stored_digests(peer.home) != sent_digests(folders):
            raise RuntimeError("the spool does not hold what was sent")
    board.detail(f"{resident.before / 10**6:.0f} MB before, at most {resident.most / 10**6:.0f} MB")
    board.bar(f"receive-{INSTANCES}-instances-memory-mb", resident.growth_mb, "<", LIMIT_MB)
    board.bar("receive-500-mb-multiframe-memory-mb", _multiframe(board, 500), "<", LIMIT_MB)
    board.bar("receive-1-gb-multiframe-memory-mb", _multiframe(board, 1000), "<", LIMIT_MB)


def _send_all(peer: Peer, folders: list[Path]) -> None:
    failures: list[str] = []

    def send(folder: Path) -> None:
        ended = storescu(peer.port, folder)
        if ended.returncode:
            failures.append(ended.stderr[-1000:])

    threads = [threading.Thread(target=send, args=(folder,)) for folder in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise RuntimeError(f"storescu: {failures[0]}")


def _multiframe(board: Board, megabytes: int) -> float:
    path = write_multiframe(board.scratch / "multiframe" / f"{megabytes}.dcm", 3000 + megabytes, megabytes)
    with receiver(board.scratch / f"memory-{megabytes}") as peer:
        with watched(peer) as resident:
            ended = storescu(peer.port, path)
        if ended.returncode:
            raise RuntimeError(f"storescu: {ended.stderr[-1000:]}")
        (stored,) = stored_files(peer.home)
        if file_digest(stored) != file_digest(path):
            raise RuntimeError("the spool holds another object than was sent")
        stored.unlink()
    path.unlink()
    return resident.growth_mb
