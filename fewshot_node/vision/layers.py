"""Several of a backbone's last layers read at once."""

import copy
from collections.abc import Sequence
from typing import Any, cast

from torch import Tensor, cat, nn, stack
from torch.nn import functional
from transformers import PreTrainedModel

from fewshot_node.errors import ConfigurationError

JOINS = ("concatenate", "average")


class LayerJoin(nn.Module):
    """Layers' maps, each of unit length over its channels, on the finest one's grid, behind each other or averaged.

    Attributes
    ----------
    embedding_dim
        Length of a feature vector, D.

    Raises
    ------
    ConfigurationError
        Layers of different widths shall be averaged.
    """

    def __init__(self, channels: Sequence[int], join: str) -> None:
        super().__init__()
        if join == "average" and len(set(channels)) > 1:
            widths = ", ".join(map(str, channels))
            raise ConfigurationError(
                f"encode.join: layers of {widths} channels cannot be averaged; give 'concatenate', or encode.layers = 1"
            )
        self.join = join
        self.embedding_dim = channels[0] if join == "average" else sum(channels)

    def extra_repr(self) -> str:
        """Name the way of joining in the module's own description."""
        return self.join

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return ``(B, D, h, w)``."""
        size = max((one.shape[-2:] for one in maps), key=lambda shape: shape[0] * shape[1])
        even = [functional.normalize(_on_grid(one, size), dim=1) for one in maps]
        return stack(even).mean(dim=0) if self.join == "average" else cat(even, dim=1)


def last_layers(backbone: PreTrainedModel, count: int) -> PreTrainedModel:
    """Return a backbone of the same weights whose feature maps are its last `count` layers (or stages).

    Raises
    ------
    ConfigurationError
        It has fewer.
    """
    config: Any = backbone.config
    # The first stage is what enters the first layer: patches that have seen nothing of each other.
    names = list(config.stage_names[1:])
    if count > len(names):
        raise ConfigurationError(f"encode.layers: {count} of an encoder that has {len(names)}; give at most that")
    # Shallow: modules and weights are shared, the choice of layers is not.
    reader: Any = copy.copy(backbone)
    reader.config = copy.copy(config)
    reader.out_features = names[-count:]
    return cast(PreTrainedModel, reader)


def _on_grid(features: Tensor, size: Sequence[int]) -> Tensor:
    if tuple(features.shape[-2:]) == tuple(size):
        return features
    return functional.interpolate(features, tuple(size), mode="bilinear", align_corners=False)
