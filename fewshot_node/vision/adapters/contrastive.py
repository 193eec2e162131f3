"""The contrastive adapter, matching form: one shared head, and cosines of its outputs with references."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from fewshot_node.records import FeatureMap, FloatArray
from fewshot_node.vision.adapters.calibration import channel_offsets, peak_threshold, presence
from fewshot_node.vision.adapters.head import POSITION_DIM, MatchingHead, matching_loss, with_position
from fewshot_node.vision.adapters.references import References, choose_references
from fewshot_node.vision.adapters.sampling import PixelPools, draw, pixel_pools
from fewshot_node.vision.adapters.support import AdapterSettings, Support, feature_batches, require_every_label

logger = logging.getLogger(__name__)

_FEATURE_NOISE = 0.3
_POSITION_JITTER = 0.1
_WEIGHT_DECAY = 1e-2
_RETRIEVAL_SCALE = 10.0
_TINY = 1e-9
_ABSENT = -20.0


@dataclass(frozen=True, slots=True, eq=False)
class ContrastiveAdapter:
    """Compares g(query) with g(references): log of the mean kernel exp(cos / T) over a class's references.

    References are averaged within a template slice first; then the slices are averaged, weighted by how
    much each looks like the query slice as a whole.

    Attributes
    ----------
    descriptors
        float32 (template slices, channels): unit mean feature vector of each.
    offsets
        float32 (labels + 1,): added to the channels, calibrated on the templates.
    peaks
        float32 (labels, 2): see `Adapter.peak_thresholds`.
    """

    settings: AdapterSettings
    label_values: tuple[int, ...]
    head: MatchingHead
    references: References
    descriptors: Tensor
    offsets: Tensor
    peaks: Tensor

    @property
    def name(self) -> str:
        """The adapter's name."""
        return "contrastive"

    @property
    def peak_thresholds(self) -> NDArray[np.float32]:
        """float32 (labels, 2): calibrated on the templates."""
        return self.peaks.numpy()

    def scores(self, features: FeatureMap | FloatArray) -> NDArray[np.float32]:
        """Return log mean kernels, offsets included."""
        shape = (features.array if isinstance(features, FeatureMap) else features).shape
        scores = np.empty((shape[0], len(self.label_values) + 1, *shape[1:3]), dtype=np.float32)
        with torch.inference_mode():
            for part, batch in feature_batches(features):
                scores[part] = torch.stack([self._score_slice(one) for one in batch]).numpy()
        return scores

    def held_out_scores(self, features: Tensor, held_out: Tensor) -> NDArray[np.float32]:
        """Score a template slice, (h, w, channels), without the references of some: (labels + 1, h, w).

        `held_out` is bool (template slices,).
        """
        with torch.inference_mode():
            return self._score_slice(features, held_out).numpy()

    def _score_slice(self, features: Tensor, held_out: Tensor | None = None) -> Tensor:
        pixels = with_position(features[None])[0].flatten(0, 1)
        embedded = self.head(self.head.standardise(pixels))
        inverse = 1 / self.settings.temperature
        kernel = (embedded @ (inverse * self.references.embedded.T)).sub_(inverse).exp_()
        weights = self._reference_weights(_descriptor(features), held_out)
        scores = torch.log(kernel @ weights + _TINY) + self.offsets
        scores[:, weights.sum(dim=0) == 0] = _ABSENT
        return smooth(scores.T.reshape(-1, *features.shape[:2]), self.settings.smoothing_cells)

    def _reference_weights(self, descriptor: Tensor, held_out: Tensor | None) -> Tensor:
        """Return (references, labels + 1): each class's column sums to 1, or to 0 where it has no reference."""
        classes, slices = self.references.classes, self.references.slices
        channels = len(self.label_values) + 1
        group = slices * channels + classes
        size = torch.bincount(group)[group]
        likeness = _RETRIEVAL_SCALE * self.settings.retrieval * (self.descriptors @ descriptor)
        if held_out is not None:
            likeness = likeness.masked_fill(held_out, -torch.inf)
        # Per class, and in logarithms: a label must not fade because only an unlike template shows it.
        weight = (likeness[slices] - size.log())[:, None]
        own = functional.one_hot(classes, channels).bool()
        return torch.softmax(weight.masked_fill(~own, -torch.inf), dim=0).nan_to_num(0.0)

    def tensors(self) -> Mapping[str, Tensor]:
        """Return head, references and calibration."""
        head = {f"head.{name}": value.detach() for name, value in self.head.state_dict().items()}
        return head | {
            "references.embedded": self.references.embedded,
            "references.classes": self.references.classes,
            "references.slices": self.references.slices,
            "descriptors": self.descriptors,
            "offsets": self.offsets,
            "peaks": self.peaks,
        }

    @classmethod
    def from_tensors(
        cls, settings: AdapterSettings, label_values: tuple[int, ...], tensors: Mapping[str, Tensor]
    ) -> "ContrastiveAdapter":
        """Rebuild a stored adapter."""
        hidden, out = tensors["head.hidden.weight"], tensors["head.out.weight"]
        head = MatchingHead(hidden.shape[1], hidden.shape[0], out.shape[0])
        head.load_state_dict(
            {name.removeprefix("head."): value for name, value in tensors.items() if name[:5] == "head."}
        )
        references = References(*(tensors[f"references.{name}"] for name in ("embedded", "classes", "slices")))
        rest = (tensors[name] for name in ("descriptors", "offsets", "peaks"))
        return cls(settings, label_values, head.eval().requires_grad_(False), references, *rest)


def smooth(scores: Tensor, sigma: float) -> Tensor:
    """Average (channels, h, w) over neighbouring cells with a Gaussian; the edge goes on outside."""
    if sigma <= 0:
        return scores
    return torch.from_numpy(ndimage.gaussian_filter(scores.numpy(), (0, sigma, sigma), mode="nearest", truncate=3.0))


def fit_contrastive(support: Support, settings: AdapterSettings) -> ContrastiveAdapter:
    """Train the head, choose references, calibrate."""
    require_every_label(support)
    started = time.perf_counter()
    features, classes = torch.from_numpy(support.features), support.classes
    pixels = with_position(features).flatten(0, 2)
    pools = pixel_pools(classes, len(support.label_values))
    units = torch.from_numpy(support.units)
    flat_units = units.repeat_interleave(classes[0].size)
    head = _train(pixels, torch.from_numpy(classes).flatten(), flat_units, pools, settings)
    with torch.inference_mode():
        embedded = head(head.standardise(pixels))
        references = _references(embedded, pools, classes.shape, settings)
    labels = len(support.label_values)
    adapter = ContrastiveAdapter(
        settings,
        support.label_values,
        head,
        references,
        torch.stack([_descriptor(one) for one in features]),
        torch.zeros(labels + 1),
        torch.tensor([[0.0, 1.0]]).repeat(labels, 1),
    )
    if int(units.max()) > 0:
        adapter = _calibrate(adapter, features, classes, units)
    logger.info("fitted %d labels on %d slices in %.1f s", labels, len(features), time.perf_counter() - started)
    return adapter


def _descriptor(features: Tensor) -> Tensor:
    return functional.normalize(features.flatten(0, 1).mean(dim=0), dim=0)


def _train(
    pixels: Tensor, classes: Tensor, units: Tensor, pools: PixelPools, settings: AdapterSettings
) -> MatchingHead:
    generator = torch.Generator().manual_seed(settings.seed)
    head = MatchingHead(pixels.shape[1], settings.hidden_dim, settings.embedding_dim)
    head.start_from(pixels, settings.position_weight, generator)
    standard = head.standardise(pixels)
    trained = [value for value in head.parameters() if value.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=_WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.steps + 1, pct_start=0.1
    )
    for _ in range(settings.steps):
        chosen = draw(pools, settings.batch, generator)
        varied = _vary(standard[chosen], units[chosen], settings.position_weight, generator)
        loss = matching_loss(head(varied), classes[chosen], units[chosen], settings.temperature)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return head.eval().requires_grad_(False)


def _vary(pixels: Tensor, units: Tensor, position_weight: float, generator: torch.Generator) -> Tensor:
    """Add noise to the features, and another zoom and shift of the field of view to each unit's places."""
    features, place = pixels[:, :-POSITION_DIM], pixels[:, -POSITION_DIM:]
    noise = _FEATURE_NOISE * torch.randn(features.shape, generator=generator)
    zoom, shift = _POSITION_JITTER * torch.randn(2, int(units.max()) + 1, POSITION_DIM, generator=generator)
    moved = place * (1 + zoom[units]) + shift[units] * position_weight
    return torch.cat([features + noise, moved], dim=1)


def _references(embedded: Tensor, pools: PixelPools, shape: tuple[int, ...], settings: AdapterSettings) -> References:
    size = shape[1] * shape[2]
    backgrounds = (*pools.ring, *pools.elsewhere)
    groups = [(0, int(indices[0]) // size, indices) for indices in backgrounds]
    for label, places in enumerate(pools.foreground, start=1):
        groups += [(label, int(indices[0]) // size, indices) for indices in places]
    budgets = [settings.background_references, *[settings.references] * len(pools.foreground)]
    return choose_references(embedded, groups, budgets, settings.seed)


def _calibrate(
    adapter: ContrastiveAdapter, features: Tensor, classes: NDArray[np.int64], units: Tensor
) -> ContrastiveAdapter:
    held_out = [adapter.held_out_scores(one, units == unit) for one, unit in zip(features, units, strict=True)]
    flat = np.concatenate([scores.reshape(len(scores), -1) for scores in held_out], axis=1)
    offsets = channel_offsets(flat, classes.reshape(-1))
    peaks = []
    for channel in range(1, len(offsets)):
        peaks_here = [presence((scores + offsets[:, None, None])[None], channel) for scores in held_out]
        # A label that no other unit shows has no held-out score to learn from.
        known = [index for index, scores in enumerate(held_out) if scores[channel].max() > _ABSENT]
        shown = [bool((classes[index] == channel).any()) for index in known]
        peaks.append(peak_threshold([peaks_here[index] for index in known], shown))
    return replace(adapter, offsets=torch.from_numpy(offsets), peaks=torch.tensor(peaks, dtype=torch.float32))
