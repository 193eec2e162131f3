"""From scores of cases to a row of a table: means over labels, intervals over patients, paired tests."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

ALL_LABELS = "all"
_RESAMPLES = 1000
_INTERVAL = (2.5, 97.5)


@dataclass(frozen=True, slots=True)
class CaseScore:
    """One score of one asked case in one draw."""

    draw: int
    patient: str
    label: str
    metric: str
    value: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its 95 % interval over patients, and the spread over draws.

    Attributes
    ----------
    n
        Patients behind it.
    draw_spread, worst_draw
        Standard deviation of the draws' means, and the least of them (the greatest where less is better).
    """

    mean: float
    low: float
    high: float
    n: int
    draw_spread: float
    worst_draw: float


LESS_IS_BETTER = ("hd95", "mre", "seconds", "fp_slices", "missed")


def estimate(
    scores: Sequence[CaseScore], metric: str, label: str = ALL_LABELS, *, expanded: bool = False
) -> Estimate | None:
    """Average one metric: over the cases that hold a label, then over labels; None without a score.

    The interval comes from drawing patients with replacement, because slices of one patient are no
    independent evidence.

    Parameters
    ----------
    label
        Name of the one label to average over, or `ALL_LABELS`.
    expanded
        Widen the interval for few patients, where that of the percentiles is known to be too narrow: Hesterberg,
        What Teachers Should Know About the Bootstrap, The American Statistician 69 (2015), 5.3.
    """
    chosen = [one for one in scores if one.metric == metric and label in (ALL_LABELS, one.label)]
    if not chosen:
        return None
    patients = sorted({one.patient for one in chosen})
    sums, counts = _tables(chosen, patients)
    mean = float(_mean_over_labels(sums.sum(axis=0), counts.sum(axis=0)))
    generator = np.random.default_rng(0)
    picks = generator.integers(len(patients), size=(_RESAMPLES, len(patients)))
    resampled = [_mean_over_labels(sums[pick].sum(axis=0), counts[pick].sum(axis=0)) for pick in picks]
    percentiles = _expanded(len(patients)) if expanded else _INTERVAL
    low, high = (float(value) for value in np.nanpercentile(resampled, percentiles))
    by_draw = [_draw_mean(group) for group in _grouped(chosen, lambda one: one.draw).values()]
    worst = max(by_draw) if metric in LESS_IS_BETTER else min(by_draw)
    return Estimate(mean, low, high, len(patients), float(np.std(by_draw)), worst)


def _expanded(count: int) -> tuple[float, float]:
    """Return the percentiles between which `count` patients give an interval as wide as Student's t would."""
    if count < 2:
        return _INTERVAL
    reach = float(np.sqrt(count / (count - 1)) * stats.t.ppf(_INTERVAL[1] / 100, count - 1))
    low = float(100 * stats.norm.cdf(-reach))
    return low, 100 - low


def paired_p(first: Sequence[CaseScore], second: Sequence[CaseScore], metric: str) -> tuple[float, float] | None:
    """Compare two methods patient by patient; None with no pair that differs.

    A patient's figure is the mean over labels and draws; patients that only one method was scored on are left out.

    Returns
    -------
    tuple of float or None
        Mean difference, the first less the second, and the p value of Wilcoxon's signed-rank test, two-sided.
    """
    ours, theirs = _by_patient(first, metric), _by_patient(second, metric)
    shared = sorted(set(ours) & set(theirs))
    differences = np.array([ours[patient] - theirs[patient] for patient in shared])
    if not differences.any():
        return None
    return float(differences.mean()), float(stats.wilcoxon(differences).pvalue)


def _by_patient(scores: Sequence[CaseScore], metric: str) -> dict[str, float]:
    groups = _grouped((one for one in scores if one.metric == metric), lambda one: one.patient)
    return {str(patient): _draw_mean(group) for patient, group in groups.items()}


def _grouped(scores: Iterable[CaseScore], key: Callable[[CaseScore], Hashable]) -> Mapping[Hashable, list[CaseScore]]:
    groups: dict[Hashable, list[CaseScore]] = defaultdict(list)
    for one in scores:
        groups[key(one)].append(one)
    return groups


def _draw_mean(scores: Sequence[CaseScore]) -> float:
    labels = _grouped(scores, lambda one: one.label).values()
    return float(np.mean([np.mean([one.value for one in group]) for group in labels]))


def _tables(
    scores: Sequence[CaseScore], patients: Sequence[str]
) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.float64]], np.ndarray[tuple[int, ...], np.dtype[np.float64]]]:
    """Return sums and counts of values: (patients, labels)."""
    labels = sorted({one.label for one in scores})
    rows, columns = ({name: index for index, name in enumerate(names)} for names in (patients, labels))
    sums, counts = np.zeros((len(patients), len(labels))), np.zeros((len(patients), len(labels)))
    for one in scores:
        place = rows[one.patient], columns[one.label]
        sums[place] += one.value
        counts[place] += 1
    return sums, counts


def _mean_over_labels(
    sums: np.ndarray[tuple[int, ...], np.dtype[np.float64]], counts: np.ndarray[tuple[int, ...], np.dtype[np.float64]]
) -> float:
    seen = counts > 0
    return float((sums[seen] / counts[seen]).mean()) if seen.any() else float("nan")
