"""The context adapter: a small U-Net over dense features, so that a place is told by what lies around it.

A head that sees one cell at a time cannot count vertebrae or tell a liver's edge from a spleen's. This one
maps each cell and its neighbourhood to a vector and compares it with one learnt vector a class (proxies
instead of reference pixels: the class is what a pixel is contrasted with, as in the method's step 5, but the
proxies are trained with the head). It learns from many variants of the templates, never from other images.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fewshot_node.records import FeatureMap, FloatArray
from fewshot_node.vision.adapters.arrangement import arrangements
from fewshot_node.vision.adapters.calibration import Calibration, peak_threshold, presence, presence_gate
from fewshot_node.vision.adapters.context_head import MULTIPLE, ContextHead
from fewshot_node.vision.adapters.settings import AdapterSettings
from fewshot_node.vision.adapters.support import Support
from fewshot_node.vision.encode import autocast

Cell = TypeVar("Cell", bound=np.generic)

_WEIGHT_DECAY = 1e-2
_WARMUP_STEPS = 20
# A rare label weighs more, but with the square root: a label of three cells must not drown the rest.
_LEAST_SHARE = 1e-4
# Overlap of a kept-out variant below which a label counts as not learnt.
_LEAST_OVERLAP = 0.6
# Variants of slices that were trained on peak far higher than another patient does: three deviations below them, a
# third of the landmarks that new patients show counted as absent.
_DEVIATIONS = 5.0
_SLICES_AT_ONCE = 8


@dataclass(frozen=True, slots=True, eq=False)
class ContextAdapter:
    """A trained `ContextHead`, and what the variants that it was not trained on say of its scores.

    Attributes
    ----------
    gates
        float32 (labels,): `presence` below which a slice does not show a label, see `presence_gate`.
    figures
        float32 (templates, labels, 2): how each template's labels lie, see `arrangements`.
    """

    settings: AdapterSettings
    label_values: tuple[int, ...]
    head: ContextHead
    calibration: Calibration
    gates: NDArray[np.float32]
    figures: NDArray[np.float32]

    @property
    def name(self) -> str:
        """The adapter's name."""
        return "context"

    @property
    def peak_thresholds(self) -> NDArray[np.float32]:
        """float32 (labels, 2): calibrated on variants of the templates that were not trained on."""
        return self.calibration.peaks.numpy()

    def scores(self, features: FeatureMap | FloatArray) -> NDArray[np.float32]:
        """Return log shares of each class, offsets included."""
        array = features.array if isinstance(features, FeatureMap) else features
        scores = np.empty((len(array), len(self.label_values) + 1, *array.shape[1:3]), dtype=np.float32)
        for start in range(0, len(array), _SLICES_AT_ONCE):
            part = slice(start, start + _SLICES_AT_ONCE)
            scores[part] = self._score(np.asarray(array[part], dtype=np.float32))
        return scores

    def _score(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        rows, columns = features.shape[1:3]
        square = _channels_first(square_canvas(features))
        top, left = _margins(rows, columns)
        with torch.inference_mode(), autocast(torch.device("cpu")):
            logits = self.head(self.head.standardise(square))
        scores = functional.log_softmax(logits.float(), dim=1) + self.calibration.offsets[:, None, None]
        return scores[:, :, top : top + rows, left : left + columns].numpy()

    def tensors(self) -> Mapping[str, Tensor]:
        """Return head and calibration."""
        head = {f"head.{name}": value.detach() for name, value in self.head.state_dict().items()}
        known = {"gates": torch.from_numpy(self.gates), "figures": torch.from_numpy(self.figures)}
        return head | {"offsets": self.calibration.offsets, "peaks": self.calibration.peaks} | known

    @classmethod
    def from_tensors(
        cls, settings: AdapterSettings, label_values: tuple[int, ...], tensors: Mapping[str, Tensor]
    ) -> "ContextAdapter":
        """Rebuild a stored adapter; one of an earlier version has neither offsets nor figures, and scores as it did."""
        head = ContextHead(len(tensors["head.mean"]), settings.context_width, len(label_values) + 1)
        head.load_state_dict(
            {name.removeprefix("head."): value for name, value in tensors.items() if name.startswith("head.")}
        )
        labels = len(label_values)
        offsets = tensors.get("offsets", Calibration.neutral(labels).offsets)
        gates = tensors.get("gates", torch.full((labels,), -math.inf)).numpy()
        figures = tensors.get("figures", torch.empty((0, labels, 2))).numpy()
        calibration = Calibration(offsets, tensors["peaks"])
        return cls(settings, label_values, head.eval().requires_grad_(False), calibration, gates, figures)


def square_canvas(features: NDArray[Cell]) -> NDArray[Cell]:
    """Put (slices, h, w, ...) in the middle of a square of zeros whose side is a multiple of 8 cells.

    Slices of any aspect ratio then share one grid without being bent.
    """
    rows, columns = features.shape[1:3]
    side, (top, left) = _side(rows, columns), _margins(rows, columns)
    square = np.zeros((len(features), side, side, *features.shape[3:]), dtype=features.dtype)
    square[:, top : top + rows, left : left + columns] = features
    return square


def fit_context(support: Support, settings: AdapterSettings) -> ContextAdapter:
    """Train the head on all slices but each one's last variant; calibrate on those.

    The support's slices lie on a square canvas, or are put on one.
    """
    features, cover = square_canvas(support.features), _cover(support)
    trained, kept_out = _split(support)
    weights = _class_weights(cover[trained])
    head = _train(features[trained], cover[trained], weights, settings)
    labels = len(support.label_values)
    silent, figures = np.full(labels, -np.inf, dtype=np.float32), arrangements(support)
    adapter = ContextAdapter(settings, support.label_values, head, Calibration.neutral(labels), silent, figures)
    if not kept_out.any():
        return adapter
    return _calibrated(adapter, features[kept_out], square_canvas(support.classes)[kept_out], weights)


def _side(rows: int, columns: int) -> int:
    return math.ceil(max(rows, columns) / MULTIPLE) * MULTIPLE


def _margins(rows: int, columns: int) -> tuple[int, int]:
    side = _side(rows, columns)
    return (side - rows) // 2, (side - columns) // 2


def _channels_first(features: NDArray[np.floating]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(features)).permute(0, 3, 1, 2).float()


def _cover(support: Support) -> NDArray[np.floating]:
    """Return how much of each cell each class covers, on the canvas: (slices, h, w, labels + 1)."""
    cover = support.cover
    if cover is None:
        cover = np.eye(len(support.label_values) + 1, dtype=np.float16)[support.classes]
    square = square_canvas(cover)
    square[..., 0] = 1 - square[..., 1:].sum(axis=-1)
    return square


def _split(support: Support) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which slices are trained on, and which variants are kept out: the last of each slice with several."""
    own = np.arange(len(support.labels)) if support.slice_ids is None else support.slice_ids
    kept_out = np.zeros(len(own), dtype=bool)
    for slice_id in np.unique(own):
        places = np.flatnonzero(own == slice_id)
        if len(places) > 2:
            kept_out[places[-1]] = True
    return ~kept_out, kept_out


def _train(
    features: NDArray[np.floating], cover: NDArray[np.floating], weights: Tensor, settings: AdapterSettings
) -> ContextHead:
    generator = torch.Generator().manual_seed(settings.seed)
    head = _new_head(features, cover.shape[-1], settings)
    trained = [value for value in head.parameters() if value.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=_WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, settings.steps))
    # Dropout draws from the global generator: seeded here, and given back as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        for _ in range(settings.steps):
            chosen = torch.randint(len(features), (settings.batch_slices,), generator=generator).numpy()
            with autocast(torch.device("cpu")):
                logits = head(head.standardise(_channels_first(features[chosen])))
            loss = context_loss(logits.float(), _channels_first(cover[chosen]), weights)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    head.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return head.eval().requires_grad_(False)


def _new_head(features: NDArray[np.floating], classes: int, settings: AdapterSettings) -> ContextHead:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        head = ContextHead(features.shape[-1], settings.context_width, classes)
    flat = features.reshape(-1, features.shape[-1])
    sample = np.asarray(flat[:: max(1, len(flat) // 100_000)], dtype=np.float32)
    with torch.no_grad():
        head.mean.copy_(torch.from_numpy(sample.mean(axis=0)))
        head.scale.copy_(1 / (torch.from_numpy(sample.std(axis=0)) + 1e-4))
    # Weights laid out as the slices are: the same sums, a fifth of a step less. Stored weights lie as usual again.
    head.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return head.train()


def _rate(step: int, steps: int) -> float:
    """Learning rate's share at a step: linear rise, half a cosine down."""
    return min(1.0, (step + 1) / _WARMUP_STEPS) * (0.5 * (1 + math.cos(math.pi * step / steps)) + 0.01)


def _class_weights(cover: NDArray[np.floating]) -> Tensor:
    share = torch.from_numpy(cover.reshape(-1, cover.shape[-1]).mean(axis=0, dtype=np.float64)).float()
    weights = (share + _LEAST_SHARE) ** -0.5
    return weights / (weights * share).sum()


def context_loss(logits: Tensor, cover: Tensor, weights: Tensor) -> Tensor:
    """Weighted soft-target cross-entropy plus one minus the labels' mean soft Dice over the batch.

    Parameters
    ----------
    logits, cover
        BKhw; `cover` is each class's share of a cell.
    weights
        (K,).
    """
    log_shares = functional.log_softmax(logits, dim=1)
    entropy = -(cover * log_shares * weights[:, None, None]).sum(dim=1).mean()
    shares = log_shares.exp()
    axes = (0, 2, 3)
    dice = (2 * (shares * cover).sum(axes) + 1e-3) / (shares.sum(axes) + cover.sum(axes) + 1e-3)
    return entropy + 1 - dice[1:].mean()


def _calibrated(
    adapter: ContextAdapter, features: NDArray[np.floating], classes: NDArray[np.int64], weights: Tensor
) -> ContextAdapter:
    """Learn offsets, peaks and gates from (slices, h, w, channels) that the head was not trained on."""
    scores = np.concatenate([adapter.scores(one[None]) for one in features])
    offsets = _unweighted(scores, classes, weights)
    peaks, gates = [], []
    for channel in range(1, len(offsets)):
        heights = [presence(one[None] + offsets[:, None, None], channel) for one in scores]
        shown = [bool((one == channel).any()) for one in classes]
        peaks.append(peak_threshold(heights, shown, _DEVIATIONS))
        gates.append(presence_gate(heights, shown))
    calibration = Calibration(torch.from_numpy(offsets), torch.tensor(peaks, dtype=torch.float32))
    return replace(adapter, calibration=calibration, gates=np.array(gates, dtype=np.float32))


def _unweighted(scores: NDArray[np.float32], classes: NDArray[np.int64], weights: Tensor) -> NDArray[np.float32]:
    """Return what to add to each channel to take back the weight that its class had in training.

    Weights make a head say its labels too often. They are taken back as far as the head knows a label: all of a
    weight where it outlines the kept-out variants exactly, nothing where it hardly finds them, for there a lack of
    evidence already keeps the label small.
    """
    log_weights = torch.log(weights / weights[0]).numpy()
    found = scores.argmax(axis=1)
    offsets = np.zeros(len(log_weights), dtype=np.float32)
    for channel in range(1, len(offsets)):
        own, true = found == channel, classes == channel
        overlap = (own & true).sum() / max(1, (own | true).sum())
        offsets[channel] = -log_weights[channel] * max(0.0, (overlap - _LEAST_OVERLAP) / (1 - _LEAST_OVERLAP))
    return offsets
