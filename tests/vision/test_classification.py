import numpy as np
import torch

from fewshot_node.vision.adapters import AdapterSettings, Support, fit_adapter

DIM = 5


def rings(seed, slices=2):
    """Features in the plane on two circles, label 1 between them: no linear rule tells it."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 2, size=(slices, 24, 24))
    angle = rng.uniform(0, 2 * np.pi, size=classes.shape)
    inner_or_outer = np.where(rng.random(classes.shape) < 0.5, 0.2, 1.0)
    radius = np.where(classes == 1, 0.6, inner_or_outer) + 0.04 * rng.normal(size=classes.shape)
    features = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
    rest = np.sqrt(np.clip(2 - (features**2).sum(axis=-1), 0, None))
    features = np.concatenate([features, rest[..., None], np.zeros((*classes.shape, DIM - 3))], axis=-1)
    features /= np.linalg.norm(features, axis=-1, keepdims=True)
    return Support(features.astype(np.float32), classes.astype(np.uint8), np.arange(slices), (1,))


def test_the_network_learns_what_no_linear_rule_can():
    support, query = rings(0), rings(1, 1)
    correct = {}
    for name in ("classification", "lda"):
        settings = AdapterSettings(name=name, smoothing_cells=0.0, position_weight=0.0, steps=300, batch=512)
        correct[name] = (fit_adapter(support, settings).scores(query.features).argmax(1) == query.classes).mean()
    assert correct["lda"] < 0.75
    assert correct["classification"] > correct["lda"] + 0.1


def test_scores_are_the_logits_of_three_layers():
    support = rings(0)
    adapter = fit_adapter(support, AdapterSettings(name="classification", smoothing_cells=0.0, steps=5, batch=64))
    tensors = adapter.tensors()
    weights = [tensors[f"head.{name}.weight"] for name in ("first", "second", "third")]
    assert [tuple(one.shape) for one in weights] == [(128, DIM + 2), (128, 128), (2, 128)]
    height, width = support.labels.shape[1:]
    x, y = (torch.arange(side) * (2 / side) - 1 + 1 / side for side in (width, height))
    place = torch.stack([x.expand(height, width), y[:, None].expand(height, width)], dim=-1)
    current = torch.cat([torch.from_numpy(support.features[0]), place], dim=-1)
    current = (current - tensors["head.mean"]) * tensors["head.scale"]
    for index, name in enumerate(("first", "second", "third")):
        current = current @ weights[index].T + tensors[f"head.{name}.bias"]
        current = torch.nn.functional.gelu(current) if index < 2 else current
    expected = (current + tensors["offsets"]).permute(2, 0, 1).numpy()
    np.testing.assert_allclose(adapter.scores(support.features)[0], expected, atol=1e-4)


def test_other_random_numbers_drawn_meanwhile_do_not_matter():
    support = rings(0)
    scores = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        adapter = fit_adapter(support, AdapterSettings(name="classification", steps=5, batch=64))
        scores.append(adapter.scores(support.features))
    np.testing.assert_array_equal(*scores)
