"""What a refinement did, over the slices of a volume."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from fewshot_node.records import LabelArray, RefinementCount
from fewshot_node.vision.refine.claims import Claim


class Tally:
    """Counts of refined and coarse slices, and how far the draws of prompts agree, by label value."""

    def __init__(self) -> None:
        self._outcomes: Counter[tuple[int, bool]] = Counter()
        self._shared: dict[int, NDArray[np.int64]] = defaultdict(lambda: np.zeros((1, 1), dtype=np.int64))

    def add(self, claims: Sequence[Claim]) -> None:
        """Add the claims of one slice."""
        for claim in claims:
            self._outcomes[claim.label_value, claim.refined] += 1
            flat = claim.draws.reshape(len(claim.draws), -1)
            if len(flat) > 1:
                # Pixels that two draws share; a draw's own on the diagonal.
                shared = np.array([[int((one & other).sum()) for other in flat] for one in flat])
                self._shared[claim.label_value] = self._shared[claim.label_value] + shared

    @property
    def counts(self) -> Mapping[int, RefinementCount]:
        """Slices by label value."""
        values = sorted({value for value, _ in self._outcomes})
        return {value: RefinementCount(self._outcomes[value, True], self._outcomes[value, False]) for value in values}

    @property
    def uncertainty(self) -> Mapping[int, float]:
        """1 - mean IoU over pairs of draws, pooled over slices, by label value; empty where there was one draw."""
        return {value: _disagreement(shared) for value, shared in sorted(self._shared.items())}


def count_coarse(label_map: LabelArray) -> Mapping[int, RefinementCount]:
    """Count the slices of every label of a map that stays as it is, uint8 (slices, rows, columns)."""
    slices: Counter[int] = Counter()
    for label_slice in label_map:
        slices.update(int(value) for value in np.flatnonzero(np.bincount(label_slice.reshape(-1))) if value)
    return {value: RefinementCount(0, slices[value]) for value in sorted(slices)}


def _disagreement(shared: NDArray[np.int64]) -> float:
    sizes = shared.diagonal()
    overlaps = []
    for first, second in combinations(range(len(shared)), 2):
        union = sizes[first] + sizes[second] - shared[first, second]
        overlaps.append(float(shared[first, second] / union) if union else 1.0)
    return 1.0 - float(np.mean(overlaps))
