"""One head for each label against everything else, combined when they score."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fewshot_node.records import FeatureMap, FloatArray
from fewshot_node.vision.adapters.settings import AdapterSettings
from fewshot_node.vision.adapters.support import Adapter, Support


@dataclass(frozen=True, slots=True, eq=False)
class BinaryAdapter:
    """The highest log-odds of a label against its background wins, if above 0 (paper, section 2.2, "binary").

    Attributes
    ----------
    heads
        One a label, in their order, each fitted in the mode ``"multilabel"`` with that label alone.
    """

    settings: AdapterSettings
    label_values: tuple[int, ...]
    heads: tuple[Adapter, ...]

    @property
    def name(self) -> str:
        """The name of the heads."""
        return self.settings.name

    @property
    def peak_thresholds(self) -> NDArray[np.float32]:
        """float32 (labels, 2): as each head calibrated its own."""
        return np.concatenate([head.peak_thresholds for head in self.heads])

    def scores(self, features: FeatureMap | FloatArray) -> NDArray[np.float32]:
        """Return each head's log-odds behind a background of 0."""
        shape = (features.array if isinstance(features, FeatureMap) else features).shape
        scores = np.zeros((shape[0], len(self.heads) + 1, *shape[1:3]), dtype=np.float32)
        for channel, head in enumerate(self.heads, start=1):
            own = head.scores(features)
            scores[:, channel] = own[:, 1] - own[:, 0]
        return scores

    def tensors(self) -> Mapping[str, Tensor]:
        """Return the heads' tensors, behind each head's label value."""
        return {
            f"{value}.{name}": tensor
            for value, head in zip(self.label_values, self.heads, strict=True)
            for name, tensor in head.tensors().items()
        }


def fit_binary(
    support: Support, settings: AdapterSettings, fit: Callable[[Support, AdapterSettings], Adapter]
) -> BinaryAdapter:
    """Fit one head a label; `fit` is that of the adapter in the mode ``"multilabel"``."""
    alone = replace(settings, mode="multilabel")
    heads = tuple(fit(support.only(value), alone) for value in support.label_values)
    return BinaryAdapter(settings, support.label_values, heads)


def rebuild_binary(
    settings: AdapterSettings,
    label_values: tuple[int, ...],
    tensors: Mapping[str, Tensor],
    rebuild: Callable[[AdapterSettings, tuple[int, ...], Mapping[str, Tensor]], Adapter],
) -> BinaryAdapter:
    """Rebuild a stored adapter; `rebuild` is that of the adapter in the mode ``"multilabel"``."""
    alone = replace(settings, mode="multilabel")
    heads = []
    for value in label_values:
        start = f"{value}."
        own = {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
        heads.append(rebuild(alone, (value,), own))
    return BinaryAdapter(settings, label_values, tuple(heads))
