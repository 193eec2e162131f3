"""The contrastive adapter, matching form: one shared head, and cosines of its outputs with references."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewshot_node.records import FeatureMap, FloatArray
from fewshot_node.vision.adapters.calibration import Calibration, calibrate
from fewshot_node.vision.adapters.head import MatchingHead, head_tensors, load_head, matching_loss, with_position
from fewshot_node.vision.adapters.references import (
    References,
    background_groups,
    choose_references,
    label_groups,
    template_likeness,
)
from fewshot_node.vision.adapters.sampling import draw
from fewshot_node.vision.adapters.scoring import ABSENT, descriptor, score_slices, smooth
from fewshot_node.vision.adapters.settings import AdapterSettings
from fewshot_node.vision.adapters.support import Support
from fewshot_node.vision.adapters.training import SupportPixels, support_pixels, train, vary

_TINY = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class ContrastiveAdapter:
    """Compares g(query) with g(references): log of the mean kernel exp(cos / T) over a class's references.

    References are averaged within a template slice first; then the slices are averaged, weighted by how
    much each looks like the query slice as a whole.

    Attributes
    ----------
    references
        g of the pixels kept, of unit length.
    descriptors
        float32 (template slices, channels): unit mean feature vector of each.
    calibration
        On template slices, each without the references of its own unit.
    """

    settings: AdapterSettings
    label_values: tuple[int, ...]
    head: MatchingHead
    references: References
    descriptors: Tensor
    calibration: Calibration

    @property
    def name(self) -> str:
        """The adapter's name."""
        return "contrastive"

    @property
    def peak_thresholds(self) -> NDArray[np.float32]:
        """float32 (labels, 2): calibrated on the templates."""
        return self.calibration.peaks.numpy()

    def scores(self, features: FeatureMap | FloatArray) -> NDArray[np.float32]:
        """Return log mean kernels, offsets included."""
        return score_slices(features, len(self.label_values) + 1, self._score_slice)

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
        kernel = (embedded @ (inverse * self.references.vectors.T)).sub_(inverse).exp_()
        likeness = template_likeness(self.descriptors, descriptor(features), self.settings.retrieval)
        if held_out is not None:
            likeness = likeness.masked_fill(held_out, -torch.inf)
        weights = self.references.weights(likeness, len(self.label_values) + 1)
        scores = torch.log(kernel @ weights + _TINY) + self.calibration.offsets
        scores[:, weights.sum(dim=0) == 0] = ABSENT
        return smooth(scores.T.reshape(-1, *features.shape[:2]), self.settings.smoothing_cells)

    def tensors(self) -> Mapping[str, Tensor]:
        """Return head, references and calibration."""
        return head_tensors(self.head) | {
            "references.embedded": self.references.vectors,
            "references.classes": self.references.classes,
            "references.slices": self.references.slices,
            "descriptors": self.descriptors,
            "offsets": self.calibration.offsets,
            "peaks": self.calibration.peaks,
        }

    @classmethod
    def from_tensors(
        cls, settings: AdapterSettings, label_values: tuple[int, ...], tensors: Mapping[str, Tensor]
    ) -> "ContrastiveAdapter":
        """Rebuild a stored adapter."""
        hidden, out = tensors["head.hidden.weight"], tensors["head.out.weight"]
        head = MatchingHead(hidden.shape[1], hidden.shape[0], out.shape[0])
        load_head(head, tensors)
        references = References(*(tensors[f"references.{name}"] for name in ("embedded", "classes", "slices")))
        calibration = Calibration(tensors["offsets"], tensors["peaks"])
        return cls(settings, label_values, head, references, tensors["descriptors"], calibration)


def fit_contrastive(support: Support, settings: AdapterSettings) -> ContrastiveAdapter:
    """Train the head, choose references, calibrate."""
    pixels = support_pixels(support)
    head = _train(pixels, settings)
    with torch.inference_mode():
        embedded = head(head.standardise(pixels.raw))
        references = _references(embedded, pixels, settings)
    features = torch.from_numpy(support.features).float()
    adapter = ContrastiveAdapter(
        settings,
        support.label_values,
        head,
        references,
        torch.stack([descriptor(one) for one in features]),
        Calibration.neutral(len(support.label_values)),
    )
    units = torch.from_numpy(support.units)
    if int(units.max()) == 0:
        return adapter
    held_out = [adapter.held_out_scores(one, units == unit) for one, unit in zip(features, units, strict=True)]
    return replace(adapter, calibration=calibrate(held_out, support.classes))


def _train(pixels: SupportPixels, settings: AdapterSettings) -> MatchingHead:
    generator = torch.Generator().manual_seed(settings.seed)
    head = MatchingHead(pixels.raw.shape[1], settings.hidden_dim, settings.embedding_dim)
    head.start_from(pixels.raw, settings.position_weight, generator)
    standard = head.standardise(pixels.raw)

    def batch_loss() -> Tensor:
        chosen = draw(pixels.pools, settings.batch, generator)
        units = pixels.units[chosen]
        varied = vary(standard[chosen], units, settings.position_weight, generator)
        return matching_loss(head(varied), pixels.classes[chosen], units, settings.temperature)

    train(head, batch_loss, settings)
    return head


def _references(embedded: Tensor, pixels: SupportPixels, settings: AdapterSettings) -> References:
    groups = [*background_groups(pixels.pools, pixels.a_slice), *label_groups(pixels.pools, pixels.a_slice)]
    budgets = [settings.background_references, *[settings.references] * len(pixels.pools.foreground)]
    return choose_references(embedded, embedded, groups, budgets, settings.seed)
