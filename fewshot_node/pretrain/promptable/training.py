"""Train the embedded promptable model; stop and resume at any checkpoint."""

import json
import logging
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor
from torch.nn import functional
from transformers import SamModel

from fewshot_node.pretrain.batches import BatchSettings, MapPool
from fewshot_node.pretrain.label_maps import random_label_map
from fewshot_node.pretrain.promptable.asking import answer_loss, answers, overlap
from fewshot_node.pretrain.promptable.card import promptable_card
from fewshot_node.pretrain.promptable.samples import CropBatch, crop_batch, random_prompt_settings
from fewshot_node.pretrain.promptable.settings import INPUT_SCALE, PromptableSettings, new_model
from fewshot_node.pretrain.run_folder import Clocks, Progressed, RunFolder, publish
from fewshot_node.pretrain.schedule import learning_rate
from fewshot_node.vision.prompts import STRATEGIES, PromptSettings

logger = logging.getLogger(__name__)

# Independent streams of random numbers under one seed.
_BATCH_STREAM, _HELD_OUT_STREAM = 3, 4


def pretrain_promptable(out: Path, work: Path, settings: PromptableSettings) -> None:
    """Train, or go on training, and leave the model with its card in ``out``.

    Parameters
    ----------
    out
        Folder in `transformers`' format, written anew at every checkpoint.
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

    def __init__(self, out: Path, work: Path, settings: PromptableSettings) -> None:
        self.out, self.settings = out, settings
        torch.manual_seed(settings.seed)
        self.model = new_model(settings)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), weight_decay=settings.weight_decay)
        self.held_out = held_out_crops(settings)
        self.folder = RunFolder(work, asdict(settings))
        self.done = Progressed()
        self._recent: list[float] = []
        self._clocks = Clocks()
        if self.folder.is_begun:
            self.done = self.folder.resume(self.model, self.optimizer)
            logger.info("resumed at step %d of %d", self.done.step, settings.steps)
        else:
            self.done.plans.append((0, settings.steps))
            self.done.baselines["coarse"] = coarse_score(self.held_out)

    def train(self) -> None:
        """Run the steps that are left."""
        pool = MapPool(BatchSettings(map_px=self.settings.map_px, seed=self.settings.seed))
        self.model.train()
        last_checkpoint = time.monotonic()
        columns = (TextColumn("promptable model"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
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

    def _step(self, pool: MapPool) -> None:
        loss = step_loss(self.model, pool, self.done.step, self.settings)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.done.step, self.settings)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.done.step += 1
        self._recent.append(float(loss.detach()))
        if self.done.step % 25 == 0:
            logger.info("step %d: loss %.4f", self.done.step, sum(self._recent[-25:]) / len(self._recent[-25:]))

    def checkpoint(self) -> None:
        """Score the model, store the state, then export weights and card."""
        loss = sum(self._recent) / len(self._recent) if self._recent else float("nan")
        self._recent.clear()
        scores = [refined_score(self.model, self.held_out, strategy) for strategy in STRATEGIES]
        self.done.scores.append((self.done.step, *scores, loss))
        self._clocks.add_to(self.done)
        self.folder.store(self.model, self.optimizer, self.done)
        self._export()
        logger.info("checkpoint at step %d: %s", self.done.step, self.done.scores[-1])

    def _export(self) -> None:
        fresh = self.out.with_name(f"{self.out.name}.new")
        state = {name: value.to(torch.float16) for name, value in self.model.state_dict().items()}
        self.model.save_pretrained(fresh, state_dict=state)
        scale = {"image_mean": list(INPUT_SCALE.mean), "image_std": list(INPUT_SCALE.std)}
        (fresh / "preprocessor_config.json").write_text(json.dumps(scale, indent=2) + "\n")
        (fresh / "CARD.md").write_text(promptable_card(asdict(self.settings), asdict(self.done)))
        publish(fresh, self.out)


def step_loss(model: SamModel, pool: MapPool, step: int, settings: PromptableSettings) -> Tensor:
    """Return the loss of one step, whose batch is a function of seed and step alone."""
    rng = np.random.default_rng([settings.seed, _BATCH_STREAM, step])
    maps = pool.window(step)
    chosen = rng.choice(len(maps), settings.batch_crops, replace=settings.batch_crops > len(maps))
    batch = crop_batch([maps[index] for index in chosen], settings, rng)
    # One mask and three by turns: both are asked for at inference.
    logits, predicted_iou = answers(model, batch, random_prompt_settings(rng), multimask=step % 2 == 0)
    return answer_loss(logits.float(), predicted_iou.float(), batch.truth)


def held_out_crops(settings: PromptableSettings) -> CropBatch:
    """Make crops of maps that no training step sees."""
    rng = np.random.default_rng([settings.seed, _HELD_OUT_STREAM])
    return crop_batch([random_label_map(rng, settings.map_px) for _ in range(settings.held_out_crops)], settings, rng)


def coarse_score(batch: CropBatch) -> float:
    """Return the mean IoU of the coarse masks: what refinement starts from."""
    coarse = torch.from_numpy(np.stack([region.coarse for region in batch.regions]))
    return float(overlap(coarse, batch.truth > 0).mean())


def refined_score(model: SamModel, batch: CropBatch, strategy: str) -> float:
    """Return the mean IoU of the single answers to one strategy's prompts; leaves the model's mode as it was."""
    was_training = model.training
    model.train(False)
    prompts = PromptSettings(strategy=strategy, per_component=False)
    with torch.inference_mode():
        logits, _ = answers(model, batch, prompts, multimask=False)
    model.train(was_training)
    side = batch.images.shape[-1]
    fine = functional.interpolate(logits.float(), (side, side), mode="bilinear", align_corners=False)
    return float(overlap(fine[:, 0] > 0, batch.truth > 0).mean())
