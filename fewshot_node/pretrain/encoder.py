"""Train the packaged encoder on synthetic maps; stop and resume at any checkpoint."""

import logging
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor
from transformers import ResNetBackbone, ResNetConfig

from fewshot_node.pretrain.batches import BatchSettings, MapPool, PairBatch, held_out_batch, training_batch
from fewshot_node.pretrain.card import encoder_card
from fewshot_node.pretrain.contrastive import correspondence, features_at, supervised_contrastive
from fewshot_node.pretrain.run_folder import Clocks, Progressed, RunFolder, publish
from fewshot_node.pretrain.schedule import learning_rate
from fewshot_node.pretrain.scoring import encoder_score, intensity_score
from fewshot_node.vision.backbone import DenseEncoder, InputScale, save_encoder
from fewshot_node.vision.pyramid import PyramidProjection

logger = logging.getLogger(__name__)
# Middle and spread of synthetic and of real images on 0..1; batch normalisation does the rest.
_INPUT_SCALE = InputScale(mean=(0.35,), std=(0.3,))


@dataclass(frozen=True, slots=True)
class PretrainSettings:
    """How the encoder is trained.

    Attributes
    ----------
    steps, warmup_steps
        Optimiser steps in all, and those over which the learning rate rises.
    batch_pairs, image_px, map_px
        View pairs a step, side of a view, side of a label map.
    learning_rate, weight_decay
        AdamW's.
    place_weight
        Weight of the place correspondence beside the label loss.
    embedding_dim, widths, depth
        Length of a feature; channels of the stem and of the four stages; residual blocks a stage.
    seed, threads
        Seed of everything random; CPU threads.
    checkpoint_every_s
        Seconds between checkpoints.
    held_out_pairs
        Pairs that the score is taken on.
    """

    steps: int = 2700
    warmup_steps: int = 100
    batch_pairs: int = 24
    image_px: int = 192
    map_px: int = 320
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    place_weight: float = 0.2
    embedding_dim: int = 128
    widths: tuple[int, int, int, int, int] = (64, 64, 96, 192, 256)
    depth: int = 2
    seed: int = 20240
    threads: int = 2
    checkpoint_every_s: float = 300.0
    held_out_pairs: int = 48

    def batch(self) -> BatchSettings:
        """Return the part that batches are made from."""
        return BatchSettings(pairs=self.batch_pairs, image_px=self.image_px, map_px=self.map_px, seed=self.seed)


def new_encoder(settings: PretrainSettings) -> DenseEncoder:
    """Return the untrained network that ``settings.seed`` gives."""
    torch.manual_seed(settings.seed)
    config = ResNetConfig(  # type: ignore[call-arg]
        num_channels=1,
        embedding_size=settings.widths[0],
        hidden_sizes=list(settings.widths[1:]),
        depths=[settings.depth] * 4,
        layer_type="basic",
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    backbone = ResNetBackbone(config)
    return DenseEncoder(backbone, _INPUT_SCALE, PyramidProjection(backbone.channels, settings.embedding_dim))


def pretrain_encoder(out: Path, work: Path, settings: PretrainSettings) -> None:
    """Train, or go on training, and leave the encoder with its card in ``out``.

    Parameters
    ----------
    out
        Folder of the encoder, written anew at every checkpoint.
    work
        Folder of the optimiser's state. The same call with the same ``work`` resumes there.
    settings
        See `PretrainSettings`.

    Raises
    ------
    CheckpointError
        ``work`` holds a run with other settings.
    """
    torch.set_num_threads(settings.threads)
    _Run(out, work, settings).train()


class _Run:
    """One process's part of a training run."""

    def __init__(self, out: Path, work: Path, settings: PretrainSettings) -> None:
        self.out, self.settings = out, settings
        self.encoder = new_encoder(settings).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.AdamW(self.encoder.parameters(), weight_decay=settings.weight_decay)
        self.batch_settings = settings.batch()
        self.held_out = held_out_batch(settings.held_out_pairs, self.batch_settings)
        self.folder = RunFolder(work, asdict(settings))
        self.done = Progressed()
        self._recent: list[float] = []
        self._clocks = Clocks()
        if self.folder.is_begun:
            self.done = self.folder.resume(self.encoder, self.optimizer)
            logger.info("resumed at step %d of %d", self.done.step, settings.steps)
        else:
            self.done.plans.append((0, settings.steps))
            self.done.baselines["intensity"] = intensity_score(self.held_out)
            self.done.scores.append((0, encoder_score(self.encoder, self.held_out), float("nan")))

    def train(self) -> None:
        """Run the steps that are left."""
        pool = MapPool(self.batch_settings)
        self.encoder.train()
        last_checkpoint = time.monotonic()
        columns = (TextColumn("encoder"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, transient=True) as progress:
            bar = progress.add_task("encoder", total=self.settings.steps, completed=self.done.step)
            while self.done.step < self.settings.steps:
                self._step(training_batch(pool, self.done.step, self.batch_settings))
                progress.advance(bar)
                if time.monotonic() - last_checkpoint > self.settings.checkpoint_every_s:
                    self.checkpoint()
                    last_checkpoint = time.monotonic()
        if self.done.scores[-1][0] != self.done.step:
            self.checkpoint()

    def _step(self, batch: PairBatch) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.done.step, self.settings)
        images = (batch.images - self.encoder.image_mean[0]) / self.encoder.image_std[0]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            features = self.encoder(images.contiguous(memory_format=torch.channels_last))
        loss = batch_loss(features.float(), batch, self.settings.place_weight)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.encoder.parameters(), 5.0)
        self.optimizer.step()
        self.done.step += 1
        self._recent.append(float(loss.detach()))
        if self.done.step % 25 == 0:
            logger.info("step %d: loss %.4f", self.done.step, sum(self._recent[-25:]) / len(self._recent[-25:]))

    def checkpoint(self) -> None:
        """Score the encoder, store the state, then export weights and card."""
        loss = sum(self._recent) / len(self._recent) if self._recent else float("nan")
        self.done.scores.append((self.done.step, encoder_score(self.encoder, self.held_out), loss))
        self._recent.clear()
        self._clocks.add_to(self.done)
        self.folder.store(self.encoder, self.optimizer, self.done)
        self._export()
        logger.info(
            "checkpoint at step %d: held-out IoU %.4f, loss %.4f, %.1f min wall, %.1f min processor",
            *self.done.scores[-1], self.done.wall_s / 60, self.done.cpu_s / 60,
        )  # fmt: skip

    def _export(self) -> None:
        fresh = self.out.with_name(f"{self.out.name}.new")
        save_encoder(self.encoder, fresh, half_precision=True)
        (fresh / "CARD.md").write_text(encoder_card(asdict(self.settings), asdict(self.done)))
        publish(fresh, self.out)


def batch_loss(features: Tensor, batch: PairBatch, place_weight: float) -> Tensor:
    """Return the label loss plus the weighted place loss of a batch's features ``(2 B, D, h, w)``."""
    side = batch.images.shape[-1]
    pairs = len(batch.images) // 2
    pointwise = features_at(features, batch.points, side)
    rows = torch.arange(2 * pairs)[:, None]
    labels = batch.labels[rows, batch.points[..., 1], batch.points[..., 0]]
    by_label = supervised_contrastive(
        torch.cat([pointwise[:pairs], pointwise[pairs:]], dim=1),
        torch.cat([labels[:pairs], labels[pairs:]], dim=1),
    )
    at_places = features_at(features, batch.place_points, side)
    by_place = correspondence(at_places[:pairs], at_places[pairs:], batch.place_visible, batch.places)
    return by_label + place_weight * by_place
