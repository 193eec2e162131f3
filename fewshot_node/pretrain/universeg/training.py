"""Train the embedded UniverSeg; stop and resume at any checkpoint."""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from fewshot_node.pretrain.loop import Places, TrainingRun
from fewshot_node.pretrain.map_pool import MapPool
from fewshot_node.pretrain.run_folder import Progressed
from fewshot_node.pretrain.universeg.card import universeg_card
from fewshot_node.pretrain.universeg.tasks import TaskBatch, TaskSettings, held_out_tasks, training_tasks
from fewshot_node.vision.universeg import UniverSeg, UniverSegModel, save_universeg

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
    TrainingRun(_Recipe(settings), Places(out, work), settings).train()


class _Recipe:
    """UniverSeg in training; scored by Dice, beside the pixels that most examples mark."""

    name, largest_gradient, scores_untrained = "UniverSeg", 1.0, False

    def __init__(self, settings: UniverSegSettings) -> None:
        self._settings = settings
        torch.manual_seed(settings.seed)
        # Channels last: half the time of a step on a processor with AMX.
        self.network = UniverSeg((settings.width,) * settings.levels)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._held_out = held_out_tasks(settings.held_out, settings.held_out_examples, settings.tasks())
        self._pool = MapPool(settings.tasks().pool())

    def loss(self, step: int) -> Tensor:
        return step_loss(self.network, self._pool, step, self._settings)

    def scores(self) -> tuple[float, ...]:
        return (dice_score(self.network, self._held_out),)

    def baselines(self) -> dict[str, float]:
        return {"place": place_score(self._held_out)}

    def export(self, folder: Path, done: Progressed) -> None:
        save_universeg(UniverSegModel(self.network, self._settings.image_px), folder)
        (folder / "CARD.md").write_text(universeg_card(asdict(self._settings), asdict(done)))


def step_loss(network: UniverSeg, pool: MapPool, step: int, settings: UniverSegSettings) -> Tensor:
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
