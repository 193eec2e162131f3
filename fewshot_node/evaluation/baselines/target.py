"""A label's look in a promptable model's own features, and where an image resembles it (PerSAM, section 3.1)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fewshot_node.vision.sam import EmbeddedImage, PromptBatch, SamEngine


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """A template slice as the engine has seen it, and where it shows the label: bool (rows, columns)."""

    image: EmbeddedImage
    mask: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """The label's mean features, float (channels,): of unit vectors, to compare with, and as they are, to prompt with.

    The published method has one reference. Of several, each has the same weight here, however large its mask.
    """

    direction: Tensor
    embedding: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Likeness:
    """How much each place of an image resembles a target.

    Attributes
    ----------
    cells
        Float (h, w): mean cosine similarity with the target's places on the engine's grid.
    prompts
        The most similar pixel as a positive point, the least similar one as a negative point.
    """

    cells: Tensor
    prompts: PromptBatch


def show(engine: SamEngine, image: NDArray[np.float32]) -> EmbeddedImage:
    """Encode a slice (rows, columns) on 0..1."""
    return engine.embed(np.repeat(image[None], 3, axis=0))


def target_of(references: Sequence[Reference]) -> Target:
    """Return the mean of the references' features inside their masks."""
    inside = [_features_inside(reference) for reference in references]
    directions = [functional.normalize(features, dim=1).mean(dim=0) for features in inside]
    embeddings = [features.mean(dim=0) for features in inside]
    return Target(torch.stack(directions).mean(dim=0), torch.stack(embeddings).mean(dim=0))


def likeness(image: EmbeddedImage, target: Target) -> Likeness:
    """Compare an image with a target."""
    features = functional.normalize(image.embedding[0], dim=0)
    cells = torch.einsum("c,chw->hw", target.direction, features)
    fine = on_image(cells, image)
    places = [divmod(int(index), fine.shape[1]) for index in (fine.argmax(), fine.argmin())]
    points = np.array([[[column, row] for row, column in places]], dtype=np.float32)
    return Likeness(cells, PromptBatch(points, np.array([[True, False]])))


def cover(mask: NDArray[np.bool_], image: EmbeddedImage, cells: tuple[int, int]) -> Tensor:
    """Return the share of each cell of a grid over the engine's square input that a mask covers: float (h, w)."""
    rows, columns = image.resized
    side = max(image.resized)
    given = torch.from_numpy(mask)[None, None].float().to(image.embedding.device)
    placed = functional.interpolate(given, (rows, columns), mode="bilinear", align_corners=False, antialias=True)
    return functional.adaptive_avg_pool2d(functional.pad(placed, (0, side - columns, 0, side - rows)), cells)[0, 0]


def on_image(cells: Tensor, image: EmbeddedImage) -> Tensor:
    """Bring (h, w) values on the engine's grid to the image's pixels."""
    rows, columns = image.resized
    side = max(image.resized)
    fine = functional.interpolate(cells[None, None], (side, side), mode="bilinear", align_corners=False)
    fine = fine[..., :rows, :columns]
    return functional.interpolate(fine, image.image_shape, mode="bilinear", align_corners=False)[0, 0]


def _features_inside(reference: Reference) -> Tensor:
    """Return (places, channels): cells that the mask fills by half or, of a small mask, the one that it fills most."""
    features = reference.image.embedding[0]
    share = cover(reference.mask, reference.image, (features.shape[1], features.shape[2]))
    inside = share >= min(0.5, float(share.max()))
    return features[:, inside].T
