"""Thresholds taken from the templates themselves, each slice scored as if it were new."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewshot_node.vision.adapters.scoring import ABSENT

_OFFSETS = np.linspace(-4, 4, 33)
_OFFSET_COST = 0.002
_ROUNDS = 2
_DEFAULT_PEAK = (0.0, 1.0)
_LEAST_DEVIATION = 1.0
# Slices without a label that tell what a slice without it looks like: with one to four, as many true labels were
# silenced on spines as false ones.
_FEWEST_WITHOUT = 5
# The head has seen the slices that are held out from the references, so their peaks are on the high side.
_DEVIATIONS = 3.0

FloatMap = NDArray[np.float32]


def margin(scores: FloatMap, channel: int) -> FloatMap:
    """Return a label's score over the best of all others: (slices, h, w) from (slices, channels, h, w)."""
    others = np.delete(scores, channel, axis=1).max(axis=1)
    difference: FloatMap = scores[:, channel] - others
    return difference


def presence(scores: FloatMap, channel: int) -> float:
    """Return a label's score over the background where it stands out most from all others.

    Labels that look alike, such as neighbouring vertebrae, compete for the place but do not make each other
    absent.
    """
    place = np.unravel_index(int(margin(scores, channel).argmax()), scores[:, 0].shape)
    return float(scores[:, channel][place] - scores[:, 0][place])


def channel_offsets(scores: FloatMap, classes: NDArray[np.int64]) -> FloatMap:
    """Return what to add to each channel so that the label map fits best, by IoU, label after label.

    Training sees labels and background equally often, which a volume does not show; this puts the prior
    right. A small cost on the offset keeps it at 0 where it hardly matters.

    Parameters
    ----------
    scores
        float32 (channels, pixels) of held-out slices; channel 0 is background.
    classes
        int64 (pixels,).
    """
    offsets = np.zeros(len(scores), dtype=np.float32)
    for _ in range(_ROUNDS):
        for channel in range(1, len(scores)):
            moved = scores + offsets[:, None]
            margin = scores[channel] - np.delete(moved, channel, axis=0).max(axis=0)
            offsets[channel] = _best_offset(margin, classes == channel)
    return offsets


def _best_offset(margin: FloatMap, truth: NDArray[np.bool_]) -> float:
    if not truth.any():
        return 0.0
    gains = []
    for offset in _OFFSETS:
        found = margin + offset > 0
        union = int((found | truth).sum())
        gains.append(int((found & truth).sum()) / union - _OFFSET_COST * abs(offset))
    return float(_OFFSETS[int(np.argmax(gains))])


def peak_threshold(
    peaks: Sequence[float], shown: Sequence[bool], deviations: float = _DEVIATIONS
) -> tuple[float, float]:
    """Return the peak height that tells a present landmark from an absent one, and its spread.

    Parameters
    ----------
    peaks
        A label's `presence` in each held-out slice.
    shown
        Whether the slice really shows the label.
    deviations
        How far below a usual peak a label is still present.

    Returns
    -------
    tuple
        Half way between the mean peak with the label and the mean one without, but at least so many
        deviations below the mean peak with the label: where the templates cannot tell, or show no negative
        slice, only what is clearly unlike them is absent.
    """
    with_label = [peak for peak, is_shown in zip(peaks, shown, strict=True) if is_shown]
    without = [peak for peak, is_shown in zip(peaks, shown, strict=True) if not is_shown]
    if not with_label:
        return _DEFAULT_PEAK
    present = float(np.mean(with_label))
    deviation = max(float(np.std(with_label)), _LEAST_DEVIATION)
    between = (present + float(np.mean(without))) / 2 if without else present
    threshold = min(between, present - deviations * deviation)
    return threshold, (present - threshold) / 2


def presence_gate(peaks: Sequence[float], shown: Sequence[bool]) -> float:
    """Return the `presence` below which a slice does not show a label; arguments as `peak_threshold` takes them.

    It lies half way between the mean peak with the label and the mean one without; it is minus infinity where hardly a
    slice lacks the label, or none shows it.
    """
    with_label = [peak for peak, is_shown in zip(peaks, shown, strict=True) if is_shown]
    without = [peak for peak, is_shown in zip(peaks, shown, strict=True) if not is_shown]
    if not with_label or len(without) < _FEWEST_WITHOUT:
        return -math.inf
    return float(np.mean(with_label) + np.mean(without)) / 2


def silence_absent(scores: FloatMap, gates: NDArray[np.float32]) -> FloatMap:
    """Put a label below the background throughout each slice that does not show it.

    Parameters
    ----------
    scores
        float32 (slices, labels + 1, h, w).
    gates
        float32 (labels,), as `presence_gate` returns them.
    """
    silenced = scores.copy() if np.isfinite(gates).any() else scores
    for channel in np.flatnonzero(np.isfinite(gates)) + 1:
        for index, one in enumerate(scores):
            lacking = gates[channel - 1] - presence(one[None], int(channel))
            if lacking > 0:
                silenced[index, channel] = np.minimum(one[channel], one[0] - lacking)
    return silenced


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """What the held-out slices say about an adapter's scores.

    Attributes
    ----------
    offsets
        float32 (labels + 1,): added to the channels.
    peaks
        float32 (labels, 2): see `Adapter.peak_thresholds`.
    """

    offsets: Tensor
    peaks: Tensor

    @classmethod
    def neutral(cls, labels: int) -> "Calibration":
        """Where no slice could be held out: nothing is added, the peaks are the default."""
        return cls(torch.zeros(labels + 1), torch.tensor([_DEFAULT_PEAK]).repeat(labels, 1))


def calibrate(held_out: Sequence[FloatMap], classes: NDArray[np.int64]) -> Calibration:
    """Learn offsets and peaks from slices that were scored as if they were new.

    Parameters
    ----------
    held_out
        float32 (labels + 1, h, w) of each slice; `ABSENT` throughout a channel for which no example was left.
    classes
        int64 (slices, h, w).
    """
    flat = np.concatenate([scores.reshape(len(scores), -1) for scores in held_out], axis=1)
    offsets = channel_offsets(flat, classes.reshape(-1))
    peaks = []
    for channel in range(1, len(offsets)):
        peaks_here = [presence((scores + offsets[:, None, None])[None], channel) for scores in held_out]
        # A label that no other unit shows has no held-out score to learn from.
        known = [index for index, scores in enumerate(held_out) if scores[channel].max() > ABSENT]
        shown = [bool((classes[index] == channel).any()) for index in known]
        peaks.append(peak_threshold([peaks_here[index] for index in known], shown))
    return Calibration(torch.from_numpy(offsets), torch.tensor(peaks, dtype=torch.float32))
