"""Landmarks as one figure: places, poses and what a figure tells where a map alone is wrong."""

import numpy as np
import pytest

from fewshot_node.vision.adapters import Support
from fewshot_node.vision.adapters.arrangement import arrangements, foretold_places, nearness
from fewshot_node.vision.landmarks import LandmarkSettings, locate_landmarks

CELLS = (64, 64)
# Four landmarks, rows and columns from the middle in sides of the grid: a bent row, as vertebrae lie.
FIGURE = np.array([[-0.25, -0.02], [-0.1, 0.05], [0.06, 0.04], [0.22, -0.03]], dtype=np.float32)


def posed(figure: np.ndarray, scale: float, turn: float, shift: tuple[float, float]) -> np.ndarray:
    """Cells of a figure scaled, turned about its middle and shifted."""
    middle = np.nanmean(figure, axis=0)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    moved = scale * (figure - middle) @ rotation.T + middle + np.array(shift)
    return np.asarray(moved * 64 + 31.5)


def hills(places: np.ndarray, heights: list[float] | None = None) -> np.ndarray:
    """One map for each place, with a hill there: float32 (labels, 64, 64)."""
    rows, columns = np.ogrid[:64, :64]
    tops = heights or [0.9] * len(places)
    maps = [
        top * np.exp(-0.5 * ((rows - place[0]) ** 2 + (columns - place[1]) ** 2) / 1.5**2)
        for top, place in zip(tops, places, strict=True)
    ]
    return np.stack(maps).astype(np.float32)


@pytest.mark.parametrize(
    ("scale", "turn", "shift"), [(1.0, 0.0, (0.0, 0.0)), (0.8, 0.1, (0.1, -0.15)), (1.3, -0.2, (-0.05, 0.2))]
)
def test_a_figure_is_found_scaled_turned_and_shifted(scale: float, turn: float, shift: tuple[float, float]) -> None:
    true = posed(FIGURE, scale, turn, shift)
    found = foretold_places(hills(true), FIGURE[None])
    assert np.abs(found - true).max() < 4


def test_a_map_that_peaks_on_a_neighbour_is_corrected_by_the_others() -> None:
    true = posed(FIGURE, 1.0, 0.0, (0.05, 0.0))
    shares = hills(true)
    # The third landmark's own map is surer of the second's place than of its own.
    shares[2] = np.maximum(0.5 * shares[2], hills(true[1:2])[0])
    assert np.hypot(*(np.unravel_index(shares[2].argmax(), CELLS) - true[2])) > 8
    assert np.abs(foretold_places(shares, FIGURE[None])[2] - true[2]).max() < 4


def test_the_figure_that_fits_best_tells_and_others_tell_of_what_it_lacks() -> None:
    true = posed(FIGURE, 1.0, 0.0, (0.0, 0.0))
    partial = FIGURE.copy()
    partial[3] = np.nan
    mirrored = FIGURE[::-1].copy()
    found = foretold_places(hills(true), np.stack([mirrored, partial]))
    assert np.abs(found[:3] - true[:3]).max() < 4
    assert np.isfinite(found[3]).all()


def test_fewer_than_three_landmarks_are_no_figure() -> None:
    assert np.isnan(foretold_places(hills(posed(FIGURE[:2], 1, 0, (0, 0))), FIGURE[None, :2])).all()
    assert np.isnan(foretold_places(hills(posed(FIGURE, 1, 0, (0, 0))), np.empty((0, 4, 2), np.float32))).all()


def test_a_landmark_beyond_the_edge_is_foretold_there() -> None:
    true = posed(FIGURE, 1.0, 0.0, (0.3, 0.0))
    assert true[3, 0] > 64
    found = foretold_places(hills(true), FIGURE[None])
    assert np.abs(found - true).max() < 4


def test_nearness_is_highest_at_the_place() -> None:
    near = nearness(np.array([10.0, 40.0]), CELLS)
    assert np.unravel_index(near.argmax(), CELLS) == (10, 40)
    assert near.max() == 0


def test_arrangements_are_middles_of_the_annotated_slices_alone() -> None:
    labels = np.zeros((4, 32, 32), dtype=np.uint8)
    labels[0, 4:7, 10:13] = 2  # the slice itself: middle (5, 11)
    labels[1, 20, 20] = 2  # its variant
    labels[2, 8, 30] = 7  # another slice of the same template
    labels[3, 15:17, 15:17] = 7  # another template, in the very middle
    support = Support(
        np.zeros((4, 32, 32, 1), np.float32), labels, np.array([0, 0, 0, 1]), (2, 7), slice_ids=np.array([0, 0, 1, 2])
    )
    expected = [[[-10.5 / 32, -4.5 / 32], [-7.5 / 32, 14.5 / 32]], [[np.nan, np.nan], [0.0, 0.0]]]
    np.testing.assert_allclose(arrangements(support), expected, atol=1e-6)


def test_landmarks_are_sought_near_where_their_figure_foretells_them(blank_features, context_scores) -> None:  # type: ignore[no-untyped-def]
    """The adapter's own map of one landmark is a little surer of its neighbour's place."""
    true = posed(FIGURE, 1.0, 0.0, (0.05, 0.0))
    shares = 0.95 * hills(true)
    shares[2] = np.maximum(0.8 * shares[2], 0.85 * hills(true[1:2])[0])
    shares[1] *= 0.3
    ground = np.clip(1 - shares.sum(axis=0), 1e-3, 1)
    scores = np.log(np.concatenate([ground[None], shares + 1e-4]))[None].astype(np.float32)
    adapter = context_scores(scores, figures=FIGURE[None])
    places = {}
    for as_figure in (True, False):
        settings = LandmarkSettings(min_confidence=0.0, as_figure=as_figure)
        found = locate_landmarks(blank_features(scores, CELLS), adapter, (1.0, 1.0, 1.0), settings)
        third = found.landmarks[2].index
        assert third is not None
        places[as_figure] = np.hypot(*(np.array(third[1:]) - true[2]))
    assert places[True] < 2
    assert places[False] > 8
