import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fewshot_node.errors import CheckpointError
from fewshot_node.vision.adapters import (
    ADAPTERS,
    MODES,
    AdapterSettings,
    Support,
    adapter_digest,
    fit_adapter,
    load_adapter,
    save_adapter,
)


@pytest.fixture
def support():
    rng = np.random.default_rng(5)
    features = rng.normal(size=(2, 10, 10, 6)).astype(np.float32)
    labels = np.zeros((2, 10, 10), dtype=np.uint8)
    labels[:, 2:6, 2:6] = 3
    features[labels == 3] += 3
    features /= np.linalg.norm(features, axis=-1, keepdims=True)
    return Support(features, labels, np.array([0, 1]), (3,))


@pytest.fixture
def two_labels(support):
    labels = support.labels.copy()
    labels[:, 7:9, 7:9] = 12
    return Support(support.features, labels, support.template_ids, (3, 12))


def fitted(support, name="contrastive", mode="multilabel"):
    return fit_adapter(support, AdapterSettings(name=name, mode=mode, steps=5, batch=64, references=4))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_comes_back_as_it_was(two_labels, tmp_path, name, mode):
    support = two_labels
    adapter = fitted(support, name, mode)
    save_adapter(adapter, tmp_path / "adapter.safetensors")
    loaded = load_adapter(tmp_path / "adapter.safetensors")
    assert loaded.name == name
    assert loaded.settings == adapter.settings
    assert loaded.label_values == (3, 12)
    np.testing.assert_array_equal(loaded.scores(support.features), adapter.scores(support.features))
    np.testing.assert_array_equal(loaded.peak_thresholds, adapter.peak_thresholds)
    assert adapter_digest(loaded) == adapter_digest(adapter)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ADAPTERS)
def test_two_fits_are_the_same_file(two_labels, tmp_path, name, mode):
    for path in (tmp_path / "first", tmp_path / "second"):
        torch.manual_seed(len(path.name))  # what others draw must not matter
        save_adapter(fitted(two_labels, name, mode), path)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_a_file_from_before_there_were_modes_is_read(support, tmp_path):
    path = tmp_path / "adapter.safetensors"
    adapter = fitted(support)
    save_adapter(adapter, path)
    metadata = metadata_of(path.read_bytes())
    settings = json.loads(metadata["settings"])
    for key in ("mode", "shrinkage"):
        del settings[key]
    save_file(load_file(path), path, metadata | {"settings": json.dumps(settings)})
    loaded = load_adapter(path)
    np.testing.assert_array_equal(loaded.scores(support.features), adapter.scores(support.features))


def test_a_binary_file_that_lacks_a_head_is_refused(two_labels, tmp_path):
    path = tmp_path / "adapter.safetensors"
    save_adapter(fitted(two_labels, "classification", "binary"), path)
    metadata = metadata_of(path.read_bytes())
    tensors = {name: value for name, value in load_file(path).items() if not name.startswith("12.")}
    save_file(tensors, path, metadata)
    with pytest.raises(CheckpointError, match="publish the task again"):
        load_adapter(path)


def test_the_digest_repeats_for_the_same_fit_and_differs_for_another(support):
    assert adapter_digest(fitted(support)) == adapter_digest(fitted(support))
    assert adapter_digest(fitted(support)) != adapter_digest(fitted(support, "basic"))


def damaged(path, how):
    content = path.read_bytes()
    if how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "text":
        path.write_text("this is no adapter")
    elif how == "absent":
        path.unlink()
    elif how == "foreign":
        save_file({"weight": torch.ones(2)}, path)
    elif how == "tensor lost":
        tensors = load_file(path)
        tensors.pop("head.out.weight")
        save_file(tensors, path, metadata_of(content))
    elif how == "settings changed":
        save_file(load_file(path), path, metadata_of(content) | {"settings": '{"name": "contrastiv"}'})


def metadata_of(content):
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length])["__metadata__"]


@pytest.mark.parametrize("how", ["truncated", "empty", "text", "absent", "foreign", "tensor lost", "settings changed"])
def test_a_file_that_is_no_adapter_is_refused_by_path_and_with_a_remedy(support, tmp_path, how):
    path = tmp_path / "adapter.safetensors"
    save_adapter(fitted(support), path)
    damaged(path, how)
    with pytest.raises(CheckpointError, match=r"adapter\.safetensors.*publish the task again"):
        load_adapter(path)
