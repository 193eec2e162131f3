"""The losses: points of one label are alike, and a place is like itself in the other view."""

import torch
from torch import Tensor
from torch.nn import functional


def sample_balanced(labels: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draw ``count`` pixels of each label image, every label equally often.

    Parameters
    ----------
    labels
        int64 ``(B, H, W)``.

    Returns
    -------
    Tensor
        int64 ``(B, count, 2)``, ``(x, y)``.
    """
    batch, _, width = labels.shape
    flat = labels.flatten(1)
    highest = int(flat.max()) + 1
    frequency = torch.zeros(batch, highest).scatter_add_(1, flat, torch.ones(flat.shape))
    weight = (1 / frequency.clamp(min=1)).gather(1, flat)
    chosen = torch.multinomial(weight, count, replacement=True, generator=generator)
    return torch.stack([chosen % width, chosen // width], dim=-1)


def features_at(features: Tensor, points: Tensor, image_side: int) -> Tensor:
    """Read features ``(B, D, h, w)`` at pixel points ``(B, N, 2)``: ``(B, N, D)`` of unit length."""
    grid = ((points.float() + 0.5) * (2 / image_side) - 1)[:, :, None, :]
    read = functional.grid_sample(features, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return functional.normalize(read[..., 0].transpose(1, 2), dim=-1)


def supervised_contrastive(features: Tensor, labels: Tensor, temperature: float = 0.1) -> Tensor:
    """Supervised contrastive loss within each image pair (Khosla et al. 2020, equation 2).

    Parameters
    ----------
    features
        Float ``(B, N, D)``, L2-normalised.
    labels
        int64 ``(B, N)``. Labels of different pairs are unrelated: pairs are never mixed.
    """
    logits = features @ features.transpose(1, 2) / temperature
    itself = torch.eye(labels.shape[1], dtype=torch.bool)
    log_share = functional.log_softmax(logits.masked_fill(itself, -1e4), dim=-1)
    positive = ((labels[:, :, None] == labels[:, None, :]) & ~itself).float()
    matches = positive.sum(dim=-1)
    loss = -(positive * log_share).sum(dim=-1) / matches.clamp(min=1)
    return loss[matches > 0].mean()


def correspondence(
    first: Tensor,
    second: Tensor,
    visible: Tensor,
    places: Tensor,
    near_px: float = 16.0,
    temperature: float = 0.1,
) -> Tensor:
    """Contrast each place with the others of its pair; places within ``near_px`` map pixels do not count.

    Parameters
    ----------
    first, second
        Float ``(B, N, D)``, L2-normalised: the same places in the two views.
    visible
        Bool ``(B, N)``: the place lies inside the second view (and is the same anatomy).
    places
        Float ``(B, N, 2)``, map coordinates.
    """
    logits = first @ second.transpose(1, 2) / temperature
    itself = torch.eye(logits.shape[1], dtype=torch.bool)
    near = (torch.cdist(places, places) < near_px) & ~itself
    excluded = near | (~visible[:, None, :] & ~itself)
    log_share = functional.log_softmax(logits.masked_fill(excluded, -1e4), dim=-1)
    loss = -log_share.diagonal(dim1=1, dim2=2)
    return (loss * visible).sum() / visible.sum().clamp(min=1)
