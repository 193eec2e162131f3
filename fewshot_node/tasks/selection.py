"""Which slices of an annotated series become a template."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from fewshot_node.errors import TemplateError
from fewshot_node.records import LabelArray

_MARGIN_SLICES = 2
_DENSE_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class TemplateSelection:
    """What to take from an annotated series.

    Attributes
    ----------
    name
        Name of the template within its task; empty derives one from its content.
    indices
        Exactly these slices, counted from 0 in the sorted volume; a slice without a label is a negative
        example. Empty chooses.
    annotated
        How many annotated slices to choose. Every label is shown at least once, with more slices if need be.
    negatives
        How many slices without any label to choose: "absent" cannot be learnt without them (method, step 6).
        None are chosen where only a few slices of the series seem to have been annotated at all.
    value_map
        Label value (of a DICOM SEG: segment number) in the file -> label value of the task; 0 drops it.
    ignore_others
        Whether values that the task does not know are dropped instead of refused.
    """

    name: str = ""
    indices: tuple[int, ...] = ()
    annotated: int = 5
    negatives: int = 3
    value_map: Mapping[int, int] = field(default_factory=dict)
    ignore_others: bool = False

    def __post_init__(self) -> None:
        if self.annotated < 1 or self.negatives < 0:
            raise TemplateError("a template needs at least 1 annotated slice and not fewer than 0 negative ones")


def choose_slices(label_map: LabelArray, selection: TemplateSelection) -> tuple[int, ...]:
    """Return rising indices of the slices to keep.

    Parameters
    ----------
    label_map
        uint8 (slices, rows, columns), values of the task only, at least one of them present.

    Raises
    ------
    TemplateError
        A chosen index lies outside the volume, or none of the chosen slices shows a label.
    """
    present = np.asarray(label_map.any(axis=(1, 2)))
    if selection.indices:
        return _explicit(present, selection.indices)
    negatives = _negative_slices(present, selection.negatives) if _fully_annotated(present) else []
    return tuple(sorted({*_annotated_slices(label_map, selection.annotated), *negatives}))


def choose_point_slices(slices: Sequence[int], count: int, selection: TemplateSelection) -> tuple[int, ...]:
    """Return rising indices of the slices to keep for points that lie on `slices` of `count`.

    Every point's slice is kept: a landmark lies on one slice, so slices away from it are negative ones.

    Raises
    ------
    TemplateError
        As `choose_slices`.
    """
    present = np.zeros(count, dtype=bool)
    present[list(slices)] = True
    if selection.indices:
        return _explicit(present, selection.indices)
    return tuple(sorted({*slices, *_negative_slices(present, selection.negatives)}))


def _explicit(present: NDArray[np.bool_], indices: Sequence[int]) -> tuple[int, ...]:
    outside = sorted({index for index in indices if not 0 <= index < len(present)})
    if outside:
        raise TemplateError(f"there is no slice {outside}: the series has the slices 0 to {len(present) - 1}")
    chosen = tuple(sorted(set(indices)))
    if not present[list(chosen)].any():
        labelled = np.flatnonzero(present)
        raise TemplateError(
            f"none of the chosen slices shows a label: labels lie on slices {labelled[0]} to {labelled[-1]}"
        )
    return chosen


def _annotated_slices(label_map: LabelArray, wanted: int) -> list[int]:
    """Cover every label first, then spread over the labelled content."""
    values = [int(value) for value in np.unique(label_map) if value]
    areas = np.stack([(label_map == value).sum(axis=(1, 2)) for value in values], axis=1).astype(float)
    shares = areas / areas.sum(axis=0)
    chosen: list[int] = []
    missing = np.ones(len(values), dtype=bool)
    while missing.any():
        gain = (areas[:, missing] > 0).sum(axis=1) + shares[:, missing].sum(axis=1) / (len(values) + 1)
        chosen.append(int(gain.argmax()))
        missing &= areas[chosen[-1]] == 0
    # Every slice of a label counts alike: the small ones near its ends are scored like the large ones.
    content = ((areas > 0) / (areas > 0).sum(axis=0)).sum(axis=1)
    places = (np.cumsum(content) - content / 2) / len(values)
    candidates = {int(index) for index in np.flatnonzero(content)} - set(chosen)
    while candidates and len(chosen) < wanted:
        # The ends of the content repel too: the first and last slices show slivers only.
        taken = np.array([0.0, 1.0, *places[chosen]])
        chosen.append(max(sorted(candidates), key=lambda index: float(np.abs(places[index] - taken).min())))
        candidates.discard(chosen[-1])
    return chosen


def _negative_slices(present: NDArray[np.bool_], wanted: int) -> list[int]:
    """Take slices without a label at all distances: beside the labelled ones, far from them and between."""
    near = binary_dilation(present, iterations=_MARGIN_SLICES)
    far = np.flatnonzero(~near)
    if not len(far) or not wanted:
        return []
    distance = np.abs(far[:, None] - np.flatnonzero(present)).min(axis=1)
    ordered = far[np.argsort(distance, kind="stable")]
    return [int(ordered[round(step)]) for step in np.linspace(0, len(far) - 1, min(wanted, len(far)))]


def _fully_annotated(present: NDArray[np.bool_]) -> bool:
    """Whether a slice without a label surely shows none.

    Where most slices between the first and the last labelled one are unlabelled, or a single slice is
    labelled, the annotator drew on a few slices only.
    """
    labelled = np.flatnonzero(present)
    return len(labelled) > 1 and bool(present[labelled[0] : labelled[-1] + 1].mean() >= _DENSE_SHARE)
