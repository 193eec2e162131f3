"""Stand-ins for the vision tests: an encoder whose features are known, an adapter whose scores are given."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fewshot_node.records import FeatureMap
from fewshot_node.vision.adapters import AdapterSettings, Support, fit_adapter


class ThermometerEncoder(nn.Module):
    """Averages the input over its stride; the angle of a two-vector is the grey level."""

    weights_digest = "thermometer"

    def __init__(self, in_channels=1, stride=4, multiple=8, mean=0.0, std=1.0):
        super().__init__()
        self.in_channels, self.stride, self.multiple = in_channels, stride, multiple
        self.image_mean, self.image_std = (mean,) * in_channels, (std,) * in_channels
        self.embedding_dim = 2
        self.seen = []

    def forward(self, images: Tensor) -> Tensor:
        assert images.shape[1] == self.in_channels
        assert images.shape[2] % self.multiple == 0
        assert images.shape[3] % self.multiple == 0
        self.seen.append(images.float())
        grey = functional.avg_pool2d(images[:, :1].float(), self.stride)
        return torch.cat([torch.cos(grey), torch.sin(grey)], dim=1)


class GivenScores:
    """An adapter that returns the scores it was given."""

    name = "given"
    settings = AdapterSettings()

    def __init__(self, scores, label_values, peak_thresholds=None):
        self._scores = np.asarray(scores, dtype=np.float32)
        self.label_values = label_values
        default = np.tile(np.array([0.0, 1.0], dtype=np.float32), (len(label_values), 1))
        self.peak_thresholds = default if peak_thresholds is None else np.asarray(peak_thresholds, dtype=np.float32)

    def scores(self, features):
        return self._scores.copy()

    def tensors(self) -> Mapping[str, Tensor]:
        return {}


@pytest.fixture
def blank_features():
    """Build a feature map of one channel for given scores; only its shape and image shape matter."""

    def build(scores, image_shape):
        scores = np.asarray(scores)
        return FeatureMap(np.ones((scores.shape[0], *scores.shape[2:], 1), dtype=np.float16), image_shape)

    return build


@pytest.fixture
def thermometer():
    """Build `ThermometerEncoder`s."""
    return ThermometerEncoder


@pytest.fixture
def given_scores():
    """Build `GivenScores` adapters."""
    return GivenScores


@pytest.fixture
def context_scores():
    """Build a context adapter of given scores, with figures or gates that are given too."""

    def build(scores, **known):
        values = tuple(range(1, scores.shape[1]))
        labels = np.zeros((1, 8, 8), dtype=np.uint8)
        labels.flat[: len(values)] = values
        support = Support(np.ones((1, 8, 8, 2), np.float32), labels, np.zeros(1, int), values)
        fitted = fit_adapter(support, AdapterSettings(name="context", steps=1))
        parts = {name: getattr(fitted, name) for name in type(fitted).__dataclass_fields__}
        return type("Given", (type(fitted),), {"scores": lambda self, features: scores.copy()})(**{**parts, **known})

    return build
