import numpy as np
import pytest

from fewshot_node.errors import TaskError
from fewshot_node.vision.localize import (
    CleaningSettings,
    ComponentRule,
    clean,
    keep_components,
    label_voxels,
    localize,
    smooth_over_slices,
)

KEEP_ALL = CleaningSettings(ComponentRule(min_volume_mm3=0, min_share=0), smoothing_mm=0)


def two_channels(foreground):
    """Scores whose label channel is given and whose background is 0."""
    foreground = np.asarray(foreground, dtype=np.float32)
    return np.stack([np.zeros_like(foreground), foreground], axis=1)


def test_the_label_map_has_real_values_on_the_image_grid(given_scores, blank_features):
    foreground = np.full((3, 8, 8), -1.0)
    foreground[1, 2:6, 2:6] = 1.0
    scores = two_channels(foreground)
    found = localize(blank_features(scores, (64, 64)), given_scores(scores, (42,)), (2.0, 1.0, 1.0), KEEP_ALL)
    assert found.label_map.shape == (3, 64, 64)
    assert found.label_map.dtype == np.uint8
    assert set(np.unique(found.label_map)) == {0, 42}
    inside = np.argwhere(found.label_map == 42)
    np.testing.assert_allclose(inside.mean(axis=0), [1, 31.5, 31.5])
    assert (found.label_map == 42).sum() == pytest.approx(32 * 32, rel=0.05)
    np.testing.assert_array_equal(found.scores, scores)


def test_scores_are_interpolated_between_cell_centres_and_held_to_the_corner():
    """A straight edge: 1 to the left, -3 to the right; the zero crossing is a quarter of the way across."""
    foreground = np.full((1, 2, 2), -3.0)
    foreground[:, :, 0] = 1.0
    label_map = label_voxels(two_channels(foreground), (16, 16), (1,))
    columns = np.flatnonzero(label_map[0, 0])
    # Cell centres lie at pixel 3.5 and 11.5; 1 - 4 * (x - 3.5) / 8 > 0 for x < 5.5.
    assert list(columns) == [0, 1, 2, 3, 4, 5]
    assert (label_map[0] == label_map[0, 0]).all()


@pytest.mark.parametrize("shape", [(35, 51), (1, 1), (100, 7)])
def test_odd_image_shapes(given_scores, blank_features, shape):
    scores = two_channels(np.ones((2, 3, 5)))
    found = localize(blank_features(scores, shape), given_scores(scores, (1,)), (1.0, 1.0, 1.0), KEEP_ALL)
    assert found.label_map.shape == (2, *shape)
    assert found.label_map.all()


def test_an_absent_label_has_no_voxel(given_scores, blank_features):
    scores = two_channels(np.full((4, 8, 8), -0.1))
    found = localize(blank_features(scores, (32, 32)), given_scores(scores, (5,)), (1.0, 1.0, 1.0))
    assert not found.label_map.any()


def test_smoothing_is_in_mm_and_leaves_single_slices_alone():
    one = np.random.default_rng(0).normal(size=(1, 2, 4, 4)).astype(np.float32)
    np.testing.assert_array_equal(smooth_over_slices(one, 1.0, 5.0), one)
    spike = np.zeros((41, 1, 1, 1), dtype=np.float32)
    spike[20] = 1
    thick = smooth_over_slices(spike, 10.0, 2.0)[:, 0, 0, 0]
    thin = smooth_over_slices(spike, 1.0, 2.0)[:, 0, 0, 0]
    assert thick[20] > 0.99
    assert thin.sum() == pytest.approx(1, abs=1e-5)
    spread = np.sqrt((thin * (np.arange(41) - 20) ** 2).sum())
    assert spread == pytest.approx(2.0, rel=0.05)


def scene():
    label_map = np.zeros((6, 30, 30), dtype=np.uint8)
    label_map[1:5, 2:12, 2:12] = 1  # 400 voxels
    label_map[2:5, 20:28, 20:28] = 1  # 192 voxels
    label_map[0, 25, 2] = 1  # 1 voxel
    label_map[5, 0:5, 25:30] = 2  # 25 voxels
    return label_map


@pytest.mark.parametrize(
    ("rule", "voxels"),
    [
        (ComponentRule("all", 0, 0), 593),
        (ComponentRule("all", 4, 0), 592),
        (ComponentRule("all", 0, 0.5), 400),
        (ComponentRule("largest", 0, 0), 400),
        (ComponentRule("pair", 0, 0), 592),
        (ComponentRule("pair", 1000, 0), 400),
        (ComponentRule("largest", 5000, 0), 0),
    ],
)
def test_components_by_rule(rule, voxels):
    mask = scene() == 1
    assert keep_components(mask, voxel_mm3=3.0, rule=rule).sum() == voxels


def test_every_label_has_its_own_rule_and_no_label_touches_another():
    settings = CleaningSettings(ComponentRule("largest", 0, 0), by_label={2: ComponentRule("all", min_volume_mm3=26)})
    cleaned = clean(scene(), (1, 2), 1.0, settings)
    assert (cleaned == 1).sum() == 400
    assert not (cleaned == 2).any()


def test_the_smallest_volume_is_in_mm3_at_any_spacing():
    rule = ComponentRule("all", min_volume_mm3=150, min_share=0)
    mask = scene() == 2
    assert keep_components(mask, voxel_mm3=10.0, rule=rule).any()
    assert not keep_components(mask, voxel_mm3=1.0, rule=rule).any()


def test_a_structure_that_runs_obliquely_through_slices_is_one():
    mask = np.zeros((5, 12, 12), dtype=bool)
    for index in range(5):
        mask[index, 2 * index : 2 * index + 2, 2 * index : 2 * index + 2] = True
    assert keep_components(mask, 1.0, ComponentRule("largest", 0, 0)).sum() == 20


def test_cleaning_does_not_change_its_input():
    label_map = scene()
    clean(label_map, (1, 2), 1.0, CleaningSettings(ComponentRule("largest")))
    np.testing.assert_array_equal(label_map, scene())


@pytest.mark.parametrize("wrong", [{"policy": "biggest"}, {"min_volume_mm3": -1}, {"min_share": 2}])
def test_impossible_rules_are_refused(wrong):
    with pytest.raises(TaskError, match="cleaning"):
        ComponentRule(**wrong)


def test_impossible_smoothing_is_refused_by_key():
    with pytest.raises(TaskError, match="smoothing_mm"):
        CleaningSettings(smoothing_mm=-1)


def test_a_slice_below_the_gate_of_a_label_stays_without_it(context_scores, blank_features):
    foreground = np.full((2, 8, 8), -2.0)
    foreground[0, 2:6, 2:6], foreground[1, 2:6, 2:6] = 5.0, 1.0
    scores = two_channels(foreground)
    for gate, seen in ((-np.inf, [True, True]), (3.0, [True, False])):
        adapter = context_scores(scores, gates=np.array([gate], dtype=np.float32))
        found = localize(blank_features(scores, (64, 64)), adapter, (2.0, 1.0, 1.0), KEEP_ALL)
        assert found.label_map.any(axis=(1, 2)).tolist() == seen
