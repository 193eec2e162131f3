import numpy as np
import pytest

from fewshot_node.vision.adapters import AdapterSettings, Support, fit_adapter
from fewshot_node.vision.adapters.binary import BinaryAdapter

DIM = 8
QUICK = {"steps": 40, "batch": 128, "references": 8, "background_references": 16}
SOME = ("basic", "classification", "contrastive", "contrastive-concat", "prototype", "lda")


@pytest.fixture
def support():
    rng = np.random.default_rng(2)
    centres = np.eye(4, DIM)
    classes = np.zeros((3, 16, 16), dtype=np.int64)
    classes[:, 2:7, 2:7], classes[:, 2:7, 9:14], classes[:, 9:14, 2:7] = 1, 2, 3
    features = centres[classes] + 0.15 * rng.normal(size=(*classes.shape, DIM))
    features /= np.linalg.norm(features, axis=-1, keepdims=True)
    values = (5, 80, 200)
    return Support(features.astype(np.float32), np.array((0, *values), np.uint8)[classes], np.arange(3), values)


@pytest.mark.parametrize("name", SOME)
def test_one_head_a_label_finds_every_label(support, name):
    adapter = fit_adapter(support, AdapterSettings(name=name, mode="binary", threshold=0.6, **QUICK))
    scores = adapter.scores(support.features)
    assert scores.shape == (3, 4, 16, 16)
    assert not scores[:, 0].any()
    assert adapter.name == name
    assert adapter.settings.mode == "binary"
    assert adapter.label_values == (5, 80, 200)
    assert adapter.peak_thresholds.shape == (3, 2)
    assert (scores.argmax(axis=1) == support.classes).mean() > 0.9


@pytest.mark.parametrize("name", SOME)
def test_a_channel_is_what_a_fit_of_that_label_alone_gives(support, name):
    settings = AdapterSettings(name=name, **QUICK)
    both = fit_adapter(support, AdapterSettings(name=name, mode="binary", **QUICK))
    alone = fit_adapter(
        Support(support.features, np.where(support.labels == 80, 80, 0).astype(np.uint8), np.arange(3), (80,)), settings
    )
    own = alone.scores(support.features)
    np.testing.assert_array_equal(both.scores(support.features)[:, 2], own[:, 1] - own[:, 0])
    np.testing.assert_array_equal(both.peak_thresholds[1], alone.peak_thresholds[0])


def test_for_the_basic_adapter_both_modes_are_the_same_label_map(support):
    first, second = (
        fit_adapter(support, AdapterSettings(name="basic", mode=mode)).scores(support.features).argmax(axis=1)
        for mode in ("binary", "multilabel")
    )
    np.testing.assert_array_equal(first, second)


def test_the_highest_log_odds_above_zero_win(given_scores):
    heads = (
        given_scores(np.array([[1.0, 1.0, 1.0], [0.5, 3.0, 2.0]]).reshape(1, 2, 1, 3), (4,)),
        given_scores(np.array([[9.0, 9.0, 9.0], [8.0, 10.0, 10.5]]).reshape(1, 2, 1, 3), (6,)),
    )
    adapter = BinaryAdapter(AdapterSettings(mode="binary"), (4, 6), heads)
    scores = adapter.scores(np.zeros((1, 1, 3, 2), dtype=np.float32))
    assert scores.argmax(axis=1).ravel().tolist() == [0, 1, 2]
    assert scores[0, :, 0, 1].tolist() == [0.0, 2.0, 1.0]


def test_one_label_alone_keeps_its_share_of_each_cell():
    labels = np.array([[[3, 9], [0, 9]]], dtype=np.uint8)
    cover = np.zeros((1, 2, 2, 3), dtype=np.float16)
    cover[..., 2] = [[0.25, 1], [0.5, 0.75]]
    cover[..., 1] = [[0.75, 0], [0, 0]]
    cover[..., 0] = 1 - cover.sum(axis=-1)
    support = Support(np.ones((1, 2, 2, 4), np.float32), labels, np.zeros(1, int), (3, 9), None, cover)
    alone = support.only(9)
    assert alone.labels.tolist() == [[[0, 9], [0, 9]]]
    assert alone.label_values == (9,)
    assert alone.cover[..., 1].tolist() == [[[0.25, 1], [0.5, 0.75]]]
    np.testing.assert_array_equal(alone.cover.sum(axis=-1), np.ones((1, 2, 2)))
