"""Where a training run keeps its state, so that it can be stopped and resumed at any checkpoint."""

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from fewshot_node.errors import CheckpointError

_STATE_FILE = "state.json"
# A resumed run may differ in these.
_RUNNING = ("steps", "threads", "checkpoint_every_s")


@dataclass(slots=True)
class Progressed:
    """How far a run is, over all its resumptions.

    Attributes
    ----------
    step
        Steps done.
    wall_s, cpu_s
        Wall and processor seconds spent.
    scores
        ``[step, score..., loss]`` at each checkpoint, the first of the untrained network.
    baselines
        Scores, on the same held-out data, of what needs no training.
    plans
        ``[from step, total steps]``: a resumed run may be given another end, which changes the schedule.
    """

    step: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    scores: list[tuple[float, ...]] = field(default_factory=list)
    baselines: dict[str, float] = field(default_factory=dict)
    plans: list[tuple[int, int]] = field(default_factory=list)


class Clocks:
    """Wall and processor seconds since they were last read."""

    def __init__(self) -> None:
        self._last = _now_s()

    def add_to(self, done: Progressed) -> None:
        """Add what has passed."""
        before, self._last = self._last, _now_s()
        done.wall_s += self._last[0] - before[0]
        done.cpu_s += self._last[1] - before[1]


def _now_s() -> tuple[float, float]:
    return time.monotonic(), time.process_time()


class RunFolder:
    """A folder with a run's newest weights, optimiser state and progress."""

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        """Create the folder; `settings` are the run's, by name."""
        self.path = path
        self._settings = dict(settings)
        path.mkdir(parents=True, exist_ok=True)

    @property
    def is_begun(self) -> bool:
        """Whether a run can be resumed here."""
        return (self.path / _STATE_FILE).is_file()

    def store(self, model: nn.Module, optimizer: torch.optim.Optimizer, done: Progressed) -> None:
        """Write a numbered folder, then point to it: a crash in between leaves the last one whole."""
        folder = self.path / f"step-{done.step:06d}"
        folder.mkdir(exist_ok=True)
        # Copies: safetensors refuses weights that share memory, as tied ones do.
        weights = {name: value.clone().contiguous() for name, value in model.state_dict().items()}
        save_file(weights, folder / "model.safetensors")
        torch.save(optimizer.state_dict(), folder / "optimizer.pt")
        fresh = self.path / f"{_STATE_FILE}.new"
        fresh.write_text(json.dumps({"settings": self._identity(), "done": asdict(done)}, indent=2))
        fresh.replace(self.path / _STATE_FILE)
        for old in self.path.glob("step-*"):
            if old != folder:
                shutil.rmtree(old)

    def resume(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> Progressed:
        """Load what `store` wrote last.

        Raises
        ------
        CheckpointError
            The folder holds a run with other settings.
        """
        state = json.loads((self.path / _STATE_FILE).read_text())
        if state["settings"] != self._identity():
            raise CheckpointError(
                f"{self.path}: holds a run with other settings; repeat those or give another work folder"
            )
        done = Progressed(**state["done"])
        folder = self.path / f"step-{done.step:06d}"
        model.load_state_dict(load_file(folder / "model.safetensors"))
        optimizer.load_state_dict(torch.load(folder / "optimizer.pt", weights_only=True))
        if done.plans[-1][1] != self._settings["steps"]:
            done.plans.append((done.step, self._settings["steps"]))
        return done

    def _identity(self) -> dict[str, Any]:
        """Return what a resumed run must share with the run it resumes, as JSON gives it back."""
        fixed = {key: value for key, value in self._settings.items() if key not in _RUNNING}
        return dict(json.loads(json.dumps(fixed)))


def publish(fresh: Path, out: Path) -> None:
    """Move the files of `fresh` to `out` one by one: a reader never sees half a file."""
    out.mkdir(parents=True, exist_ok=True)
    for path in fresh.iterdir():
        path.replace(out / path.name)
    fresh.rmdir()
