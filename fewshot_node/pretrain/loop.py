"""The loop that every model of the package is trained by: steps, checkpoints, resumption, a card at the end."""

import logging
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from fewshot_node.pretrain.run_folder import Clocks, Progressed, RunFolder, publish
from fewshot_node.pretrain.schedule import Scheduled, learning_rate

logger = logging.getLogger(__name__)

_TOLD_EVERY = 25


class LoopSettings(Scheduled, Protocol):
    """What the loop needs of a model's settings, which are a frozen dataclass."""

    @property
    def weight_decay(self) -> float:
        """AdamW's."""

    @property
    def threads(self) -> int:
        """CPU threads."""

    @property
    def checkpoint_every_s(self) -> float:
        """Seconds between checkpoints."""


class Recipe(Protocol):
    """A network in training: its loss, its scores and how it is written down.

    Attributes
    ----------
    name
        What a progress bar calls it.
    largest_gradient
        Norm that gradients are cut to.
    scores_untrained
        Whether the network is scored before its first step too.
    """

    name: str
    largest_gradient: float
    scores_untrained: bool

    @property
    def network(self) -> nn.Module:
        """What is trained."""

    def loss(self, step: int) -> Tensor:
        """Return the loss of one step, whose batch is a function of seed and step alone."""

    def scores(self) -> tuple[float, ...]:
        """Score the network on what no step sees."""

    def baselines(self) -> dict[str, float]:
        """Score what needs no training on the same."""

    def export(self, folder: Path, done: Progressed) -> None:
        """Write weights and card into a folder."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where a run writes: `out` gets model and card at every checkpoint, `work` what a resumption needs."""

    out: Path
    work: Path


class TrainingRun:
    """One process's part of a training run; the same settings and `Places.work` resume it at its last checkpoint."""

    def __init__(self, recipe: Recipe, places: Places, settings: LoopSettings) -> None:
        """Begin or resume.

        Raises
        ------
        CheckpointError
            ``places.work`` holds a run with other settings.
        """
        self._recipe, self._settings, self._out = recipe, settings, places.out
        self._optimizer = torch.optim.AdamW(recipe.network.parameters(), weight_decay=settings.weight_decay)
        self._folder = RunFolder(places.work, asdict(settings))  # type: ignore[call-overload]
        self._recent: list[float] = []
        self._clocks = Clocks()
        self._done = self._folder.resume(recipe.network, self._optimizer) if self._folder.is_begun else self._begun()
        logger.info("%s: at step %d of %d", recipe.name, self._done.step, settings.steps)

    def train(self) -> None:
        """Run the steps that are left; leave a checkpoint at the end."""
        self._recipe.network.train()
        last_checkpoint = time.monotonic()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, transient=True) as progress:
            bar = progress.add_task(self._recipe.name, total=self._settings.steps, completed=self._done.step)
            while self._done.step < self._settings.steps:
                self._step()
                progress.advance(bar)
                if time.monotonic() - last_checkpoint > self._settings.checkpoint_every_s:
                    self._checkpoint()
                    last_checkpoint = time.monotonic()
        if not self._done.scores or self._done.scores[-1][0] != self._done.step:
            self._checkpoint()

    def _begun(self) -> Progressed:
        done = Progressed(plans=[(0, self._settings.steps)], baselines=self._recipe.baselines())
        if self._recipe.scores_untrained:
            done.scores.append((0, *self._recipe.scores(), math.nan))
        return done

    def _step(self) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(self._done.step, self._settings)
        loss = self._recipe.loss(self._done.step)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._recipe.network.parameters(), self._recipe.largest_gradient)
        self._optimizer.step()
        self._done.step += 1
        self._recent.append(float(loss.detach()))
        if self._done.step % _TOLD_EVERY == 0:
            last = self._recent[-_TOLD_EVERY:]
            logger.info("step %d: loss %.4f", self._done.step, sum(last) / len(last))

    def _checkpoint(self) -> None:
        """Score the network, store the state, then export weights and card."""
        loss = sum(self._recent) / len(self._recent) if self._recent else math.nan
        self._recent.clear()
        self._done.scores.append((self._done.step, *self._recipe.scores(), loss))
        self._clocks.add_to(self._done)
        self._folder.store(self._recipe.network, self._optimizer, self._done)
        fresh = self._out.with_name(f"{self._out.name}.new")
        self._recipe.export(fresh, self._done)
        publish(fresh, self._out)
        logger.info("checkpoint at step %d: %s", self._done.step, self._done.scores[-1])
