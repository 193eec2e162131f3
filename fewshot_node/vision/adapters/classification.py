"""The classification adapter: a feed-forward network that names each pixel's label by itself."""

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
from fewshot_node.vision.adapters.sampling import draw
from fewshot_node.vision.adapters.scoring import score_slices, smooth
from fewshot_node.vision.adapters.settings import AdapterSettings
from fewshot_node.vision.adapters.support import Support
from fewshot_node.vision.adapters.training import support_pixels, train, vary

_LABELLED_SHARE = 0.5


class FeedForwardHead(PixelHead):
    """Three layers: standardised pixels (..., input) to logits (..., labels + 1) (method, step 4)."""

    def __init__(self, input_dim: int, hidden_dim: int, classes: int) -> None:
        super().__init__(input_dim)
        self.first = nn.Linear(input_dim, hidden_dim)
        self.second = nn.Linear(hidden_dim, hidden_dim)
        self.third = nn.Linear(hidden_dim, classes)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the logits of pixels as `standardise` gives them."""
        logits: Tensor = self.third(functional.gelu(self.second(functional.gelu(self.first(pixels)))))
        return logits


@dataclass(frozen=True, slots=True, eq=False)
class ClassificationAdapter:
    """Logits of a network trained with cross-entropy (paper, section 2.2).

    Attributes
    ----------
    calibration
        On template slices, scored by heads trained without them.
    """

    settings: AdapterSettings
    label_values: tuple[int, ...]
    head: FeedForwardHead
    calibration: Calibration

    @property
    def name(self) -> str:
        """The adapter's name."""
        return "classification"

    @property
    def peak_thresholds(self) -> NDArray[np.float32]:
        """float32 (labels, 2): calibrated on the templates."""
        return self.calibration.peaks.numpy()

    def scores(self, features: FeatureMap | FloatArray) -> NDArray[np.float32]:
        """Return logits, offsets included."""
        return score_slices(features, len(self.label_values) + 1, self._score_slice)

    def _score_slice(self, features: Tensor) -> Tensor:
        pixels = with_position(features[None])[0].flatten(0, 1)
        scores = self.head(self.head.standardise(pixels)) + self.calibration.offsets
        return smooth(scores.T.reshape(-1, *features.shape[:2]), self.settings.smoothing_cells)

    def tensors(self) -> Mapping[str, Tensor]:
        """Return head and calibration."""
        return head_tensors(self.head) | {"offsets": self.calibration.offsets, "peaks": self.calibration.peaks}

    @classmethod
    def from_tensors(
        cls, settings: AdapterSettings, label_values: tuple[int, ...], tensors: Mapping[str, Tensor]
    ) -> "ClassificationAdapter":
        """Rebuild a stored adapter."""
        hidden, inputs = tensors["head.first.weight"].shape
        head = FeedForwardHead(inputs, hidden, len(label_values) + 1)
        load_head(head, tensors)
        return cls(settings, label_values, head, Calibration(tensors["offsets"], tensors["peaks"]))


def fit_classification(support: Support, settings: AdapterSettings) -> ClassificationAdapter:
    """Train the network on as many labelled pixels as background ones, every label alike, and calibrate."""

    def fit(part: Support) -> ClassificationAdapter:
        return ClassificationAdapter(
            settings, part.label_values, _train(part, settings), Calibration.neutral(len(part.label_values))
        )

    return replace(fit(support), calibration=cross_calibrate(support, fit))


def _train(support: Support, settings: AdapterSettings) -> FeedForwardHead:
    generator = torch.Generator().manual_seed(settings.seed)
    pixels = support_pixels(support)
    head = FeedForwardHead(pixels.raw.shape[1], settings.hidden_dim, len(support.label_values) + 1)
    head.take_scale(pixels.raw, settings.position_weight)
    start_layers((head.first, head.second, head.third), generator)
    standard = head.standardise(pixels.raw)

    def batch_loss() -> Tensor:
        chosen = draw(pixels.pools, settings.batch, generator, _LABELLED_SHARE)
        varied = vary(standard[chosen], pixels.units[chosen], settings.position_weight, generator)
        return functional.cross_entropy(head(varied), pixels.classes[chosen])

    train(head, batch_loss, settings)
    return head
