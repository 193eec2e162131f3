import numpy as np
import pytest
import torch

from fewshot_node.vision.adapters import AdapterSettings, Support, fit_adapter, pairwise_scores

DIM = 8


def support_of(labels=2, slices=3, size=12, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(labels + 1, DIM))
    classes = np.zeros((slices, size, size), dtype=np.int64)
    for label in range(1, labels + 1):
        classes[:, 1 : size - 1, 3 * label - 2 : 3 * label] = label
    features = centres[classes] + 0.5 * rng.normal(size=(*classes.shape, DIM))
    features /= np.linalg.norm(features, axis=-1, keepdims=True)
    return Support(
        features.astype(np.float32), classes.astype(np.uint8), np.arange(slices), tuple(range(1, labels + 1))
    )


def fitted(support, **settings):
    quick = {"steps": 30, "batch": 128, "references": 40, "embedding_dim": 12, "hidden_dim": 16}
    return fit_adapter(support, AdapterSettings(name="contrastive-concat", **quick | settings))


@pytest.mark.parametrize("labels", [1, 3])
@pytest.mark.parametrize("retrieval", [0.0, 5.0])
def test_factorised_and_pairwise_forms_agree(labels, retrieval):
    adapter = fitted(support_of(labels), retrieval=retrieval)
    query = support_of(labels, slices=2, seed=9).features
    assert len(adapter.references.classes) > 30 * labels
    np.testing.assert_allclose(adapter.scores(query), pairwise_scores(adapter, query), atol=1e-4)


def printed_logits(weights, references, targets):
    """The network as the paper draws it, in NumPy: the two outputs concatenated, then one linear layer."""

    def gelu(x):
        return torch.nn.functional.gelu(torch.from_numpy(x)).numpy()

    def network(pixels):
        hidden = gelu(pixels @ weights["head.hidden.weight"].T + weights["head.hidden.bias"])
        return gelu(hidden @ weights["head.out.weight"].T + weights["head.out.bias"])

    pairs = np.concatenate([network(references), network(targets)], axis=-1)
    return pairs @ weights["head.decide.weight"].T + weights["head.decide.bias"]


def test_scores_are_mean_log_odds_over_all_pairs_of_the_printed_network():
    adapter = fitted(support_of(2), retrieval=0.0, smoothing_cells=0.0, position_weight=0.0)
    weights = {name: value.double().numpy() for name, value in adapter.tensors().items()}
    query = support_of(2, slices=1, seed=4).features
    pixels = query[0].reshape(-1, DIM)
    placed = np.concatenate([pixels, np.zeros((len(pixels), 2))], axis=1)
    targets = (placed - weights["head.mean"]) * weights["head.scale"]
    expected = np.zeros((3, len(pixels)))
    for label in (1, 2):
        by_slice = []
        for slice_ in range(3):
            mine = (weights["references.classes"] == label) & (weights["references.slices"] == slice_)
            references = weights["references.inputs"][mine]
            pairs = printed_logits(
                weights, np.repeat(references, len(targets), axis=0), np.tile(targets, (len(references), 1))
            ).reshape(len(references), len(targets), 3)
            by_slice.append((pairs[..., label] - pairs[..., 0]).mean(axis=0))
        expected[label] = np.mean(by_slice, axis=0) + weights["offsets"][label]
    np.testing.assert_allclose(adapter.scores(query)[0].reshape(3, -1), expected, atol=1e-3)


def test_references_of_a_label_rank_the_pixels_alike():
    """The method's note on the printed form: what a reference adds does not depend on the target."""
    adapter = fitted(support_of(2))
    pixels = adapter.inputs(torch.from_numpy(support_of(2, slices=1, seed=5).features[0]))
    mine = adapter.references.vectors[adapter.references.classes == 1]
    odds = [adapter.head(one.expand(len(pixels), -1), pixels) for one in mine[:5]]
    lead = torch.stack([one[:, 1] - one[:, 0] for one in odds])
    torch.testing.assert_close(lead - lead[:, :1], (lead - lead[:, :1])[:1].expand_as(lead), atol=1e-4, rtol=0)


def test_every_label_has_references_and_the_background_none():
    adapter = fitted(support_of(3))
    assert set(adapter.references.classes.tolist()) == {1, 2, 3}
    assert set(adapter.references.slices.tolist()) == {0, 1, 2}


def test_a_label_may_be_shown_by_one_template_alone():
    support = support_of(2)
    labels = support.labels.copy()
    labels[1:][labels[1:] == 2] = 0
    adapter = fitted(Support(support.features, labels, support.template_ids, (1, 2)))
    assert np.isfinite(adapter.scores(support.features)).all()
    assert adapter.peak_thresholds[1].tolist() == [0.0, 1.0]


def test_a_pixel_that_shares_a_label_is_told_from_one_that_does_not():
    support = support_of(2)
    query = support_of(2, seed=0)
    adapter = fitted(support, steps=120)
    assert (adapter.scores(query.features).argmax(axis=1) == query.classes).mean() > 0.9
