import numpy as np
import pytest

from fewshot_node.vision.adapters.calibration import channel_offsets, peak_threshold, presence_gate, silence_absent


def test_a_channel_that_fires_too_early_is_held_back():
    rng = np.random.default_rng(0)
    classes = (np.arange(4000) < 400).astype(np.int64)
    margin = np.where(classes == 1, 3.0, 0.5) + 0.3 * rng.normal(size=4000)
    scores = np.stack([np.zeros(4000), margin]).astype(np.float32)
    offsets = channel_offsets(scores, classes)
    assert offsets[0] == 0
    found = (scores + offsets[:, None]).argmax(axis=0)
    assert (found == classes).mean() > 0.99


def test_scores_that_fit_are_left_alone():
    classes = np.repeat([0, 1, 2], 100)
    scores = np.full((3, 300), -9.0, dtype=np.float32)
    scores[classes, np.arange(300)] = 0
    np.testing.assert_array_equal(channel_offsets(scores, classes), np.zeros(3))


def test_a_label_without_a_held_out_pixel_is_left_alone():
    scores = np.random.default_rng(1).normal(size=(2, 50)).astype(np.float32)
    assert channel_offsets(scores, np.zeros(50, dtype=np.int64))[1] == 0


def test_the_peak_threshold_lies_half_way():
    threshold, spread = peak_threshold([4.5, 5.5, -4.0, -6.0], [True, True, False, False])
    assert threshold == pytest.approx(0.0)
    assert spread == pytest.approx(2.5)


def test_without_negative_slices_only_the_clearly_unlike_is_absent():
    threshold, spread = peak_threshold([4.0, 6.0], [True, True])
    assert threshold == pytest.approx(2.0)
    assert spread == pytest.approx(1.5)


@pytest.mark.parametrize(("peaks", "shown"), [([], []), ([1.0], [False])])
def test_nothing_to_calibrate_on_is_the_default(peaks, shown):
    assert peak_threshold(peaks, shown) == (0.0, 1.0)


def test_peaks_that_overlap_do_not_make_every_second_landmark_absent():
    threshold, _ = peak_threshold([2.0, 4.0, 6.0, 3.0, 4.0], [True, True, True, False, False])
    assert threshold < 2.0


def test_a_label_whose_negatives_peak_higher_is_not_called_absent_for_it():
    threshold, _ = peak_threshold([2.0, 2.5, 5.0], [True, True, False])
    assert threshold < 2.0


def test_a_gate_lies_half_way_between_slices_with_a_label_and_without() -> None:
    assert presence_gate([6.0, 4.0, -1.0, -3.0, -2.0, -2.0, -2.0], [True] * 2 + [False] * 5) == pytest.approx(1.5)


@pytest.mark.parametrize("shown", [[True] * 3 + [False] * 4, [False] * 7, [True] * 7])
def test_no_gate_where_too_few_slices_lack_the_label_or_none_shows_it(shown: list[bool]) -> None:
    assert presence_gate([5.0] * 3 + [-5.0] * 4, shown) == -np.inf


def test_a_label_is_silenced_on_the_slices_that_lack_it_alone() -> None:
    scores = np.zeros((2, 3, 4, 4), dtype=np.float32)
    scores[:, 1:] = -4
    scores[0, 1, 1, 1], scores[1, 1, 2, 2] = 3.0, 1.0
    scores[:, 2, 3, 3] = 1.0
    found = silence_absent(scores, np.array([2.0, -np.inf], dtype=np.float32)).argmax(axis=1)
    expected = np.zeros((2, 4, 4), dtype=int)
    expected[0, 1, 1] = 1
    expected[:, 3, 3] = 2
    np.testing.assert_array_equal(found, expected)
    assert scores[1, 1, 2, 2] == 1.0
