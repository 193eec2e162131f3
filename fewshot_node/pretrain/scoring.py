"""The held-out score: label the second view of unseen pairs from one prototype a label of the first."""

import torch
from torch import Tensor
from torch.nn import functional

from fewshot_node.pretrain.batches import PairBatch
from fewshot_node.vision.backbone import DenseEncoder

_STRIDE = 4
# A label that covers fewer cells than this in either view is not scored.
_FEWEST_CELLS = 6


def matching_iou(features: Tensor, labels: Tensor) -> float:
    """Classify second views by the nearest mean feature of the first views.

    Parameters
    ----------
    features
        Float ``(2 B, D, h, w)``: first views, then second views.
    labels
        int64 ``(2 B, h, w)``.

    Returns
    -------
    float
        IoU, averaged over the labels of a pair and then over the pairs. Labels that only one view shows are
        left out, prototypes and pixels both.
    """
    pairs = len(features) // 2
    pixels, truth = features.flatten(2).transpose(1, 2), labels.flatten(1)
    scores = [_pair_iou(pixels[i], truth[i], pixels[i + pairs], truth[i + pairs]) for i in range(pairs)]
    scored = [score for score in scores if score is not None]
    return float(torch.tensor(scored).mean()) if scored else float("nan")


def _pair_iou(first: Tensor, first_labels: Tensor, second: Tensor, second_labels: Tensor) -> float | None:
    shared = [
        label
        for label in torch.unique(first_labels).tolist()
        if min(int((first_labels == label).sum()), int((second_labels == label).sum())) >= _FEWEST_CELLS
    ]
    if len(shared) < 2:
        return None
    prototypes = torch.stack([first[first_labels == label].mean(dim=0) for label in shared])
    if first.shape[1] > 1:
        prototypes = functional.normalize(prototypes, dim=1)
    known = torch.isin(second_labels, torch.tensor(shared))
    guess = torch.cdist(second[known], prototypes).argmin(dim=1)
    truth = second_labels[known]
    overlaps = []
    for index, label in enumerate(shared):
        is_guess, is_label = guess == index, truth == label
        overlaps.append(float((is_guess & is_label).sum() / (is_guess | is_label).sum()))
    return sum(overlaps) / len(overlaps)


def coarse_labels(labels: Tensor) -> Tensor:
    """Return the label at the centre of each feature cell."""
    return labels[:, _STRIDE // 2 :: _STRIDE, _STRIDE // 2 :: _STRIDE]


def encoder_score(encoder: DenseEncoder, batch: PairBatch) -> float:
    """Score an encoder on a held-out batch; leaves it in the mode it was in."""
    was_training = encoder.training
    encoder.eval()
    mean, std = encoder.image_mean[0], encoder.image_std[0]
    with torch.inference_mode():
        parts = [encoder((part - mean) / std) for part in torch.split(batch.images, 16)]
    encoder.train(was_training)
    return matching_iou(torch.cat(parts).float(), coarse_labels(batch.labels))


def intensity_score(batch: PairBatch) -> float:
    """Score plain intensity, averaged over a cell, in the encoder's place."""
    return matching_iou(functional.avg_pool2d(batch.images, _STRIDE), coarse_labels(batch.labels))
