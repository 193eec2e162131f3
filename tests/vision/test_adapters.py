import numpy as np
import pytest
import torch

from fewshot_node.errors import TaskError, TemplateError
from fewshot_node.records import FeatureMap
from fewshot_node.vision.adapters import ADAPTERS, AdapterSettings, Support, fit_adapter, labels_to_grid
from fewshot_node.vision.adapters.scoring import smooth

DIM = 16
# The context head learns from many variants of whole slices, not from a few scattered pixels.
PIXEL_HEADS = tuple(name for name in ADAPTERS if name != "context")
QUICK = {"steps": 60, "batch": 256, "references": 12, "background_references": 24}


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def scene(rng, classes, centres, spread=0.35):
    """Draw features around one centre a class: (slices, h, w, DIM)."""
    features = unit(centres)[classes] + spread / np.sqrt(DIM) * rng.normal(size=(*classes.shape, DIM))
    return unit(features).astype(np.float32)


def layout(slices=3, size=24):
    """Two labelled boxes, whose place changes from slice to slice, on a background."""
    classes = np.zeros((slices, size, size), dtype=np.int64)
    for index in range(slices):
        classes[index, 3 + index : 10 + index, 4:11] = 1
        classes[index, 14:20, 8 + index : 16 + index] = 2
    return classes


@pytest.fixture
def world():
    rng = np.random.default_rng(11)
    return rng, rng.normal(size=(3, DIM))


def support_of(world, classes, values=(7, 40), template_ids=None):
    rng, centres = world
    labels = np.array((0, *values), dtype=np.uint8)[classes]
    ids = np.arange(len(classes)) if template_ids is None else template_ids
    return Support(scene(rng, classes, centres), labels, ids, values)


def overlap(predicted, truth, value):
    return ((predicted == value) & (truth == value)).sum() / ((predicted == value) | (truth == value)).sum()


@pytest.mark.parametrize("name", PIXEL_HEADS)
def test_gaussian_clusters_are_told_apart(world, name):
    adapter = fit_adapter(support_of(world, layout()), AdapterSettings(name=name, **QUICK))
    truth = np.roll(layout(2), 3, axis=2)
    scores = adapter.scores(scene(world[0], truth, world[1]))
    assert scores.shape == (2, 3, 24, 24)
    assert scores.dtype == np.float32
    assert adapter.name == name
    assert adapter.label_values == (7, 40)
    predicted = scores.argmax(axis=1)
    assert overlap(predicted, truth, 1) > 0.9
    assert overlap(predicted, truth, 2) > 0.9


@pytest.mark.parametrize("name", PIXEL_HEADS)
def test_a_query_without_the_label_stays_background(world, name):
    adapter = fit_adapter(support_of(world, layout()), AdapterSettings(name=name, **QUICK))
    empty = np.zeros((2, 24, 24), dtype=np.int64)
    predicted = adapter.scores(scene(world[0], empty, world[1])).argmax(axis=1)
    assert (predicted > 0).mean() < 0.01


def test_a_structure_that_only_a_negative_slice_shows_is_background(world):
    rng, centres = world
    unwanted = centres[1] + 0.8 * rng.normal(size=DIM)
    classes = layout()
    classes[2] = 0
    features = scene(rng, classes, centres)
    features[2, 5:15, 5:15] = scene(rng, np.zeros((10, 10), dtype=np.int64), unwanted[None])
    support = Support(features, classes.astype(np.uint8), np.arange(3), (1, 2))
    adapter = fit_adapter(support, AdapterSettings(name="contrastive", **QUICK))
    query = scene(rng, np.zeros((1, 24, 24), dtype=np.int64), centres)
    query[0, 8:18, 8:18] = scene(rng, np.zeros((10, 10), dtype=np.int64), unwanted[None])
    assert (adapter.scores(query).argmax(axis=1) > 0).mean() < 0.02


@pytest.mark.parametrize("name", PIXEL_HEADS)
def test_a_fit_is_repeated_exactly(world, name):
    support = support_of(world, layout())
    first, second = (fit_adapter(support, AdapterSettings(name=name, **QUICK)) for _ in range(2))
    np.testing.assert_array_equal(first.scores(support.features), second.scores(support.features))


def test_another_seed_gives_another_head(world):
    support = support_of(world, layout())
    first, second = (fit_adapter(support, AdapterSettings(name="contrastive", seed=seed, **QUICK)) for seed in (0, 1))
    assert not np.array_equal(first.scores(support.features), second.scores(support.features))


@pytest.mark.parametrize("name", PIXEL_HEADS)
def test_the_order_of_templates_does_not_change_the_label_map(world, name):
    support = support_of(world, layout())
    order = np.array([2, 0, 1])
    turned = Support(support.features[order], support.labels[order], support.template_ids[order], support.label_values)
    query = scene(world[0], layout(2), world[1])
    settings = AdapterSettings(name=name, **QUICK)
    first, second = (fit_adapter(one, settings).scores(query).argmax(axis=1) for one in (support, turned))
    assert (first == second).mean() > 0.99


@pytest.mark.parametrize("name", PIXEL_HEADS)
def test_one_template_slice_is_enough_to_fit(world, name):
    adapter = fit_adapter(support_of(world, layout(1)), AdapterSettings(name=name, **QUICK))
    truth = layout(1)
    assert overlap(adapter.scores(scene(world[0], truth, world[1])).argmax(axis=1), truth, 1) > 0.8


@pytest.mark.parametrize("name", PIXEL_HEADS)
def test_a_slice_is_scored_alike_alone_and_in_a_stack_and_from_half_precision(world, name):
    adapter = fit_adapter(support_of(world, layout()), AdapterSettings(name=name, **QUICK))
    query = scene(world[0], layout(3), world[1])
    stack = adapter.scores(query)
    np.testing.assert_allclose(adapter.scores(query[1:2])[0], stack[1], atol=1e-4)
    half = FeatureMap(query.astype(np.float16), (96, 96))
    np.testing.assert_allclose(adapter.scores(half), stack, atol=0.05)


def test_basic_is_the_mean_cosine_with_every_template_pixel(world):
    support = support_of(world, layout(2))
    adapter = fit_adapter(support, AdapterSettings(name="basic", threshold=0.4))
    query = scene(world[0], layout(1), world[1])
    scores = adapter.scores(query)
    pixels = query[0].reshape(-1, DIM)
    for channel, value in enumerate(support.label_values, start=1):
        template = support.features[support.labels == value]
        cosines = torch.nn.functional.cosine_similarity(
            torch.from_numpy(pixels)[:, None], torch.from_numpy(template)[None], dim=-1
        )
        np.testing.assert_allclose(scores[0, channel].ravel(), cosines.mean(dim=1).numpy(), atol=1e-5)
    assert (scores[:, 0] == np.float32(0.4)).all()


def test_a_label_without_a_pixel_is_refused_by_value(world):
    support = support_of(world, np.where(layout() == 2, 0, layout()))
    for name in ADAPTERS:
        with pytest.raises(TemplateError, match=r"\[40\]"):
            fit_adapter(support, AdapterSettings(name=name))


def test_a_label_that_the_task_does_not_know_is_refused(world):
    with pytest.raises(TemplateError, match=r"\[40\]"):
        Support(np.ones((1, 2, 2, 3), np.float32), np.full((1, 2, 2), 40, np.uint8), np.zeros(1, int), (7,))


def test_an_unknown_adapter_names_the_known_ones():
    with pytest.raises(TaskError, match=r"'contrastiv'.*basic, .*contrastive, "):
        AdapterSettings(name="contrastiv")


def test_an_unknown_mode_names_the_known_ones():
    with pytest.raises(TaskError, match=r"'multi'.*multilabel, binary"):
        AdapterSettings(mode="multi")


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_shrinkage_is_a_share(value):
    with pytest.raises(TaskError, match=r"shrinkage"):
        AdapterSettings(shrinkage=value)


@pytest.mark.parametrize("key", ["temperature", "steps", "references", "batch"])
def test_settings_that_cannot_work_are_refused_by_key(key):
    with pytest.raises(TaskError, match=key):
        AdapterSettings(**{key: 0})


def test_labels_come_to_the_grid_by_majority_and_small_ones_survive():
    labels = np.zeros((1, 40, 80), dtype=np.uint8)
    labels[0, :20, :40] = 3
    labels[0, 33, 71] = 9
    grid = labels_to_grid(labels, (10, 20))
    assert grid.shape == (1, 10, 20)
    expected = np.zeros((10, 20), dtype=np.uint8)
    expected[:5, :10] = 3
    expected[8, 17] = 9
    np.testing.assert_array_equal(grid[0], expected)


def test_labels_come_to_an_uneven_grid():
    labels = np.zeros((2, 35, 51), dtype=np.uint8)
    labels[1, 10:30, 10:40] = 1
    grid = labels_to_grid(labels, (11, 16))
    assert not grid[0].any()
    assert grid[1].mean() == pytest.approx(20 * 30 / (35 * 51), abs=0.03)


def test_peaks_are_calibrated_between_present_and_absent(world):
    classes = layout()
    classes[2] = 0
    adapter = fit_adapter(support_of(world, classes), AdapterSettings(name="contrastive", **QUICK))
    query = scene(world[0], np.stack([layout(1)[0], np.zeros((24, 24), dtype=np.int64)]), world[1])
    scores = adapter.scores(query)
    for channel, (threshold, spread) in enumerate(adapter.peak_thresholds, start=1):
        heights = (scores[:, channel] - np.delete(scores, channel, axis=1).max(axis=1)).max(axis=(1, 2))
        assert spread > 0
        assert heights[0] > threshold > heights[1]


def test_a_label_that_only_an_unlike_template_shows_does_not_fade(world):
    """The query looks like the first template as a whole, but holds the label of the second."""
    rng, centres = world
    classes = layout(2)
    classes[0][classes[0] == 2] = 0
    classes[1] = 0
    classes[1, 2:6, 2:6] = 2
    other_ground = np.concatenate([-centres[:1], centres[1:]])
    features = np.stack([scene(rng, classes[0], centres), scene(rng, classes[1], other_ground)])
    support = Support(features, classes.astype(np.uint8), np.arange(2), (1, 2))
    adapter = fit_adapter(support, AdapterSettings(name="contrastive", retrieval=20.0, **QUICK))
    truth = layout(1)
    assert overlap(adapter.scores(scene(rng, truth, centres)).argmax(axis=1), truth, 2) > 0.8


@pytest.mark.parametrize(
    ("template_ids", "slice_ids", "units"),
    [
        ([5, 5, 9, 9], None, [0, 0, 1, 1]),
        ([5, 5, 9, 9], [0, 1, 2, 2], [0, 0, 1, 1]),
        ([5, 5, 5, 5], None, [0, 1, 2, 3]),
        ([5, 5, 5, 5], [3, 7, 3, 7], [0, 1, 0, 1]),
    ],
)
def test_what_is_held_out_together(template_ids, slice_ids, units):
    ids = None if slice_ids is None else np.array(slice_ids)
    support = Support(
        np.ones((4, 2, 2, 3), np.float32), np.zeros((4, 2, 2), np.uint8), np.array(template_ids), (1,), ids
    )
    assert support.units.tolist() == units


def test_a_slice_and_its_own_variant_calibrate_like_the_slice_alone(world):
    """Held out together, a copy must not vouch for its original: with one slice there is nothing to learn from."""
    one = support_of(world, layout(1))
    twice = Support(
        np.concatenate([one.features] * 2),
        np.concatenate([one.labels] * 2),
        np.array([0, 0]),
        one.label_values,
        np.array([4, 4]),
    )
    for support in (one, twice):
        np.testing.assert_array_equal(
            fit_adapter(support, AdapterSettings(name="contrastive", **QUICK)).peak_thresholds, [[0.0, 1.0], [0.0, 1.0]]
        )


def test_smoothing_stays_within_a_channel_and_keeps_the_sum():
    spike = torch.zeros(2, 31, 31)
    spike[1, 15, 15] = 1
    smoothed = smooth(spike, 2.0).numpy()
    assert not smoothed[0].any()
    rows = np.indices((31, 31))[0] - 15
    assert smoothed.sum() == pytest.approx(1, abs=1e-3)
    assert np.sqrt((smoothed[1] * rows**2).sum()) == pytest.approx(2.0, rel=0.05)
    assert torch.equal(smooth(spike, 0), spike)


@pytest.mark.parametrize("key", ["position_weight", "retrieval", "smoothing_cells"])
def test_settings_below_zero_are_refused_by_key(key):
    with pytest.raises(TaskError, match=key):
        AdapterSettings(**{key: -1})
