"""Which slices of an annotated series become a template."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from fewshot_node.errors import TemplateError
from fewshot_node.records import LabelArray

_MARGIN_SLICES = 2
_DENSE_SHARE = 0.5
_SLIVER = 0.6
_MOST_DESCRIBED = 64
"""Slices that are shown to an encoder for the choice, at most: some seconds on a CPU."""

Describe = Callable[[NDArray[np.intp]], NDArray[np.floating]]
"""Descriptors, float (slices, dimensions), of the slices with these indices."""


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
    value_map, name_map
        Label value (segment or ROI number), or name, in the file -> label value of the task; 0 drops it.
    ignore_others
        Whether values that the task does not know are dropped instead of refused.
    resample
        Whether labels on another grid are brought onto the series' (nearest neighbour) instead of refused.
    """

    name: str = ""
    indices: tuple[int, ...] = ()
    annotated: int = 5
    negatives: int = 3
    value_map: Mapping[int, int] = field(default_factory=dict)
    name_map: Mapping[str, int] = field(default_factory=dict)
    ignore_others: bool = False
    resample: bool = False

    def __post_init__(self) -> None:
        if self.annotated < 1 or self.negatives < 0:
            raise TemplateError("a template needs at least 1 annotated slice and not fewer than 0 negative ones")

    def slices_of(self, count: int) -> tuple[int, ...]:
        """Return the named slices of a series of `count`, rising.

        Raises
        ------
        TemplateError
            One lies outside the series.
        """
        outside = sorted({index for index in self.indices if not 0 <= index < count})
        if outside:
            raise TemplateError(f"there is no slice {outside}: the series has the slices 0 to {count - 1}")
        return tuple(sorted(set(self.indices)))


def choose_slices(
    label_map: LabelArray, selection: TemplateSelection, describe: Describe | None = None
) -> tuple[int, ...]:
    """Return rising indices of the slices to keep.

    Parameters
    ----------
    label_map
        uint8 (slices, rows, columns), values of the task only, at least one of them present.
    describe
        Gives what an encoder sees on slices; with it, those that differ most are chosen, else they are spread
        over the labelled content.

    Raises
    ------
    TemplateError
        A chosen index lies outside the volume, or none of the chosen slices shows a label.
    """
    present = np.asarray(label_map.any(axis=(1, 2)))
    if selection.indices:
        return _explicit(present, selection)
    negatives = _negative_slices(present, selection.negatives) if _fully_annotated(present) else []
    chosen = _covering_slices(label_map)
    if describe is None:
        chosen = _spread(label_map, chosen, selection.annotated)
    else:
        chosen = _differing(label_map, chosen, selection.annotated, describe)
    return tuple(sorted({*chosen, *negatives}))


def choose_negative_slices(count: int, wanted: int) -> tuple[int, ...]:
    """Return rising indices of slices spread evenly over a series of `count` that shows no label at all."""
    places = np.linspace(0, count, min(wanted, count) + 1)
    return tuple(int(place) for place in (places[:-1] + places[1:]) / 2)


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
        return _explicit(present, selection)
    return tuple(sorted({*slices, *_negative_slices(present, selection.negatives)}))


def _explicit(present: NDArray[np.bool_], selection: TemplateSelection) -> tuple[int, ...]:
    chosen = selection.slices_of(len(present))
    if not present[list(chosen)].any():
        labelled = np.flatnonzero(present)
        raise TemplateError(
            f"none of the chosen slices shows a label: labels lie on slices {labelled[0]} to {labelled[-1]}"
        )
    return chosen


def _covering_slices(label_map: LabelArray) -> list[int]:
    """Take slices until every label is shown: those with most labels still to show, and most of them."""
    areas = _areas(label_map)
    shares = areas / areas.sum(axis=0)
    labels = areas.shape[1]
    chosen: list[int] = []
    missing = np.ones(labels, dtype=bool)
    while missing.any():
        gain = (areas[:, missing] > 0).sum(axis=1) + shares[:, missing].sum(axis=1) / (labels + 1)
        chosen.append(int(gain.argmax()))
        missing &= areas[chosen[-1]] == 0
    return chosen


def _areas(label_map: LabelArray) -> NDArray[np.float64]:
    """Return the pixels of each label, float (slices, labels present)."""
    values = [int(value) for value in np.unique(label_map) if value]
    return np.stack([(label_map == value).sum(axis=(1, 2)) for value in values], axis=1).astype(np.float64)


def _spread(label_map: LabelArray, covering: Sequence[int], wanted: int) -> list[int]:
    """Add slices that are spread over the labelled content."""
    areas, chosen = _areas(label_map), list(covering)
    # Every slice of a label counts alike: the small ones near its ends are scored like the large ones.
    content = ((areas > 0) / (areas > 0).sum(axis=0)).sum(axis=1)
    places = (np.cumsum(content) - content / 2) / areas.shape[1]
    candidates = {int(index) for index in np.flatnonzero(content)} - set(chosen)
    while candidates and len(chosen) < wanted:
        # The ends of the content repel too: the first and last slices show slivers only.
        taken = np.array([0.0, 1.0, *places[chosen]])
        chosen.append(max(sorted(candidates), key=lambda index: float(np.abs(places[index] - taken).min())))
        candidates.discard(chosen[-1])
    return chosen


def _differing(label_map: LabelArray, covering: Sequence[int], wanted: int, describe: Describe) -> list[int]:
    """Add slices whose descriptors lie farthest from those of the slices that are taken already."""
    areas, chosen = _areas(label_map), list(covering)
    present = areas > 0
    usual = np.array([np.median(column[column > 0]) for column in areas.T])
    # Slivers differ most of all and teach least; a slice counts that shows a usual part of some label.
    full = (areas >= _SLIVER * usual).any(axis=1) & present.any(axis=1)
    others = [int(index) for index in np.flatnonzero(full) if index not in chosen]
    if len(others) > _MOST_DESCRIBED:
        others = [others[round(step)] for step in np.linspace(0, len(others) - 1, _MOST_DESCRIBED)]
    if not others or len(chosen) >= wanted:
        return chosen
    described = describe(np.array([*chosen, *others]))
    taken, left = list(range(len(chosen))), list(range(len(chosen), len(described)))
    while left and len(taken) < wanted:
        distances = np.linalg.norm(described[left][:, None] - described[taken][None], axis=2).min(axis=1)
        taken.append(left.pop(int(distances.argmax())))
    indices = [*chosen, *others]
    return [indices[place] for place in taken]


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
