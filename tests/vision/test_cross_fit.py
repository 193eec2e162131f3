import numpy as np
import pytest

from fewshot_node.vision.adapters import AdapterSettings, Support, fit_adapter
from fewshot_node.vision.adapters.calibration import Calibration, calibrate
from fewshot_node.vision.adapters.cross_fit import cross_calibrate
from fewshot_node.vision.adapters.scoring import ABSENT


class Recorder:
    """Stands for a fit: remembers what it was shown, and scores with what it is given."""

    def __init__(self, level=0.0):
        self.shown, self.level = [], level

    def __call__(self, part):
        self.shown.append(part)
        return self

    def scores(self, features):
        scores = np.zeros((*features.shape[:3], 2), dtype=np.float32).transpose(0, 3, 1, 2)
        scores[:, 1] = features[..., 0] + self.level
        return scores


def support_of(template_ids, shows, slice_ids=None):
    """One slice a template id; where it shows the label, four of its cells have feature 5, all others -5."""
    count = len(template_ids)
    features = np.full((count, 4, 4, 1), -5.0, dtype=np.float32)
    labels = np.zeros((count, 4, 4), dtype=np.uint8)
    for index, shown in enumerate(shows):
        if shown:
            labels[index, :2, :2] = 7
            features[index, :2, :2] = 5.0
    ids = None if slice_ids is None else np.array(slice_ids)
    return Support(features, labels, np.array(template_ids), (7,), ids)


def test_no_fit_sees_the_template_that_it_scores():
    support = support_of([0, 0, 1, 2, 3, 4], [True] * 6)
    fit = Recorder()
    cross_calibrate(support, fit)
    seen = [set(part.template_ids.tolist()) for part in fit.shown]
    assert sorted(map(sorted, seen)) == [[0, 1, 3, 4], [0, 2, 3], [1, 2, 4]]


def test_variants_of_a_slice_are_held_out_with_it():
    support = support_of([0, 0, 0, 0], [True] * 4, slice_ids=[0, 1, 0, 1])
    fit = Recorder()
    cross_calibrate(support, fit)
    assert sorted(part.slice_ids.tolist() for part in fit.shown) == [[0, 0], [1, 1]]


def test_one_unit_leaves_nothing_to_calibrate_on():
    fit = Recorder()
    calibration = cross_calibrate(support_of([3, 3], [True, True], slice_ids=[0, 0]), fit)
    assert not fit.shown
    assert calibration.offsets.tolist() == [0.0, 0.0]
    assert calibration.peaks.tolist() == [[0.0, 1.0]]


def test_scores_that_are_too_high_are_brought_down():
    calibration = cross_calibrate(support_of([0, 1, 2], [True, True, True]), Recorder(level=6.0))
    # Everything scores 1 or 11: from -1 on, only the label is left.
    assert -11 < calibration.offsets[1] <= -1
    assert calibration.offsets[0] == 0


def test_the_peak_threshold_lies_between_slices_with_the_label_and_without():
    calibration = cross_calibrate(support_of([0, 1, 2, 3], [True, True, False, True]), Recorder())
    threshold, spread = calibration.peaks[0].tolist()
    assert -5 < threshold < 5
    assert spread > 0


def test_a_label_that_only_one_template_shows_is_not_calibrated_on_its_absence():
    fit = Recorder()
    calibration = cross_calibrate(support_of([0, 1, 2], [True, False, False]), fit)
    # Without the first template no fit knows the label: it is not even called.
    assert len(fit.shown) == 2
    assert calibration.offsets.tolist() == [0.0, 0.0]


def test_channels_that_are_absent_throughout_do_not_move_thresholds():
    scores = np.full((2, 3, 3), ABSENT, dtype=np.float32)
    scores[0] = 0
    calibration = calibrate([scores, scores], np.ones((2, 3, 3), dtype=np.int64))
    assert calibration.peaks.tolist() == Calibration.neutral(1).peaks.tolist()
    assert calibration.offsets.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("name", ["classification", "contrastive-concat", "prototype", "lda"])
def test_a_template_that_says_otherwise_than_all_others_is_not_believed_blindly(name):
    """Features are the same everywhere, so no held-out slice can be told: nothing may be added to that."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(4, 8, 8, 5)).astype(np.float32)
    features /= np.linalg.norm(features, axis=-1, keepdims=True)
    labels = np.zeros((4, 8, 8), dtype=np.uint8)
    labels[:, 2:5, 2:5] = 1
    settings = AdapterSettings(name=name, steps=20, batch=64, references=4, position_weight=0.0)
    adapter = fit_adapter(Support(features, labels, np.arange(4), (1,)), settings)
    assert np.isfinite(adapter.scores(features)).all()
    assert np.isfinite(adapter.peak_thresholds).all()
    assert adapter.peak_thresholds[0, 1] > 0
