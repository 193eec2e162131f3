import pytest

from fewshot_node.scoring.statistics import CaseScore, estimate, paired_p


def scores(values: dict[tuple[str, str], list[float]], metric: str = "iou") -> list[CaseScore]:
    return [
        CaseScore(draw, patient, label, metric, value)
        for (patient, label), row in values.items()
        for draw, value in enumerate(row)
    ]


def test_labels_count_alike_however_often_they_are_seen() -> None:
    table = scores({("p1", "a"): [1.0, 1.0], ("p2", "a"): [1.0, 1.0], ("p1", "b"): [0.0]})
    found = estimate(table, "iou")
    assert found is not None
    assert found.mean == pytest.approx(0.5)
    assert found.n == 2
    assert estimate(table, "iou", "a").mean == 1.0  # type: ignore[union-attr]
    assert estimate(table, "dice") is None


def test_the_interval_is_over_patients_not_over_slices() -> None:
    one_patient = estimate(scores({("p1", "a"): [0.2, 0.8] * 50}), "iou")
    several = estimate(scores({(f"p{index}", "a"): [index / 10] for index in range(11)}), "iou")
    assert one_patient is not None
    assert several is not None
    assert one_patient.low == one_patient.high == pytest.approx(0.5)
    # Standard error of 0..1 in steps of 0.1: 0.1; two of them each way.
    assert several.low == pytest.approx(0.5 - 0.19, abs=0.04)
    assert several.high == pytest.approx(0.5 + 0.19, abs=0.04)


def test_spread_and_worst_draw() -> None:
    found = estimate(scores({("p1", "a"): [0.2, 0.8]}), "iou")
    assert found is not None
    assert (found.draw_spread, found.worst_draw) == (pytest.approx(0.3), pytest.approx(0.2))
    slow = estimate(scores({("p1", "all"): [2.0, 8.0]}, "seconds"), "seconds")
    assert slow is not None
    assert slow.worst_draw == pytest.approx(8.0)


def test_methods_are_compared_patient_by_patient() -> None:
    worse = scores({(f"p{index}", "a"): [index / 10] for index in range(8)})
    better = scores({(f"p{index}", "a"): [index / 10 + 0.05 + index / 1000] for index in range(8)})
    found = paired_p(better, worse, "iou")
    assert found is not None
    assert found[0] == pytest.approx(0.0535)
    # All eight differences are positive: 2 / 2**8.
    assert found[1] == pytest.approx(2 / 256)
    assert paired_p(worse, worse, "iou") is None


def test_an_interval_over_few_patients_can_be_widened() -> None:
    values = (0.2, 0.4, 0.5, 0.6, 0.8)
    scores = [CaseScore(0, f"p{place}", "a", "iou", value) for place, value in enumerate(values)]
    plain, wide = estimate(scores, "iou"), estimate(scores, "iou", expanded=True)
    assert wide.mean == plain.mean
    # Student's interval: t(0.975, 4) = 2.776, standard deviation 0.2236, over the root of 5; percentiles are cut off.
    half = 2.776 * 0.2236 / 5**0.5
    assert plain.high - plain.low < 2 * 0.75 * half
    assert 2 * 0.75 * half < wide.high - wide.low <= 2 * 1.1 * half
    two = estimate(scores[:2], "iou", expanded=True)
    assert (two.low, two.high) == (0.2, 0.4)
