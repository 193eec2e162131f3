"""A full disk: the right status, nothing lost, new associations turned away for now, and then on it goes."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.benchmarks.bars import Board
from tests.benchmarks.receive.objects import series_uid, write_series
from tests.benchmarks.receive.peers import Peer, receiver, storescu, tool
from tests.benchmarks.receive.stored import digest, ledger_disagrees, stored_digests, stored_files, unfinished_files
from tests.dicom.wire import AssociationEndedError, Rejected, WireSender, instance

OUT_OF_RESOURCES = 0xA700  # PS3.4 Table B.2-1
TRANSIENT = 2  # PS3.8 Table 9-21
_MEGABYTE = 2**20
_DISK_MB, _BALLAST_MB = 64, 24
_RESUMED_WITHIN_S = 15.0


@dataclass
class Filling:
    """One association that sends until the disk is full, and after."""

    series: str
    sender: WireSender
    stored: dict[str, str] = field(default_factory=dict)
    number: int = 0

    def send(self) -> int:
        """Send one more instance of 0.5 MB; the same again after a failure."""
        uid = f"{self.series}.{self.number + 1}"
        dataset = instance(uid, self.series, pixels=os.urandom(2**19))
        status = self.sender.store(uid, dataset)
        if status == 0:
            self.number += 1
            self.stored[uid] = digest(dataset)
        return status


def disk(board: Board) -> None:
    """Fill a small tmpfs, once down to the low water mark and once to the last byte."""
    with small_disk(board.scratch / "small") as reason:
        if reason:
            board.skip("receive-disk-full", reason)
            return
        marks = {"low-water": {"min_free_mb": 6, "reject_below_free_mb": 12}}
        marks |= {"last-byte": {"min_free_mb": 0, "reject_below_free_mb": 0}}
        for number, (name, settings) in enumerate(marks.items()):
            home = board.scratch / "small" / name
            with receiver(home, **settings) as peer:
                _fill_and_free(board, peer, name, 5_000_000 + number, rejects=settings["reject_below_free_mb"] > 0)
            subprocess.run(["rm", "-rf", str(home)], check=True)


@contextmanager
def small_disk(folder: Path) -> Iterator[str]:
    """Mount a tmpfs; gives the reason when that cannot be done."""
    folder.mkdir()
    mount = tool("mount")
    if mount is None or os.geteuid():
        yield "a small file system cannot be mounted here (needs root)"
        return
    done = subprocess.run(
        [mount, "-t", "tmpfs", "-o", f"size={_DISK_MB}m", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if done.returncode:
        yield f"a small file system cannot be mounted here: {done.stderr.strip()}"
        return
    try:
        yield ""
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _fill_and_free(board: Board, peer: Peer, name: str, series: int, *, rejects: bool) -> None:
    ballast = peer.home.parent / "ballast"
    ballast.write_bytes(bytes(_BALLAST_MB * _MEGABYTE))
    with WireSender(peer.port, calling="FILLER") as sender:
        filling = Filling(series_uid(series), sender)
        statuses = [filling.send() for _ in range(2 * _DISK_MB)]
        refused = [status for status in statuses if status]
        board.detail(f"{name}: {len(filling.stored)} stored, then {sorted({f'0x{status:04X}' for status in refused})}")
        wrong = [status for status in refused if status != OUT_OF_RESOURCES]
        board.bar(f"receive-disk-{name}-refused", len(refused), ">=", 1)
        board.bar(f"receive-disk-{name}-wrong-status", len(wrong), "=", 0)
        board.bar(f"receive-disk-{name}-echo-on-the-same-association", sender.echo(), "=", 0)
        if rejects:
            _see_rejected(board, peer, name)
        ballast.unlink()
        resumed = _seconds_until_resumed(filling)
        board.bar(f"receive-disk-{name}-resumed-after-s", resumed, "<=", _RESUMED_WITHIN_S)
        _see_accepted(board, peer, name, series)
        _count_lost(board, peer, name, filling)
        sender.release()


def _see_rejected(board: Board, peer: Peer, name: str) -> None:
    """New associations are rejected as transient, for storescu too."""
    board.bar(f"receive-disk-{name}-new-association-rejected-transient", _rejection(peer).result, "=", TRANSIENT)
    folder = board.scratch / "rejected"
    if not folder.exists():
        write_series(folder, 5_999_999, 1)
    board.bar(f"receive-disk-{name}-storescu-exit-status", storescu(peer.port, folder).returncode, ">=", 1)


def _see_accepted(board: Board, peer: Peer, name: str, series: int) -> None:
    # The ballast is more than the high water mark: what a sender does next must work.
    folder = write_series(board.scratch / f"accepted-{name}", series + 100, 3)
    ended = storescu(peer.port, folder)
    there = len(stored_files(peer.home, series_uid(series + 100)))
    board.bar(f"receive-disk-{name}-new-association-stored", there if ended.returncode == 0 else 0, "=", 3)


def _rejection(peer: Peer) -> Rejected:
    with WireSender(peer.port) as sender:
        return sender.rejected or Rejected(0, 0, 0)


def _seconds_until_resumed(filling: Filling) -> float:
    started = time.monotonic()
    try:
        while filling.send():
            if time.monotonic() - started > 2 * _RESUMED_WITHIN_S:
                break
            time.sleep(0.1)
    except AssociationEndedError:
        return float("nan")
    return time.monotonic() - started


def _count_lost(board: Board, peer: Peer, name: str, filling: Filling) -> None:
    stored = stored_digests(peer.home, [filling.series])
    lost = [uid for uid, expected in filling.stored.items() if stored.get(uid) != expected]
    board.bar(f"receive-disk-{name}-lost", len(lost), "=", 0)
    board.bar(f"receive-disk-{name}-torn-or-unasked", len(set(stored) - set(filling.stored)), "=", 0)
    board.bar(f"receive-disk-{name}-left-in-incoming", len(unfinished_files(peer.home)), "=", 0)
    board.bar(f"receive-disk-{name}-ledger-miscounted", len(ledger_disagrees(peer.home, [filling.series])), "=", 0)
    board.bar(f"receive-disk-{name}-deaths", int(not peer.is_alive()), "=", 0)
