"""How sure an adapter was of every voxel: kept on its feature grid, brought to the image slice by slice."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class LabelProbabilities:
    """What share of an adapter's belief each label has in each voxel.

    Ten labels of 600 slices would take 6 GB on the image's grid, so only the scores are kept.

    Attributes
    ----------
    scores
        float32 (slices, labels + 1, h, w) on a grid that covers the slices edge to edge; channel 0 is background.
    label_values
        Channel k belongs to ``label_values[k - 1]``.
    image_shape
        (rows, columns) of the slices.
    """

    scores: NDArray[np.float32]
    label_values: tuple[int, ...]
    image_shape: tuple[int, int]

    def __post_init__(self) -> None:
        if self.scores.ndim != 4 or self.scores.shape[1] != len(self.label_values) + 1:
            raise ValueError(f"probabilities: scores {self.scores.shape} do not fit {len(self.label_values)} labels")

    def on_slice(self, slice_index: int) -> NDArray[np.float32]:
        """Return float32 (labels, rows, columns) within 0..1, in the order of `label_values`.

        The scores are interpolated bilinearly to the voxels, as for the label map, and the softmax over labels and
        background is taken there: where a label's probability is the highest, the label map has that label
        before it is cleaned and refined. Labels sum to at most 1. It is the adapter's belief, not a calibrated
        frequency.
        """
        rows, columns = self.image_shape
        coarse = np.asarray(self.scores[slice_index], dtype=np.float32)
        fine = _bilinear(coarse.shape[1], rows) @ coarse @ _bilinear(coarse.shape[2], columns).T
        fine -= fine.max(axis=0)
        np.exp(fine, out=fine)
        shares: NDArray[np.float32] = fine[1:] / fine.sum(axis=0)
        return shares


@cache
def _bilinear(cells: int, pixels: int) -> NDArray[np.float32]:
    """Return float32 (pixels, cells): each pixel centre's weights on the cell centres, both grids edge to edge."""
    places = np.clip((np.arange(pixels) + 0.5) * cells / pixels - 0.5, 0, cells - 1)
    lower = np.minimum(places.astype(np.intp), max(cells - 2, 0))
    upper = np.minimum(lower + 1, cells - 1)
    weights = np.zeros((pixels, cells), dtype=np.float32)
    np.add.at(weights, (np.arange(pixels), upper), places - lower)
    np.add.at(weights, (np.arange(pixels), lower), 1 - (places - lower))
    return weights
