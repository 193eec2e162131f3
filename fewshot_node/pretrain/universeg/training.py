"""Train the embedded UniverSeg; stop and resume at any checkpoint."""

import logging
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor
from torch.nn import functional

from fewshot_node.pretrain.run_folder import Clocks, Progressed, RunFolder, publish
from fewshot_node.pretrain.schedule import learning_rate
from fewshot_node.pretrain.universeg.card import universeg_card
from fewshot_node.pretrain.universeg.tasks import AnatomyPool, TaskBatch, TaskSettings, held_out_tasks, training_tasks
from fewshot_node.vision.universeg import UniverSeg, UniverSegModel, save_universeg

logger = logging.getLogger(__name__)

_SCORED_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class UniverSegSettings:
    """How the network is built and trained.

    Attributes
    ----------
    steps, warmup_steps
        Optimiser steps in all, and those over which the learning rate rises.
    batch_tasks, fewest_examples, most_examples
        Tasks a step, and the examples that each is shown with.
    image_px, map_px
        Side of an image and of a label map.
    width, levels
        Channels of a level, and how many levels there are; the published network has 4 of 64.
    learning_rate, weight_decay
        AdamW's.
    seed, threads, checkpoint_every_s
        Seed of everything random; CPU threads; seconds between checkpoints.
    held_out, held_out_examples
        Tasks of unseen anatomies that the score is taken on, and their examples.
    """

    steps: int = 8000
    warmup_steps: int = 100
    batch_tasks: int = 4
    fewest_examples: int = 2
    most_examples: int = 6
    image_px: int = 64
    map_px: int = 128
    width: int = 32
    levels: int = 4
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    seed: int = 20242
    threads: int = 1
    checkpoint_every_s: float = 180.0
    held_out: int = 128
    held_out_examples: int = 5

    def tasks(self) -> TaskSettings:
        """Return what a batch depends on."""
        return TaskSettings(
            self.batch_tasks, self.fewest_examples, self.most_examples, self.image_px, self.map_px, self.seed
        )


def pretrain_universeg(out: Path, work: Path, settings: UniverSegSettings) -> None:
    """Train, or go on training, and leave the model with its card in ``out``.

    Parameters
    ----------
    out
        Folder that `load_universeg` reads, written anew at every checkpoint.
    work
        Folder of the optimiser's state. The same call with the same ``work`` resumes there.

    Raises
    ------
    CheckpointError
        ``work`` holds a run with other settings.
    """
    torch.set_num_threads(settings.threads)
    _Run(out, work, settings).train()


class _Run:
    """One process's part of a training run."""

    def __init__(self, out: Path, work: Path, settings: UniverSegSettings) -> None:
        self.out, self.settings = out, settings
        torch.manual_seed(settings.seed)
        # Channels last: half the time of a step on a processor with AMX.
        self.network = UniverSeg((settings.width,) * settings.levels)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.AdamW(self.network.parameters(), weight_decay=settings.weight_decay)
        self.held_out = held_out_tasks(settings.held_out, settings.held_out_examples, settings.tasks())
        self.folder = RunFolder(work, asdict(settings))
        self.done = Progressed()
        self._recent: list[float] = []
        self._clocks = Clocks()
        if self.folder.is_begun:
            self.done = self.folder.resume(self.network, self.optimizer)
            logger.info("resumed at step %d of %d", self.done.step, settings.steps)
        else:
            self.done.plans.append((0, settings.steps))
            self.done.baselines["place"] = place_score(self.held_out)

    def train(self) -> None:
        """Run the steps that are left."""
        pool = AnatomyPool(self.settings.tasks())
        last_checkpoint = time.monotonic()
        columns = (TextColumn("UniverSeg"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, transient=True) as progress:
            bar = progress.add_task("", total=self.settings.steps, completed=self.done.step)
            while self.done.step < self.settings.steps:
                self._step(pool)
                progress.advance(bar)
                if time.monotonic() - last_checkpoint > self.settings.checkpoint_every_s:
                    self.checkpoint()
                    last_checkpoint = time.monotonic()
        if not self.done.scores or self.done.scores[-1][0] != self.done.step:
            self.checkpoint()

    def _step(self, pool: AnatomyPool) -> None:
        loss = step_loss(self.network, pool, self.done.step, self.settings)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.done.step, self.settings)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.done.step += 1
        self._recent.append(float(loss.detach()))
        if self.done.step % 25 == 0:
            logger.info("step %d: loss %.4f", self.done.step, sum(self._recent[-25:]) / len(self._recent[-25:]))

    def checkpoint(self) -> None:
        """Score the network, store the state, then export weights and card."""
        loss = sum(self._recent) / len(self._recent) if self._recent else float("nan")
        self._recent.clear()
        self.done.scores.append((self.done.step, dice_score(self.network, self.held_out), loss))
        self._clocks.add_to(self.done)
        self.folder.store(self.network, self.optimizer, self.done)
        fresh = self.out.with_name(f"{self.out.name}.new")
        save_universeg(UniverSegModel(self.network, self.settings.image_px), fresh)
        (fresh / "CARD.md").write_text(universeg_card(asdict(self.settings), asdict(self.done)))
        publish(fresh, self.out)
        logger.info("checkpoint at step %d: %s", self.done.step, self.done.scores[-1])


def step_loss(network: UniverSeg, pool: AnatomyPool, step: int, settings: UniverSegSettings) -> Tensor:
    """Return the loss of one step, whose batch is a function of seed and step alone."""
    batch = training_tasks(pool, step, settings.tasks())
    return mask_loss(_logits(network, batch), batch.masks)


def mask_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Return soft Dice, as UniverSeg was trained, plus cross-entropy, which says something of empty masks too."""
    inside = logits.sigmoid()
    sizes = inside.sum(dim=(1, 2, 3)) + masks.sum(dim=(1, 2, 3))
    dice = 1 - (2 * (inside * masks).sum(dim=(1, 2, 3)) + 1) / (sizes + 1)
    return dice.mean() + functional.binary_cross_entropy_with_logits(logits, masks)


def _logits(network: UniverSeg, batch: TaskBatch) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits: Tensor = network(batch.images, batch.support_images, batch.support_masks)
    return logits.float()


def dice_score(network: UniverSeg, batch: TaskBatch) -> float:
    """Return the mean Dice of the network's masks over the tasks whose query shows the structure."""
    with torch.inference_mode():
        parts = [_logits(network, _part(batch, start)) for start in range(0, len(batch.images), _SCORED_AT_ONCE)]
    return _mean_dice(torch.cat(parts) > 0, batch.masks > 0)


def place_score(batch: TaskBatch) -> float:
    """Return the same for what needs no network: the pixels that most of the examples mark."""
    return _mean_dice(batch.support_masks.mean(dim=1) >= 0.5, batch.masks > 0)


def _part(batch: TaskBatch, start: int) -> TaskBatch:
    part = slice(start, start + _SCORED_AT_ONCE)
    return TaskBatch(batch.images[part], batch.masks[part], batch.support_images[part], batch.support_masks[part])


def _mean_dice(found: Tensor, true: Tensor) -> float:
    shown = true.flatten(1).any(dim=1)
    both = (found & true).flatten(1).sum(dim=1)[shown]
    sizes = (found.flatten(1).sum(dim=1) + true.flatten(1).sum(dim=1))[shown]
    return float((2 * both / sizes).mean())
