"""Train the packaged encoder on synthetic maps; stop and resume at any checkpoint."""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import ResNetBackbone, ResNetConfig

from fewshot_node.pretrain.batches import BatchSettings, PairBatch, held_out_batch, training_batch
from fewshot_node.pretrain.card import encoder_card
from fewshot_node.pretrain.contrastive import correspondence, features_at, supervised_contrastive
from fewshot_node.pretrain.loop import Places, TrainingRun
from fewshot_node.pretrain.map_pool import MapPool
from fewshot_node.pretrain.run_folder import Progressed
from fewshot_node.pretrain.scoring import encoder_score, intensity_score
from fewshot_node.vision.backbone import DenseEncoder, InputScale, save_encoder
from fewshot_node.vision.pyramid import PyramidProjection

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
    TrainingRun(_Recipe(settings), Places(out, work), settings).train()


class _Recipe:
    """The encoder in training; scored by matching, beside raw intensity and itself before the first step."""

    name, largest_gradient, scores_untrained = "encoder", 5.0, True

    def __init__(self, settings: PretrainSettings) -> None:
        self._settings, self._batch = settings, settings.batch()
        self.network = new_encoder(settings).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._held_out = held_out_batch(settings.held_out_pairs, self._batch)
        self._pool = MapPool(self._batch.pool())

    def loss(self, step: int) -> Tensor:
        batch = training_batch(self._pool, step, self._batch)
        images = (batch.images - self.network.image_mean[0]) / self.network.image_std[0]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            features = self.network(images.contiguous(memory_format=torch.channels_last))
        return batch_loss(features.float(), batch, self._settings.place_weight)

    def scores(self) -> tuple[float, ...]:
        return (encoder_score(self.network, self._held_out),)

    def baselines(self) -> dict[str, float]:
        return {"intensity": intensity_score(self._held_out)}

    def export(self, folder: Path, done: Progressed) -> None:
        save_encoder(self.network, folder, half_precision=True)
        (folder / "CARD.md").write_text(encoder_card(asdict(self._settings), asdict(done)))


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
