"""The paper's baseline: mean cosine similarity with the template's pixels, and a fixed threshold."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fewshot_node.records import FeatureMap, FloatArray
from fewshot_node.vision.adapters.scoring import feature_batches
from fewshot_node.vision.adapters.settings import AdapterSettings
from fewshot_node.vision.adapters.support import Support


@dataclass(frozen=True, slots=True, eq=False)
class BasicAdapter:
    """Mean cosine similarity with every template pixel of a label (paper, section 2.2).

    The mean of cosines with unit vectors is the dot product with the mean of those vectors, so one vector
    a label stands for all its pixels, exactly.
    """

    settings: AdapterSettings
    label_values: tuple[int, ...]
    means: Tensor
    """float32 (labels, channels): mean, not normalised, of each label's unit feature vectors."""

    @property
    def name(self) -> str:
        """The adapter's name."""
        return "basic"

    @property
    def peak_thresholds(self) -> NDArray[np.float32]:
        """A landmark is present where its similarity exceeds the threshold: nothing is calibrated."""
        return np.tile(np.array([0.0, 0.05], dtype=np.float32), (len(self.label_values), 1))

    def scores(self, features: FeatureMap | FloatArray) -> NDArray[np.float32]:
        """Return mean cosine similarities behind a constant background score, the threshold."""
        shape = (features.array if isinstance(features, FeatureMap) else features).shape
        scores = np.full((shape[0], len(self.label_values) + 1, *shape[1:3]), self.settings.threshold, dtype=np.float32)
        with torch.inference_mode():
            for part, batch in feature_batches(features):
                similarity = functional.normalize(batch, dim=-1) @ self.means.T
                scores[part, 1:] = similarity.permute(0, 3, 1, 2).numpy()
        return scores

    def tensors(self) -> Mapping[str, Tensor]:
        """Return the means."""
        return {"means": self.means}

    @classmethod
    def from_tensors(
        cls, settings: AdapterSettings, label_values: tuple[int, ...], tensors: Mapping[str, Tensor]
    ) -> "BasicAdapter":
        """Rebuild a stored adapter."""
        return cls(settings, label_values, tensors["means"])


def fit_basic(support: Support, settings: AdapterSettings) -> BasicAdapter:
    """Average the unit feature vectors of each label over all templates."""
    features = functional.normalize(torch.from_numpy(support.features).float(), dim=-1)
    labels = torch.from_numpy(support.labels)
    means = torch.stack([features[labels == value].double().mean(dim=0) for value in support.label_values])
    return BasicAdapter(settings, support.label_values, means.float())
