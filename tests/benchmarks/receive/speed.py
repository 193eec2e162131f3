"""Objects per second: one sender against other receivers, and several senders against one."""

import os
import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.benchmarks.bars import Board
from tests.benchmarks.receive.durability import disk_rate
from tests.benchmarks.receive.objects import write_series, write_split
from tests.benchmarks.receive.peers import Peer, orthanc, orthanc_instances, receiver, storescp, storescu
from tests.benchmarks.receive.stored import sent_digests, stored_digests

OBJECTS, REPEATS, REPEATS_TOGETHER = 400, 3, 5
FAIR_SHARE = 0.5
"""Of an equal share: what the slowest sender must have got through when the fastest is done."""


@dataclass(frozen=True)
class Contestant:
    """A receiver to be measured, and how to see that it has everything."""

    start: Callable[[Path], AbstractContextManager[Peer]]
    nodelay: bool
    check: Callable[[Peer], None]


def one_sender(board: Board) -> None:
    """Measure one storescu against ours, storescp and Orthanc, in turns; medians count."""
    folder = write_series(board.scratch / "one", 1, OBJECTS)
    sent = sent_digests([folder])
    board.info("disk-durable-objects-per-s", disk_rate(board.scratch), "write, fsync, rename, fsync; no network")
    contestants = {
        f"{name}{'-nodelay' if nodelay else ''}": Contestant(start, nodelay, check)
        for nodelay in (False, True)
        for name, start, check in (
            ("ours", receiver, partial(_all_here, sent=sent)),
            ("storescp", partial(storescp, nodelay=nodelay), _storescp_has_all),
            ("orthanc", partial(orthanc, nodelay=nodelay), _orthanc_has_all),
        )
    }
    median = _medians(
        board, contestants, lambda one, name, turn: _one_rate(one, board.scratch / name / str(turn), folder)
    )
    board.bar("receive-1-sender-vs-storescp", median["ours"] / median["storescp"], ">=", 1.0)
    board.bar("receive-1-sender-vs-orthanc", median["ours"] / median["orthanc"], ">=", 4.0)
    remark = "(with dcmtk's TCP_NODELAY=1 on both sides; >= 1.0 would be the bar)"
    board.info("receive-1-sender-vs-storescp-nodelay", median["ours-nodelay"] / median["storescp-nodelay"], remark)
    board.info("receive-1-sender-vs-orthanc-nodelay", median["ours-nodelay"] / median["orthanc-nodelay"])


def many_senders(board: Board) -> None:
    """Measure the same number of objects from 1, 4 and 8 storescu at once."""
    splits = {
        senders: write_split(board.scratch / f"of{senders}", 100 * senders, senders, OBJECTS) for senders in (1, 4, 8)
    }
    for nodelay, ending in ((False, ""), (True, "-nodelay")):
        shares: dict[int, list[float]] = defaultdict(list)
        rates: dict[int, list[float]] = defaultdict(list)
        for turn in range(REPEATS_TOGETHER):
            for senders, folders in splits.items():
                home = board.scratch / f"senders{ending}" / f"{senders}-{turn}"
                rate, share = _together(home, folders, nodelay)
                rates[senders].append(rate)
                shares[senders].append(share)
        for senders in splits:
            board.detail(f"{senders} senders{ending}: {_listed(rates[senders])} objects/s")
        for senders in (4, 8):
            ratio = statistics.median(rates[senders]) / statistics.median(rates[1])
            board.bar(f"receive-{senders}-senders-vs-1{ending}", ratio, ">=", 1.0)
            board.bar(f"receive-{senders}-senders-slowest-share{ending}", min(shares[senders]), ">=", FAIR_SHARE)


def _medians(
    board: Board, contestants: Mapping[str, Contestant], measure: Callable[[Contestant, str, int], float]
) -> dict[str, float]:
    rates: dict[str, list[float]] = defaultdict(list)
    for turn in range(REPEATS):
        for name, contestant in contestants.items():
            rates[name].append(measure(contestant, name, turn))
    for name, measured in rates.items():
        board.detail(f"{name}: {_listed(measured)} objects/s")
    return {name: statistics.median(measured) for name, measured in rates.items()}


def _one_rate(contestant: Contestant, home: Path, folder: Path) -> float:
    home.parent.mkdir(parents=True, exist_ok=True)
    with contestant.start(home) as peer:
        os.sync()  # else one that syncs pays for what another left in the page cache
        started = time.monotonic()
        ended = storescu(peer.port, folder, nodelay=contestant.nodelay)
        seconds = time.monotonic() - started
        if ended.returncode:
            raise RuntimeError(f"storescu to {peer.name}: {ended.stderr[-1000:]}")
        contestant.check(peer)
    return OBJECTS / seconds


def _together(home: Path, folders: Sequence[Path], nodelay: bool) -> tuple[float, float]:
    """Give total objects/s, and what the slowest had of an equal share when the first sender was done."""
    with receiver(home) as peer:
        first_is_done = threading.Event()
        failures: list[str] = []

        def send(folder: Path) -> None:
            ended = storescu(peer.port, folder, nodelay=nodelay)
            first_is_done.set()
            if ended.returncode:
                failures.append(ended.stderr[-1000:])

        threads = [threading.Thread(target=send, args=(folder,)) for folder in folders]
        os.sync()
        started = time.monotonic()
        for thread in threads:
            thread.start()
        first_is_done.wait()
        progress = [len(list(folder.glob("*.dcm"))) for folder in (home / "spool" / "series").iterdir()]
        for thread in threads:
            thread.join()
        seconds = time.monotonic() - started
        if failures:
            raise RuntimeError(f"storescu: {failures[0]}")
        _all_here(peer, sent_digests(folders))
    # A sender whose folder is not there yet has got nothing through.
    slowest = min(progress) if len(progress) == len(folders) else 0
    return OBJECTS / seconds, slowest * len(folders) / sum(progress)


def _all_here(peer: Peer, sent: Mapping[str, str]) -> None:
    if stored_digests(peer.home) != sent:
        raise RuntimeError("the spool does not hold what was sent")


def _storescp_has_all(peer: Peer) -> None:
    if len(list((peer.home / "stored").iterdir())) != OBJECTS:
        raise RuntimeError("storescp does not hold what was sent")


def _orthanc_has_all(peer: Peer) -> None:
    if orthanc_instances(peer) != OBJECTS:
        raise RuntimeError("Orthanc does not hold what was sent")


def _listed(rates: Sequence[float]) -> str:
    return f"{' '.join(f'{rate:.1f}' for rate in rates)} (median {statistics.median(rates):.1f})"
