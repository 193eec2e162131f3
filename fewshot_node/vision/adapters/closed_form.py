"""Heads that are written down instead of trained: nearest class mean, and linear discriminant."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fewshot_node.records import FeatureMap, FloatArray
from fewshot_node.vision.adapters.calibration import Calibration
from fewshot_node.vision.adapters.cross_fit import cross_calibrate
from fewshot_node.vision.adapters.head import POSITION_DIM, pixel_scale, with_position
from fewshot_node.vision.adapters.sampling import draw, pixel_pools
from fewshot_node.vision.adapters.scoring import ABSENT, score_slices, smooth
from fewshot_node.vision.adapters.settings import AdapterSettings
from fewshot_node.vision.adapters.support import Support

_LABELLED_SHARE = 0.5
_COVARIANCE_PIXELS = 4096
_LEAST_SCALE = 1e-3
_TINY = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class LinearAdapter:
    """One weight vector a class over unit features and the place.

    Attributes
    ----------
    weights
        float32 (labels + 1, channels + 2).
    biases
        float32 (labels + 1,).
    calibration
        On template slices, scored by heads fitted without them.
    """

    settings: AdapterSettings
    label_values: tuple[int, ...]
    weights: Tensor
    biases: Tensor
    calibration: Calibration

    @property
    def name(self) -> str:
        """The adapter's name."""
        return self.settings.name

    @property
    def peak_thresholds(self) -> NDArray[np.float32]:
        """float32 (labels, 2): calibrated on the templates."""
        return self.calibration.peaks.numpy()

    def scores(self, features: FeatureMap | FloatArray) -> NDArray[np.float32]:
        """Return the linear scores, offsets included."""
        return score_slices(features, len(self.label_values) + 1, self._score_slice)

    def _score_slice(self, features: Tensor) -> Tensor:
        scores = _inputs(features[None]) @ self.weights.T + (self.biases + self.calibration.offsets)
        return smooth(scores.T.reshape(-1, *features.shape[:2]), self.settings.smoothing_cells)

    def tensors(self) -> Mapping[str, Tensor]:
        """Return weights and calibration."""
        return {
            "weights": self.weights,
            "biases": self.biases,
            "offsets": self.calibration.offsets,
            "peaks": self.calibration.peaks,
        }

    @classmethod
    def from_tensors(
        cls, settings: AdapterSettings, label_values: tuple[int, ...], tensors: Mapping[str, Tensor]
    ) -> "LinearAdapter":
        """Rebuild a stored adapter."""
        calibration = Calibration(tensors["offsets"], tensors["peaks"])
        return cls(settings, label_values, tensors["weights"], tensors["biases"], calibration)


def fit_prototype(support: Support, settings: AdapterSettings) -> LinearAdapter:
    """Score by the cosine with each class's mean, the background's among them."""

    def fit(part: Support) -> LinearAdapter:
        means = _class_means(_inputs(part.features), torch.from_numpy(part.classes).flatten(), len(part.label_values))
        means[:, -POSITION_DIM:] = 0
        weights = functional.normalize(means, dim=1)
        return _linear(part, settings, means, weights, torch.zeros(len(weights)))

    return replace(fit(support), calibration=cross_calibrate(support, fit))


def fit_lda(support: Support, settings: AdapterSettings) -> LinearAdapter:
    """Score by the log-likelihood of Gaussians, one a class, that share a covariance.

    The covariance is pooled over pixels drawn as a trained head's batches are, half of them labelled, and drawn
    towards a multiple of the identity by `AdapterSettings.shrinkage`.
    """

    def fit(part: Support) -> LinearAdapter:
        generator = torch.Generator().manual_seed(settings.seed)
        labels = len(part.label_values)
        chosen = draw(pixel_pools(part.classes, labels), _COVARIANCE_PIXELS, generator, _LABELLED_SHARE)
        pixels, classes = _inputs(part.features)[chosen], torch.from_numpy(part.classes).flatten()[chosen]
        return _linear(part, settings, *_discriminants(pixels, classes, labels, settings))

    return replace(fit(support), calibration=cross_calibrate(support, fit))


def _inputs(features: Tensor | FloatArray) -> Tensor:
    """Return unit features and place, float32 (pixels, channels + 2), of (slices, h, w, channels)."""
    stack = features if isinstance(features, Tensor) else torch.from_numpy(features)
    return with_position(functional.normalize(stack.float(), dim=-1)).flatten(0, 2)


def _class_means(pixels: Tensor, classes: Tensor, labels: int) -> Tensor:
    """Return float64 (labels + 1, channels); not a number for a class without a pixel."""
    return torch.stack([pixels[classes == channel].double().mean(dim=0) for channel in range(labels + 1)])


def _discriminants(
    pixels: Tensor, classes: Tensor, labels: int, settings: AdapterSettings
) -> tuple[Tensor, Tensor, Tensor]:
    """Return class means, weights and biases of the linear discriminant, for raw pixels, float64."""
    centre, scale = (one.double() for one in pixel_scale(pixels, settings.position_weight))
    standard = (pixels.double() - centre) * scale
    means = _class_means(standard, classes, labels)
    rest = standard - means[classes]
    covariance = rest.T @ rest / len(rest)
    level = covariance.diagonal().mean() + _TINY
    shrunk = (1 - settings.shrinkage) * covariance + (settings.shrinkage + _TINY) * level * torch.eye(len(covariance))
    weights = torch.linalg.solve(shrunk, means.nan_to_num().T).T
    biases = -(weights * means).sum(dim=1) / 2 - weights * scale @ centre
    return means / scale.clamp(min=_TINY) + centre, weights * scale, biases


def _linear(
    support: Support, settings: AdapterSettings, means: Tensor, weights: Tensor, biases: Tensor
) -> LinearAdapter:
    """Scale scores so that labels and background stand as far apart, on the mean, as in the other heads.

    Which class wins does not change; the steps of the offsets and the spread of the peaks then mean as much
    as they do for a trained head. The background scores 0, or where no template has any, the classes' mean.
    """
    missing = means.isnan().any(dim=1)
    scores = means @ weights.T + biases
    lead = (scores - scores[:, :1]).diagonal()[1:] - (scores - scores[:, :1])[0, 1:]
    apart = float(lead[~lead.isnan()].mean()) / 2 if not (missing[0] or missing[1:].all()) else 1.0
    factor = 1 / (settings.temperature * max(apart, _LEAST_SCALE))
    anchor = ~missing if missing[0] else torch.arange(len(missing)) == 0
    weights = ((weights - weights[anchor].mean(dim=0)) * factor).masked_fill(missing[:, None], 0).float()
    biases = ((biases - biases[anchor].mean(dim=0)) * factor).masked_fill(missing, ABSENT).float()
    return LinearAdapter(
        settings, support.label_values, weights, biases, Calibration.neutral(len(support.label_values))
    )
