"""``make bench-vision``: every bar of the vision half in one run; name parts to run only those."""

import os
import sys
import tempfile
import warnings
from pathlib import Path

import fewshot_node.vision  # before torch, whose threads it tells how to wait
from tests.benchmarks.bars import Board, Part, run_parts
from tests.benchmarks.vision.chain import memory, speed
from tests.benchmarks.vision.gpu import gpu
from tests.benchmarks.vision.heads import bfloat16, factorised, head
from tests.benchmarks.vision.silence import silent_slices
from tests.benchmarks.vision.teaching import fit

PARTS: dict[str, Part] = {
    "head": head,
    "factorised": factorised,
    "bf16": bfloat16,
    "silent": silent_slices,
    "fit": fit,
    "memory": memory,
    "speed": speed,
    "gpu": gpu,
}


def main() -> int:
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(prefix="bench-vision-") as scratch:
        board = Board(Path(scratch))
        package = Path(fewshot_node.vision.__file__).parent
        board.detail(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}, {package}")
        return run_parts(board, PARTS, sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
