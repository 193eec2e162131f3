"""``make bench-receive``: every bar of the receiver in one run; name parts to run only those."""

import os
import signal
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.bars import Board, Part, run_parts
from tests.benchmarks.receive.crashes import crashes
from tests.benchmarks.receive.crowd import crowd
from tests.benchmarks.receive.disk import disk
from tests.benchmarks.receive.durability import synced_before_success
from tests.benchmarks.receive.memory import memory
from tests.benchmarks.receive.mutation import mutation
from tests.benchmarks.receive.paths import paths
from tests.benchmarks.receive.speed import many_senders, one_sender

PARTS: dict[str, Part] = {
    "speed": one_sender,
    "senders": many_senders,
    "memory": memory,
    "crashes": crashes,
    "durability": synced_before_success,
    "disk": disk,
    "mutation": mutation,
    "crowd": crowd,
    "paths": paths,
}


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the peers are ended and the folder removed
    with tempfile.TemporaryDirectory(prefix="bench-receive-", ignore_cleanup_errors=True) as scratch:
        board = Board(Path(scratch))
        board.detail(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}, scratch folder {scratch}")
        return run_parts(board, PARTS, sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
