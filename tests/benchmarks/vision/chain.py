"""The default chain, volume in to label map out, against the forward passes of a whole-body 3D network."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from fewshot_node.records import LabelArray
from fewshot_node.vision.adapters import Adapter
from fewshot_node.vision.encode import encode
from fewshot_node.vision.localize import localize
from fewshot_node.vision.prompts import place_prompts
from fewshot_node.vision.refine import refine
from tests.benchmarks.bars import Board
from tests.benchmarks.vision.rival import patch_count, seconds_a_patch
from tests.benchmarks.vision.scene import SPACING_MM, Scene, definition, draw_patient, encoder, taught

SLICES, LONG_SLICES = 300, 600
TIMES_OF_THE_NETWORK, LIMIT_GIB = 0.5, 3.0
_REPEATS = 3


def speed(board: Board) -> None:
    """Measure chain and network in turns; medians count."""
    task, scene = definition(), draw_patient(99, SLICES)
    adapter = taught(task)
    run_chain(scene, adapter)  # what the first run allocates and compiles is not the second's
    totals, patches = [], []
    for _ in range(_REPEATS):
        stages, label_map = run_chain(scene, adapter)
        totals.append(sum(stages.values()))
        board.detail(", ".join(f"{name} {seconds:.1f} s" for name, seconds in stages.items()))
        patches += seconds_a_patch(1)
    board.detail(f"mean Dice {_mean_dice(label_map, scene.label_map):.2f} of {int(scene.label_map.max())} labels")
    ours, patch = float(np.median(totals)), float(np.median(patches))
    count = patch_count(scene.array.shape, SPACING_MM)
    board.detail(f"network: one patch {patch:.1f} s, times {count} patches at {SPACING_MM} mm (computed, not run)")
    board.bar("vision-300-slices-vs-whole-body-network", ours / (patch * count), "<=", TIMES_OF_THE_NETWORK)
    thin = patch_count(scene.array.shape, (1.0, *SPACING_MM[1:]))
    board.info("vision-300-slices-of-1-mm-vs-whole-body-network", ours / (patch * thin), f"({thin} patches)")
    board.info("vision-300-slices-seconds", ours)


def memory(board: Board) -> None:
    """Run 600 slices in a process of its own and ask it how much it ever held."""
    command = [sys.executable, "-W", "ignore", "-m", __name__, str(LONG_SLICES)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    start, peak = (float(figure) for figure in ended.stdout.split()[-2:])
    board.detail(f"{start:.2f} GiB with the volume and the taught task, before the chain")
    board.bar(f"vision-{LONG_SLICES}-slices-peak-gib", peak, "<", LIMIT_GIB)


def run_chain(scene: Scene, adapter: Adapter) -> tuple[dict[str, float], LabelArray]:
    """Run every stage as the pipeline does; seconds of each, and the refined label map."""
    settings, watch = definition().settings, [time.perf_counter()]

    def lap() -> float:
        watch.append(time.perf_counter())
        return watch[-1] - watch[-2]

    with tempfile.TemporaryDirectory() as scratch:
        features = encode(scene.array, "CT", encoder(), settings.encode, Path(scratch))
        stages = {"encode": lap()}
        found = localize(features, adapter, SPACING_MM, settings.cleaning)
        stages["localize"] = lap()
    prompts = place_prompts(found, settings.refine.prompts)
    masks = refine(scene.array, "CT", found, prompts, None, settings.refine)
    stages["refine"] = lap()
    return stages, masks.label_map


def _mean_dice(found: LabelArray, truth: LabelArray) -> float:
    values = range(1, int(truth.max()) + 1)
    pairs = [(found == value, truth == value) for value in values]
    return float(np.mean([2 * (one & other).sum() / max(1, one.sum() + other.sum()) for one, other in pairs]))


def _status(key: str) -> float:
    """Read a figure of this process in GiB: VmRSS now, VmHWM at its most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) / 2**20


def _run_alone(slices: int) -> None:
    adapter = taught(definition(steps=20))  # what it knows does not matter here
    scene = draw_patient(99, slices)
    # What teaching and drawing took is not the chain's: the mark is set back (proc(5), clear_refs).
    Path("/proc/self/clear_refs").write_text("5")
    start = _status("VmRSS")
    run_chain(scene, adapter)
    print(start, _status("VmHWM"))


if __name__ == "__main__":
    _run_alone(int(sys.argv[1]))
