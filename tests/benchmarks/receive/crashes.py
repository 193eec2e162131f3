"""Kill -9 at random moments under load: what was acknowledged stays, what was not whole is never seen.

The kernel keeps what a killed process wrote, so this shows the order of things in the spool and the
ledger's recovery, not what a power cut leaves: that is `durability`.
"""

import os
import random
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.benchmarks.bars import Board
from tests.benchmarks.receive.objects import series_uid
from tests.benchmarks.receive.peers import free_port, receiver
from tests.benchmarks.receive.stored import digest, ledger_disagrees, stored_digests, stored_files, unfinished_files
from tests.dicom.wire import AssociationEndedError, WireSender, instance

SEED, ROUNDS, SENDERS = 20261124, 50, 4
_PIXEL_BYTES = (2_000, 60_000, 500_000)
_LONGEST_LOAD_S = 0.7


@dataclass
class Sent:
    """What senders tried to send (SOP Instance UID -> digest), and what was acknowledged with 0x0000."""

    tried: dict[str, str] = field(default_factory=dict)
    acknowledged: set[str] = field(default_factory=set)


@dataclass
class Faults:
    """What must not be."""

    lost: set[str] = field(default_factory=set)
    torn: set[str] = field(default_factory=set)
    unswept: int = 0
    uncounted: int = 0


def crashes(board: Board) -> None:
    """Kill the receiver 50 times and look at what is left each time."""
    draw = random.Random(SEED)
    home, port = board.scratch / "crashes", free_port()
    sent, faults = Sent(), Faults()
    interrupted = 0
    board.detail(f"seed {SEED}")
    for number in range(ROUNDS + 1):
        with receiver(home, port=port, min_free_mb=0, reject_below_free_mb=0) as peer:
            series = [_series(number - 1, sender) for sender in range(SENDERS)]
            _look(home, series, sent, faults)
            if number < ROUNDS:
                threads = [
                    threading.Thread(
                        target=_send_until_the_end, args=(port, _series(number, sender), draw.random(), sent)
                    )
                    for sender in range(SENDERS)
                ]
                for thread in threads:
                    thread.start()
                time.sleep(draw.uniform(0.0, _LONGEST_LOAD_S))
                peer.kill()
                for thread in threads:
                    thread.join()
                interrupted += bool(unfinished_files(home))
                _see_torn(home, [_series(number, sender) for sender in range(SENDERS)], sent, faults)
    _look(home, [""], sent, faults)
    board.detail(f"{len(sent.acknowledged)} acknowledged of {len(sent.tried)} tried, {len(stored_files(home))} stored")
    board.detail(f"{interrupted} of {ROUNDS} kills left an unfinished file in incoming/")
    board.bar("receive-kill-9-acknowledged", len(sent.acknowledged), ">=", ROUNDS)
    board.bar("receive-kill-9-lost", len(faults.lost), "=", 0)
    board.bar("receive-kill-9-torn-visible", len(faults.torn), "=", 0)
    board.bar("receive-kill-9-not-swept", faults.unswept, "=", 0)
    board.bar("receive-kill-9-series-miscounted", faults.uncounted, "=", 0)


def _series(number: int, sender: int) -> str:
    return series_uid(4_000_000 + number * 10 + sender)


def _send_until_the_end(port: int, series: str, seed: float, sent: Sent) -> None:
    draw = random.Random(seed)
    try:
        with WireSender(port) as sender:
            for number in range(1, 100_000):
                uid = f"{series}.{number}"
                dataset = instance(uid, series, pixels=os.urandom(draw.choice(_PIXEL_BYTES)))
                sent.tried[uid] = digest(dataset)
                if sender.store(uid, dataset) == 0:
                    sent.acknowledged.add(uid)
    except AssociationEndedError:
        pass  # killed, as it should be


def _look(home: Path, series: list[str], sent: Sent, faults: Faults) -> None:
    """Look at what a restarted receiver has of these series."""
    stored = _see_torn(home, series, sent, faults)
    acknowledged = {uid for uid in sent.acknowledged if any(uid.startswith(one) for one in series)}
    faults.lost |= {uid for uid in acknowledged if stored.get(uid) != sent.tried[uid]}
    faults.unswept += len(unfinished_files(home))
    if series != [""]:
        faults.uncounted += len(ledger_disagrees(home, series))


def _see_torn(home: Path, series: list[str], sent: Sent, faults: Faults) -> dict[str, str]:
    """Look for visible files that are not what was sent under their name."""
    stored = stored_digests(home, series)
    faults.torn |= {uid for uid, found in stored.items() if found != sent.tried.get(uid)}
    return stored
