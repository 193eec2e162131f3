"""UniverSeg as a row: the templates are shown with every query (arXiv 2304.06131, section 3)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fewshot_node.evaluation.baselines.rival import Example
from fewshot_node.vision.encode import autocast, best_device
from fewshot_node.vision.universeg import UniverSeg, UniverSegModel

_MOST_EXAMPLES = 64
"""That a label is shown with, as the published network was."""


@dataclass(frozen=True, slots=True, eq=False)
class UniverSegLearner:
    """The method with a trained network.

    A label is shown by the slices that hold it, as binary masks; several labels are asked for one after the other, and
    a pixel goes to the one of the highest logit. Images are stretched to the network's square, as its authors do.
    """

    model: UniverSegModel
    name: str = "universeg"

    def learn(self, examples: Sequence[Example], label_values: tuple[int, ...]) -> "ShownExamples":
        """Keep the examples, as large as the network sees them."""
        device = best_device()
        network = self.model.network.to(device)
        supports = tuple(self._support(examples, value).to(device) for value in label_values)
        return ShownExamples(network, self.model.image_px, supports)

    def _support(self, examples: Sequence[Example], value: int) -> Tensor:
        showing = [example for example in examples if (example.labels == value).any()]
        count = min(_MOST_EXAMPLES, len(showing))
        spread = [showing[round(place)] for place in np.linspace(0, len(showing) - 1, count)]
        return torch.stack([_pair(example, value, self.model.image_px) for example in spread])


@dataclass(frozen=True, slots=True, eq=False)
class ShownExamples:
    """A network and what it is shown: for each label float (examples, 2, side, side), images and masks."""

    network: UniverSeg
    image_px: int
    supports: tuple[Tensor, ...]

    def label_logits(self, image: NDArray[np.float32]) -> Tensor:
        """Return (labels, rows, columns) logits of a slice (rows, columns) on 0..1."""
        device = self.supports[0].device
        query = _stretched(image, self.image_px).to(device)[None, None]
        with torch.inference_mode(), autocast(device):
            answers = [self.network(query, one[None, :, :1], one[None, :, 1:]) for one in self.supports]
        logits = torch.cat(answers).float()
        return functional.interpolate(logits, image.shape, mode="bilinear", align_corners=False)[:, 0]


def _pair(example: Example, value: int, side: int) -> Tensor:
    image = _stretched(example.image, side)
    share = _stretched((example.labels == value).astype(np.float32), side)
    # A structure that is smaller than a pixel there still is an example of something.
    return torch.stack([image, (share >= min(0.5, float(share.max()))).float()])


def _stretched(image: NDArray[np.float32], side: int) -> Tensor:
    given = torch.from_numpy(np.ascontiguousarray(image))[None, None]
    return functional.interpolate(given, (side, side), mode="bilinear", align_corners=False, antialias=True)[0, 0]
