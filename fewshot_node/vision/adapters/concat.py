"""The contrastive adapter as printed: a Siamese network, its two outputs concatenated, a linear softmax.

With W = [Wr | Wt] the logits of a pair are ``Wr g(r) + Wt g(t) + b``: a part of the reference and a part of the
target, which never meet. So the mean log-odds over R references need N + R evaluations of g for N pixels, not
N x R, and exactly so; and within a label all references rank the pixels alike (method, step 5).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from fewshot_node.records import FeatureMap, FloatArray
from fewshot_node.vision.adapters.calibration import Calibration
from fewshot_node.vision.adapters.cross_fit import cross_calibrate
from fewshot_node.vision.adapters.head import PixelHead, head_tensors, load_head, start_layers, with_position
from fewshot_node.vision.adapters.references import References, choose_references, label_groups, template_likeness
from fewshot_node.vision.adapters.sampling import draw_pairs
from fewshot_node.vision.adapters.scoring import ABSENT, descriptor, score_slices, smooth
from fewshot_node.vision.adapters.settings import AdapterSettings
from fewshot_node.vision.adapters.support import Support
from fewshot_node.vision.adapters.training import SupportPixels, support_pixels, train, vary


class PairHead(PixelHead):
    """g for both pixels of a pair, and a linear layer over the concatenation (paper, Fig. 4).

    Its outputs are the labels that the two may share, behind output 0: they share none. One label makes it
    the binary same/different.
    """

    def __init__(self, input_dim: int, hidden_dim: int, embedding_dim: int, classes: int) -> None:
        super().__init__(input_dim)
        self.hidden = nn.Linear(input_dim, hidden_dim)
        self.out = nn.Linear(hidden_dim, embedding_dim)
        self.decide = nn.Linear(2 * embedding_dim, classes)

    def embed(self, pixels: Tensor) -> Tensor:
        """Return g: standardised (..., input) to (..., embedding)."""
        return functional.gelu(self.out(functional.gelu(self.hidden(pixels))))

    def forward(self, references: Tensor, targets: Tensor) -> Tensor:
        """Return the logits (..., labels + 1) of pairs of standardised pixels."""
        logits: Tensor = self.decide(torch.cat([self.embed(references), self.embed(targets)], dim=-1))
        return logits

    def reference_part(self, references: Tensor) -> Tensor:
        """Return ``Wr g(r) + b``, the references' share in the logits."""
        weight = self.decide.weight[:, : self.out.out_features]
        return functional.linear(self.embed(references), weight, self.decide.bias)

    def target_part(self, targets: Tensor) -> Tensor:
        """Return ``Wt g(t)``, the targets' share in the logits."""
        return functional.linear(self.embed(targets), self.decide.weight[:, self.out.out_features :])


@dataclass(frozen=True, slots=True, eq=False)
class ConcatAdapter:
    """Mean log-odds, over a label's references, of sharing that label against sharing none.

    References are averaged within a template slice first; then the slices are averaged, weighted by how
    much each looks like the query slice as a whole. The background scores 0.

    Attributes
    ----------
    references
        Standardised inputs of the pixels kept, (references, channels + 2); of labels only, as every pair has a
        reference that shows a label.
    descriptors
        float32 (template slices, channels): unit mean feature vector of each.
    calibration
        On template slices, scored by heads trained without them.
    """

    settings: AdapterSettings
    label_values: tuple[int, ...]
    head: PairHead
    references: References
    descriptors: Tensor
    calibration: Calibration

    @property
    def name(self) -> str:
        """The adapter's name."""
        return "contrastive-concat"

    @property
    def peak_thresholds(self) -> NDArray[np.float32]:
        """float32 (labels, 2): calibrated on the templates."""
        return self.calibration.peaks.numpy()

    def scores(self, features: FeatureMap | FloatArray) -> NDArray[np.float32]:
        """Return mean log-odds, offsets included."""
        return score_slices(features, len(self.label_values) + 1, self._score_slice)

    def _score_slice(self, features: Tensor) -> Tensor:
        weights = self.reference_weights(features)
        of_references = _odds(self.head.reference_part(self.references.vectors))
        of_targets = _odds(self.head.target_part(self.inputs(features)))
        return self.finish((weights * of_references).sum(dim=0) + of_targets, features, weights)

    def inputs(self, features: Tensor) -> Tensor:
        """Return the standardised pixels (h * w, channels + 2) of a slice (h, w, channels)."""
        return self.head.standardise(with_position(features[None])[0].flatten(0, 1))

    def reference_weights(self, features: Tensor) -> Tensor:
        """Return (references, labels + 1): how much each reference counts for its label in this slice."""
        likeness = template_likeness(self.descriptors, descriptor(features), self.settings.retrieval)
        return self.references.weights(likeness, len(self.label_values) + 1)

    def finish(self, odds: Tensor, features: Tensor, weights: Tensor) -> Tensor:
        """Bring mean log-odds (h * w, labels + 1) to the slice's scores (labels + 1, h, w)."""
        scores = odds + self.calibration.offsets
        scores[:, 1:].masked_fill_(weights[:, 1:].sum(dim=0) == 0, ABSENT)
        return smooth(scores.T.reshape(-1, *features.shape[:2]), self.settings.smoothing_cells)

    def tensors(self) -> Mapping[str, Tensor]:
        """Return head, references and calibration."""
        return head_tensors(self.head) | {
            "references.inputs": self.references.vectors,
            "references.classes": self.references.classes,
            "references.slices": self.references.slices,
            "descriptors": self.descriptors,
            "offsets": self.calibration.offsets,
            "peaks": self.calibration.peaks,
        }

    @classmethod
    def from_tensors(
        cls, settings: AdapterSettings, label_values: tuple[int, ...], tensors: Mapping[str, Tensor]
    ) -> "ConcatAdapter":
        """Rebuild a stored adapter."""
        hidden, inputs = tensors["head.hidden.weight"].shape
        head = PairHead(inputs, hidden, len(tensors["head.out.bias"]), len(label_values) + 1)
        load_head(head, tensors)
        references = References(*(tensors[f"references.{name}"] for name in ("inputs", "classes", "slices")))
        calibration = Calibration(tensors["offsets"], tensors["peaks"])
        return cls(settings, label_values, head, references, tensors["descriptors"], calibration)


def pairwise_scores(adapter: ConcatAdapter, features: FeatureMap | FloatArray) -> NDArray[np.float32]:
    """Score a stack as `ConcatAdapter.scores` does, but as printed: every pixel paired with every reference.

    Both pixels of each of the N x R pairs go through g, and their outputs are concatenated. It is here to be
    compared with: the result is the same but for rounding, the cost some hundred times as much.
    """

    def score_slice(slice_features: Tensor) -> Tensor:
        pixels, weights = adapter.inputs(slice_features), adapter.reference_weights(slice_features)
        odds = torch.zeros(len(pixels), weights.shape[1])
        for reference, weight in zip(adapter.references.vectors, weights, strict=True):
            odds += weight * _odds(adapter.head(reference.repeat(len(pixels), 1), pixels))
        return adapter.finish(odds, slice_features, weights)

    return score_slices(features, len(adapter.label_values) + 1, score_slice)


def fit_concat(support: Support, settings: AdapterSettings) -> ConcatAdapter:
    """Train the network on pairs, choose references, calibrate."""

    def fit(part: Support) -> ConcatAdapter:
        return _fit_part(part, settings)

    return replace(fit(support), calibration=cross_calibrate(support, fit))


def _fit_part(support: Support, settings: AdapterSettings) -> ConcatAdapter:
    pixels = support_pixels(support)
    head, standard = _train(pixels, settings)
    with torch.inference_mode():
        embedded = functional.normalize(head.embed(standard), dim=1)
    budgets = [0, *[settings.references] * len(support.label_values)]
    return ConcatAdapter(
        settings,
        support.label_values,
        head,
        choose_references(embedded, standard, label_groups(pixels.pools, pixels.a_slice), budgets, settings.seed),
        torch.stack([descriptor(one) for one in torch.from_numpy(support.features).float()]),
        Calibration.neutral(len(support.label_values)),
    )


def _train(pixels: SupportPixels, settings: AdapterSettings) -> tuple[PairHead, Tensor]:
    generator = torch.Generator().manual_seed(settings.seed)
    classes = len(pixels.pools.foreground) + 1
    head = PairHead(pixels.raw.shape[1], settings.hidden_dim, settings.embedding_dim, classes)
    head.take_scale(pixels.raw, settings.position_weight)
    start_layers((head.hidden, head.out, head.decide), generator)
    standard = head.standardise(pixels.raw)

    def varied(chosen: Tensor) -> Tensor:
        return vary(standard[chosen], pixels.units[chosen], settings.position_weight, generator)

    def batch_loss() -> Tensor:
        references, targets, shared = draw_pairs(pixels.pools, settings.batch // 2, generator)
        return functional.cross_entropy(head(varied(references), varied(targets)), shared)

    train(head, batch_loss, settings)
    return head, standard


def _odds(logits: Tensor) -> Tensor:
    """Return the log-odds of each output against output 0."""
    return logits - logits[..., :1]
