import numpy as np
import pytest

from fewshot_node.errors import TaskError
from fewshot_node.vision.landmarks import LandmarkSettings, disc_labels, find_peak, locate_landmarks

SPACING = (4.0, 1.0, 1.0)


def blob(shape, place, height=6.0, width=2.0, base=-3.0):
    """A Gaussian hill on a plain, on (slices, h, w)."""
    slices, rows, columns = np.indices(shape)
    square = ((slices - place[0]) / 0.8) ** 2 + ((rows - place[1]) ** 2 + (columns - place[2]) ** 2) / width**2
    return base + height * np.exp(-0.5 * square)


def scores_of(*hills):
    return np.stack([np.zeros_like(hills[0]), *hills], axis=1).astype(np.float32)


@pytest.mark.parametrize("place", [(2.0, 10.0, 12.0), (2.3, 9.6, 12.45), (1.8, 15.25, 7.5)])
def test_a_blob_is_found_between_cells_and_slices(given_scores, blank_features, place):
    scores = scores_of(blob((5, 24, 24), place))
    found = locate_landmarks(
        blank_features(scores, (96, 96)),
        given_scores(scores, (3,)),
        SPACING,
        LandmarkSettings(smoothing_mm=0),
    )
    (landmark,) = found.landmarks
    assert landmark.label_value == 3
    assert landmark.confidence > 0.9
    # A cell's centre i lies at pixel (i + 0.5) * 4 - 0.5.
    expected = (place[0], (place[1] + 0.5) * 4 - 0.5, (place[2] + 0.5) * 4 - 0.5)
    assert (np.abs(np.subtract(landmark.index, expected)) < (0.15, 0.6, 0.6)).all()


def test_a_disc_is_drawn_on_the_landmark_slice(given_scores, blank_features):
    scores = scores_of(blob((5, 24, 24), (3.0, 6.0, 12.0)), blob((5, 24, 24), (1.0, 18.0, 4.0)))
    found = locate_landmarks(blank_features(scores, (240, 120)), given_scores(scores, (3, 8)), SPACING)
    for landmark in found.landmarks:
        voxels = np.argwhere(found.label_map == landmark.label_value)
        assert set(voxels[:, 0]) == {round(landmark.index[0])}
        np.testing.assert_allclose(voxels[:, 1:].mean(axis=0), landmark.index[1:], atol=1)


def test_absent_below_the_calibrated_threshold_with_its_confidence(given_scores, blank_features):
    hill = blob((3, 12, 12), (1.0, 5.0, 5.0))
    scores = scores_of(hill, hill - 0.5)
    thresholds = [[1.0, 0.5], [3.5, 0.5]]
    adapter = given_scores(scores, (1, 2), thresholds)
    first, second = locate_landmarks(blank_features(scores, (48, 48)), adapter, SPACING).landmarks
    assert first.index is None or first.confidence >= 0.5
    assert second.index is None
    assert 0 <= second.confidence < 0.5


def test_labels_that_look_alike_compete_for_the_place_but_are_both_present(given_scores, blank_features):
    first = blob((1, 24, 24), (0, 6, 12)) + blob((1, 24, 24), (0, 18, 12), height=5.0, base=0.0)
    second = blob((1, 24, 24), (0, 6, 12), height=5.0) + blob((1, 24, 24), (0, 18, 12), base=0.0)
    scores = scores_of(first, second)
    found = locate_landmarks(blank_features(scores, (24, 24)), given_scores(scores, (1, 2), [[1.5, 0.5]] * 2), SPACING)
    assert [round(landmark.index[1]) for landmark in found.landmarks] == [6, 18]


def test_nothing_anywhere_is_absent_and_draws_nothing(given_scores, blank_features):
    scores = scores_of(np.full((2, 6, 6), -4.0))
    found = locate_landmarks(blank_features(scores, (24, 24)), given_scores(scores, (1,)), SPACING)
    assert found.landmarks[0].index is None
    assert found.landmarks[0].confidence < 0.1
    assert not found.label_map.any()


def test_a_single_slice_volume_keeps_its_slice(given_scores, blank_features):
    scores = scores_of(blob((1, 16, 16), (0.0, 4.0, 11.0)))
    (landmark,) = locate_landmarks(blank_features(scores, (16, 16)), given_scores(scores, (1,)), SPACING).landmarks
    np.testing.assert_allclose(landmark.index, (0, 4, 11), atol=0.1)


def test_a_far_second_hill_does_not_pull_the_first():
    plane = blob((1, 30, 30), (0, 6, 6)) + blob((1, 30, 30), (0, 22, 22), height=5.0, base=0.0)
    _, place = find_peak(plane.astype(np.float32), reach_cells=3)
    np.testing.assert_allclose(place, (0, 6, 6), atol=0.1)


def test_discs_are_round_centred_and_the_nearer_point_wins():
    labels = disc_labels({1: (20.0, 20.0), 2: (20.0, 26.0)}, (40, 60), radius_px=5)
    rows, columns = np.nonzero(labels == 1)
    assert rows.mean() == pytest.approx(20)
    assert np.hypot(rows - 20, columns - 20).max() <= 5
    assert labels[20, 22] == 1
    assert labels[20, 24] == 2


def test_a_disc_is_never_empty_and_may_be_cut_by_the_edge():
    assert (disc_labels({4: (3.5, 3.5)}, (8, 8), radius_px=0.1) == 4).any()
    assert (disc_labels({4: (0.0, 0.0)}, (8, 8), radius_px=3) == 4).sum() > 5


@pytest.mark.parametrize("wrong", [{"min_confidence": 2}, {"reach_cells": 0}, {"smoothing_mm": -1}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(TaskError, match="landmarks"):
        LandmarkSettings(**wrong)
