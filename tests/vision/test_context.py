"""The context adapter: what only a head that looks around can tell."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from fewshot_node.records import FeatureMap
from fewshot_node.vision.adapters import (
    AdapterSettings,
    Support,
    cover_of_cells,
    fit_adapter,
    load_adapter,
    save_adapter,
    square_canvas,
)
from fewshot_node.vision.landmarks import locate_landmarks

CHANNELS = 6


def chain(rng: np.random.Generator, shape: tuple[int, int] = (24, 24)) -> tuple[np.ndarray, np.ndarray]:
    """Two equal blocks, one below a marker and one above it: only the marker tells them apart."""
    labels = np.zeros(shape, dtype=np.uint8)
    kinds = np.zeros(shape, dtype=int)
    top, left = (int(rng.integers(2, side - 16)) for side in (shape[0], shape[1] + 8))
    for offset, kind, label in ((0, 1, 1), (6, 2, 0), (9, 1, 2)):
        block = (slice(top + offset, top + offset + (3 if kind == 2 else 5)), slice(left, left + 5))
        labels[block], kinds[block] = label, kind
    features = np.eye(CHANNELS)[kinds] + 0.05 * rng.standard_normal((*shape, CHANNELS))
    return (features / np.linalg.norm(features, axis=-1, keepdims=True)).astype(np.float32), labels


def support_of(seed: int, slices: int = 12) -> Support:
    rng = np.random.default_rng(seed)
    features, labels = zip(*(chain(rng) for _ in range(slices)), strict=True)
    return Support(np.stack(features), np.stack(labels), np.arange(slices), (1, 2))


def accuracy_on_blocks(name: str) -> float:
    settings = AdapterSettings(name=name, steps=60, position_weight=0.0)
    query = support_of(99, slices=6)
    found = fit_adapter(support_of(1), settings).scores(query.features).argmax(axis=1)
    return float((found == query.labels)[query.labels > 0].mean())


def test_it_tells_equal_blocks_apart_by_what_lies_beside_them() -> None:
    assert accuracy_on_blocks("context") > 0.9
    # One cell at a time, the two are the same: half of the cells at best.
    assert accuracy_on_blocks("classification") < 0.7


@pytest.mark.parametrize("shape", [(24, 24), (9, 31), (40, 17), (1, 8)])
def test_slices_of_any_shape_are_scored_on_their_own_grid(shape: tuple[int, int]) -> None:
    adapter = fit_adapter(support_of(1, slices=3), AdapterSettings(name="context", steps=2))
    features = np.zeros((2, *shape, CHANNELS), dtype=np.float32)
    scores = adapter.scores(features)
    assert scores.shape == (2, 3, *shape)
    np.testing.assert_allclose(np.exp(scores).sum(axis=1), 1, atol=1e-4)


def test_a_slice_is_scored_the_same_alone_and_among_others() -> None:
    adapter = fit_adapter(support_of(1, slices=3), AdapterSettings(name="context", steps=2))
    stack = support_of(2, slices=11).features
    whole = adapter.scores(stack)
    np.testing.assert_allclose(adapter.scores(stack[9:10])[0], whole[9], atol=0.02)


def test_a_canvas_is_square_and_keeps_the_slice_in_its_middle() -> None:
    narrow = np.ones((2, 10, 3, 1), dtype=np.float16)
    canvas = square_canvas(narrow)
    assert canvas.shape == (2, 16, 16, 1)
    assert canvas.dtype == np.float16
    assert canvas.sum() == narrow.sum()
    assert canvas[:, 3:13, 6:9].all()


def test_cover_is_each_class_share_of_a_cell() -> None:
    labels = np.zeros((1, 4, 8), dtype=np.uint8)
    labels[0, :2, 4:] = 5
    labels[0, 2:, 6:] = 9
    cover = cover_of_cells(labels, (5, 9), (1, 2))
    np.testing.assert_allclose(cover[0, 0], [[1, 0, 0], [0.25, 0.5, 0.25]])


def test_cover_of_another_shape_is_refused() -> None:
    support = support_of(1, slices=2)
    with pytest.raises(ValueError, match="cover"):
        Support(support.features, support.labels, support.template_ids, (1, 2), cover=np.zeros((2, 24, 24, 2)))


def test_the_last_variant_of_a_slice_calibrates_and_is_not_trained_on() -> None:
    support = support_of(1, slices=6)
    ids = np.array([0, 0, 0, 1, 1, 1])
    settings = AdapterSettings(name="context", steps=3)
    first = fit_adapter(Support(support.features, support.labels, ids, (1, 2), slice_ids=ids), settings)
    changed = support.labels.copy()
    changed[[2, 5]] = 0
    second = fit_adapter(Support(support.features, changed, ids, (1, 2), slice_ids=ids), settings)
    head, other = first.tensors(), second.tensors()
    assert all(bool((head[name] == other[name]).all()) for name in head if name.startswith("head."))
    assert bool((head["peaks"] != other["peaks"]).any())


def test_what_a_weight_gave_a_rare_label_is_taken_back_as_far_as_it_was_learnt() -> None:
    """Weights go with one over the root of a class's share, so a label's is known without the head."""
    support = support_of(1, slices=12)
    ids = np.repeat(np.arange(4), 3)
    trained = np.arange(12) % 3 < 2
    settings = AdapterSettings(name="context", steps=60)
    learnt = fit_adapter(Support(support.features, support.labels, ids, (1, 2), slice_ids=ids), settings)
    offsets = learnt.tensors()["offsets"].numpy()
    share = np.array([(support.labels[trained] == value).mean() for value in (0, 1, 2)]) + 1e-4
    whole = 0.5 * np.log(share[1:] / share[0])
    assert offsets[0] == 0
    assert (offsets[1:] >= whole - 1e-4).all()
    assert (offsets[1:] < 0.5 * whole).all()


def test_of_a_label_that_was_not_learnt_nothing_is_taken_back() -> None:
    support = support_of(1, slices=6)
    ids = np.array([0, 0, 0, 1, 1, 1])
    settings = AdapterSettings(name="context", steps=1)
    adapter = fit_adapter(Support(support.features, support.labels, ids, (1, 2), slice_ids=ids), settings)
    assert adapter.tensors()["offsets"].tolist() == [0.0, 0.0, 0.0]


def test_what_an_earlier_version_stored_scores_as_it_did(tmp_path: Path) -> None:
    """Published revisions of before there were offsets, gates and figures go on."""
    fitted = fit_adapter(support_of(1, slices=3), AdapterSettings(name="context", steps=2))
    later = {"offsets", "gates", "figures"}
    stored = {name: value for name, value in fitted.tensors().items() if name not in later}
    earlier = type("Earlier", (type(fitted),), {"tensors": lambda self: stored})
    parts = {one.name: getattr(fitted, one.name) for one in fields(fitted)}
    save_adapter(earlier(**parts), tmp_path / "adapter.safetensors")
    found = load_adapter(tmp_path / "adapter.safetensors")
    query = support_of(2, slices=2).features
    scores = found.scores(query)
    np.testing.assert_allclose(np.exp(scores).sum(axis=1), 1, atol=1e-4)
    np.testing.assert_array_equal(scores, fitted.scores(query))
    assert np.array_equal(found.peak_thresholds, fitted.peak_thresholds)
    located = locate_landmarks(FeatureMap(query, (96, 96)), found, (1.0, 1.0, 1.0))
    assert [one.label_value for one in located.landmarks] == [1, 2]


def test_enough_slices_without_a_label_give_it_a_gate() -> None:
    support = support_of(1, slices=24)
    ids = np.repeat(np.arange(8), 3)
    labels = support.labels.copy()
    labels[(ids < 5)[:, None, None] & (labels == 2)] = 0
    adapter = fit_adapter(
        Support(support.features, labels, ids, (1, 2), slice_ids=ids), AdapterSettings(name="context", steps=3)
    )
    gates = adapter.tensors()["gates"].numpy()
    assert gates[0] == -np.inf
    assert np.isfinite(gates[1])
