"""Train the embedded promptable model; stop and resume at any checkpoint."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import SamModel

from fewshot_node.pretrain.batches import BatchSettings
from fewshot_node.pretrain.label_maps import random_label_map
from fewshot_node.pretrain.loop import Places, TrainingRun
from fewshot_node.pretrain.map_pool import MapPool
from fewshot_node.pretrain.promptable.asking import answer_loss, answers, overlap
from fewshot_node.pretrain.promptable.card import promptable_card
from fewshot_node.pretrain.promptable.samples import CropBatch, crop_batch, random_prompt_settings
from fewshot_node.pretrain.promptable.settings import INPUT_SCALE, PromptableSettings, new_model
from fewshot_node.pretrain.run_folder import Progressed
from fewshot_node.vision.prompts import STRATEGIES, PromptSettings

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
    TrainingRun(_Recipe(settings), Places(out, work), settings).train()


class _Recipe:
    """A small SAM in training; scored by IoU for each way of asking, beside the coarse masks it starts from."""

    name, largest_gradient, scores_untrained = "promptable model", 1.0, False

    def __init__(self, settings: PromptableSettings) -> None:
        self._settings = settings
        torch.manual_seed(settings.seed)
        self.network = new_model(settings)
        self._held_out = held_out_crops(settings)
        self._pool = MapPool(BatchSettings(map_px=settings.map_px, seed=settings.seed).pool())

    def loss(self, step: int) -> Tensor:
        return step_loss(self.network, self._pool, step, self._settings)

    def scores(self) -> tuple[float, ...]:
        return tuple(refined_score(self.network, self._held_out, strategy) for strategy in STRATEGIES)

    def baselines(self) -> dict[str, float]:
        return {"coarse": coarse_score(self._held_out)}

    def export(self, folder: Path, done: Progressed) -> None:
        state = {name: value.to(torch.float16) for name, value in self.network.state_dict().items()}
        self.network.save_pretrained(folder, state_dict=state)
        scale = {"image_mean": list(INPUT_SCALE.mean), "image_std": list(INPUT_SCALE.std)}
        (folder / "preprocessor_config.json").write_text(json.dumps(scale, indent=2) + "\n")
        (folder / "CARD.md").write_text(promptable_card(asdict(self._settings), asdict(done)))


def step_loss(model: SamModel, pool: MapPool, step: int, settings: PromptableSettings) -> Tensor:
    """Return the loss of one step, whose batch is a function of seed and step alone."""
    rng = np.random.default_rng([settings.seed, _BATCH_STREAM, step])
    batch = crop_batch(pool.choose(step, settings.batch_crops, rng), settings, rng)
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
