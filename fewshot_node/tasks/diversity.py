"""What an encoder sees on the slices of a series, in one vector a slice: which of them teach something new."""

import numpy as np
from numpy.typing import NDArray

from fewshot_node.records import LabelArray, Volume
from fewshot_node.tasks.selection import Describe
from fewshot_node.vision.adapters import labels_to_grid
from fewshot_node.vision.backbone import DenseEncoder
from fewshot_node.vision.encode import EncodeSettings, encode
from fewshot_node.vision.intensity import intensity_ranges


def slice_descriptor(
    volume: Volume, label_map: LabelArray, encoder: DenseEncoder, settings: EncodeSettings
) -> Describe:
    """Return the function that describes slices: the mean feature of each label's places, and of all others.

    Parameters
    ----------
    label_map
        uint8 (slices, rows, columns), values of the task.
    """
    values = [int(value) for value in np.unique(label_map) if value]
    ranges = intensity_ranges(volume.array, volume.modality, settings.intensity, encoder.in_channels)

    def describe(indices: NDArray[np.intp]) -> NDArray[np.floating]:
        features = encode(volume.array[indices], volume.modality, encoder, settings, ranges=ranges).array
        labels = labels_to_grid(label_map[indices], (features.shape[1], features.shape[2]))
        return np.stack([_means(*pair, values) for pair in zip(features, labels, strict=True)])

    return describe


def _means(features: NDArray[np.floating], labels: LabelArray, values: list[int]) -> NDArray[np.float32]:
    """Return the mean of (h, w, d) features over each label's cells and over the background, joined.

    A label that the slice does not show gives zeros: showing it, or not, is a difference too.
    """
    means = np.zeros((len(values) + 1, features.shape[2]), dtype=np.float32)
    for place, value in enumerate((0, *values)):
        cells = features[labels == value]
        if len(cells):
            means[place] = cells.astype(np.float32).mean(axis=0)
    return means.ravel()
