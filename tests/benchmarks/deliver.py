"""``make bench-deliver``: results through every fault between the node and a real Orthanc; none lost, none twice."""

import logging
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from fewshot_node.config import NodeSettings
from fewshot_node.dicom.ledger import Ledger
from tests.benchmarks.bars import Board
from tests.conftest import OrthancServer, end_process, orthanc_answers, start_orthanc, unused_port
from tests.dicom.conftest import small_instance
from tests.dicom.deliver.faults import FAULTS, through
from tests.dicom.deliver.office import Office

_SERIES = 20


def main() -> int:
    logging.disable(logging.ERROR)
    series = int(sys.argv[1]) if len(sys.argv) > 1 else _SERIES
    with tempfile.TemporaryDirectory(prefix="bench-deliver-", ignore_cleanup_errors=True) as scratch:
        board = Board(Path(scratch))
        board.detail(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}, {series} series of 2 objects a fault")
        binary = shutil.which("Orthanc", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if binary is None:
            board.skip("deliveries", "Orthanc is not installed: apt-get install orthanc")
            return board.conclude()
        server = OrthancServer(unused_port(), unused_port(), "ORTHANC", Path(scratch))
        process = start_orthanc(binary, server)
        try:
            if not orthanc_answers(server, process):
                board.skip("deliveries", "Orthanc did not start")
                return board.conclude()
            for number, fault in enumerate(FAULTS):
                _measure(board, server, fault, series, number)
        finally:
            end_process(process)
        return board.conclude()


def _measure(board: Board, server: OrthancServer, fault: str, series: int, number: int) -> None:
    home = board.scratch / f"fault{number}"
    home.mkdir()
    ledger = Ledger(f"sqlite:///{home / 'office.sqlite'}")
    started = time.monotonic()
    office = Office(home, ledger, small_instance, NodeSettings(home=home))
    found = through(fault, office, server, series, root=f"1.2.{1000 + number}")
    ledger.dispose()
    name = fault.partition(" (")[0]
    board.detail(f"{fault}: {found}, {time.monotonic() - started:.1f} s")
    board.bar(f"{name}: confirmed", found.confirmed, "=", series)
    board.bar(f"{name}: duplicates", found.duplicates, "=", 0)
    board.bar(f"{name}: losses", found.losses, "=", 0)


if __name__ == "__main__":
    sys.exit(main())
