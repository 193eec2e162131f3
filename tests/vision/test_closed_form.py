import numpy as np
import pytest

from fewshot_node.vision.adapters import AdapterSettings, Support, fit_adapter

DIM = 6
PLAIN = {"smoothing_cells": 0.0, "position_weight": 0.0}


def support_of(slices=1, seed=0, spread=0.4, labels=2, size=20):
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(labels + 1, DIM))
    mixing = np.eye(DIM) + 0.4 * rng.normal(size=(DIM, DIM))
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, labels + 1, size=(slices, size, size))
    features = centres[classes] + spread * rng.normal(size=(*classes.shape, DIM)) @ mixing
    features /= np.linalg.norm(features, axis=-1, keepdims=True)
    return Support(
        features.astype(np.float32), classes.astype(np.uint8), np.arange(slices), tuple(range(1, labels + 1))
    )


def test_a_prototype_is_the_class_mean_compared_by_cosine():
    support = support_of()
    query = support_of(seed=1)
    scores = fit_adapter(support, AdapterSettings(name="prototype", **PLAIN)).scores(query.features)
    cosines = []
    for channel in range(3):
        mean = support.features[support.classes == channel].mean(axis=0)
        cosines.append(query.features @ (mean / np.linalg.norm(mean)))
    expected = np.stack(cosines, axis=1)
    np.testing.assert_array_equal(scores.argmax(axis=1), expected.argmax(axis=1))
    ratio = (scores[:, 1:] - scores[:, :1]) / (expected[:, 1:] - expected[:, :1])
    assert ratio.std() / ratio.mean() < 0.05


def discriminant(support, query, shrinkage):
    """Fisher's rule by the textbook, with equal priors, on all pixels (no drawing): label map."""
    pixels, classes = support.features.reshape(-1, DIM).astype(float), support.classes.ravel()
    pixels = pixels / pixels.std(axis=0)
    target = query.features.reshape(-1, DIM) / support.features.reshape(-1, DIM).std(axis=0)
    means = np.stack([pixels[classes == channel].mean(axis=0) for channel in range(3)])
    rest = pixels - means[classes]
    covariance = rest.T @ rest / len(rest)
    covariance = (1 - shrinkage) * covariance + shrinkage * np.trace(covariance) / DIM * np.eye(DIM)
    inverse = np.linalg.inv(covariance)
    distances = [np.einsum("nd,de,ne->n", target - mean, inverse, target - mean) for mean in means]
    return np.argmin(distances, axis=0).reshape(query.classes.shape)


@pytest.mark.parametrize("shrinkage", [0.0, 0.2])
def test_lda_is_the_textbooks_rule(shrinkage):
    support, query = support_of(), support_of(seed=1)
    settings = AdapterSettings(name="lda", shrinkage=shrinkage, **PLAIN)
    found = fit_adapter(support, settings).scores(query.features).argmax(axis=1)
    assert (found == discriminant(support, query, shrinkage)).mean() > 0.97


def test_lda_beats_prototypes_where_the_noise_has_a_direction():
    """Classes differ along one axis, noise is ten times as large along another."""
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 2, size=(2, 20, 20))
    features = np.zeros((2, 20, 20, 3))
    features[..., 0] = 0.3 * classes + 0.05 * rng.normal(size=classes.shape)
    features[..., 1] = rng.normal(size=classes.shape) + 0.6 * classes
    features[..., 2] = 3
    features = (features / np.linalg.norm(features, axis=-1, keepdims=True)).astype(np.float32)
    support = Support(features[:1], classes[:1].astype(np.uint8), np.zeros(1, int), (1,))
    correct = {
        name: (
            fit_adapter(support, AdapterSettings(name=name, **PLAIN)).scores(features[1:]).argmax(1) == classes[1:]
        ).mean()
        for name in ("prototype", "lda")
    }
    assert correct["lda"] > 0.95 > correct["prototype"]


@pytest.mark.parametrize("name", ["prototype", "lda"])
@pytest.mark.parametrize("temperature", [0.05, 0.1])
def test_a_label_leads_at_its_own_mean_by_the_inverse_temperature(name, temperature):
    support = support_of(labels=1)
    adapter = fit_adapter(support, AdapterSettings(name=name, temperature=temperature, **PLAIN))
    scores = adapter.scores(support.features)
    lead = scores[:, 1] - scores[:, 0]
    gap = (lead[support.classes == 1].mean() - lead[support.classes == 0].mean()) / 2
    assert gap == pytest.approx(1 / temperature, rel=0.1)


@pytest.mark.parametrize("name", ["prototype", "lda"])
def test_features_that_do_not_differ_give_finite_scores(name):
    features = np.full((2, 8, 8, 4), 0.5, dtype=np.float32)
    labels = np.zeros((2, 8, 8), dtype=np.uint8)
    labels[:, :4] = 1
    adapter = fit_adapter(Support(features, labels, np.arange(2), (1,)), AdapterSettings(name=name))
    assert np.isfinite(adapter.scores(features)).all()


@pytest.mark.parametrize("name", ["prototype", "lda"])
def test_a_support_without_background_gives_finite_scores(name):
    support = support_of(slices=2)
    whole = Support(support.features, np.where(support.labels == 2, 2, 1).astype(np.uint8), np.arange(2), (1, 2))
    scores = fit_adapter(whole, AdapterSettings(name=name)).scores(support.features)
    assert np.isfinite(scores).all()
    assert (scores.argmax(axis=1) > 0).all()


def test_the_place_counts_for_lda_as_far_as_it_is_given_weight():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(1, 20, 20, 4)).astype(np.float32)
    features /= np.linalg.norm(features, axis=-1, keepdims=True)
    labels = np.zeros((1, 20, 20), dtype=np.uint8)
    labels[:, :, 10:] = 1
    support = Support(features, labels, np.zeros(1, int), (1,))
    found = {
        weight: (
            fit_adapter(support, AdapterSettings(name="lda", position_weight=weight)).scores(features).argmax(1)
            == labels
        ).mean()
        for weight in (0.0, 0.5)
    }
    assert found[0.5] > 0.95
    assert found[0.0] < 0.9
