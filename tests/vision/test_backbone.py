"""Encoders from folders: shapes, digests, and folders that are no checkpoint."""

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    ConvNextBackbone,
    ConvNextConfig,
    ConvNextModel,
    Dinov2Backbone,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersBackbone,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ConvNextConfig,
    DINOv3ConvNextModel,
    DINOv3ViTBackbone,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    PreTrainedModel,
    ResNetBackbone,
    ResNetConfig,
    SamConfig,
)

from fewshot_node.errors import CheckpointError, ConfigurationError
from fewshot_node.vision.backbone import DenseEncoder, InputScale, load_encoder, save_encoder
from fewshot_node.vision.pyramid import PyramidProjection

VIT = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
STAGES = ["stage1", "stage2", "stage3", "stage4"]


def tiny_resnet_config(channels: int = 1, **more: object) -> ResNetConfig:
    return ResNetConfig(
        num_channels=channels,
        embedding_size=8,
        hidden_sizes=[8, 12, 16, 20],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        **more,
    )


def tiny_convnext_config() -> ConvNextConfig:
    return ConvNextConfig(hidden_sizes=[8, 12, 16, 20], depths=[1, 1, 1, 1])


MODELS: dict[str, tuple[Callable[[], PreTrainedModel], int, int, int]] = {
    # name: model, multiple, stride, D
    "dinov2-backbone": (
        lambda: Dinov2Backbone(Dinov2Config(**VIT, image_size=28, patch_size=14)),
        14,
        14,
        24,
    ),
    "dinov2-model": (lambda: Dinov2Model(Dinov2Config(**VIT, image_size=28, patch_size=14)), 14, 14, 24),
    "dinov2-registers": (
        lambda: Dinov2WithRegistersBackbone(
            Dinov2WithRegistersConfig(**VIT, image_size=28, patch_size=14, num_register_tokens=2)
        ),
        14,
        14,
        24,
    ),
    "dinov3": (
        lambda: DINOv3ViTBackbone(DINOv3ViTConfig(**VIT, intermediate_size=48, patch_size=16, image_size=32)),
        16,
        16,
        24,
    ),
    "dinov3-convnext": (
        lambda: DINOv3ConvNextModel(DINOv3ConvNextConfig(hidden_sizes=[8, 12, 16, 20], depths=[1, 1, 1, 1])),
        32,
        32,
        20,
    ),
    "resnet": (lambda: ResNetBackbone(tiny_resnet_config(3)), 32, 32, 20),
    "convnext-backbone": (lambda: ConvNextBackbone(tiny_convnext_config()), 32, 32, 20),
    "convnext-model": (lambda: ConvNextModel(tiny_convnext_config()), 32, 32, 20),
}


def grey_encoder(seed: int = 0) -> DenseEncoder:
    torch.manual_seed(seed)
    backbone = ResNetBackbone(tiny_resnet_config(out_features=STAGES))
    projection = PyramidProjection([8, 12, 16, 20], 10)
    return DenseEncoder(backbone, InputScale((0.25,), (0.5,)), projection).eval()


@pytest.mark.parametrize("name", MODELS)
def test_any_backbone_folder_gives_unit_features(name: str, tmp_path: Path) -> None:
    make, multiple, stride, dimension = MODELS[name]
    torch.manual_seed(1)
    make().save_pretrained(tmp_path)
    encoder = load_encoder(tmp_path)
    assert (encoder.in_channels, encoder.multiple, encoder.embedding_dim) == (3, multiple, dimension)
    assert encoder.image_mean == (0.485, 0.456, 0.406)
    height, width = 6 * multiple, 4 * multiple
    images = torch.rand(2, 3, height, width)
    features = encoder(images)
    assert features.shape == (2, dimension, height // stride, width // stride)
    assert torch.allclose(features.norm(dim=1), torch.ones(2, height // stride, width // stride), atol=1e-5)
    assert torch.equal(features, load_encoder(tmp_path)(images))
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


TOKEN_MODELS: dict[str, tuple[Callable[[], PreTrainedModel], int, int]] = {
    # name: model, patch size, tokens before the patches
    "dinov2": (lambda: Dinov2Model(Dinov2Config(**VIT, image_size=28, patch_size=14)), 14, 1),
    "dinov2-registers": (
        lambda: Dinov2WithRegistersModel(
            Dinov2WithRegistersConfig(**VIT, image_size=28, patch_size=14, num_register_tokens=2)
        ),
        14,
        3,
    ),
    "dinov3": (
        lambda: DINOv3ViTModel(
            DINOv3ViTConfig(**VIT, intermediate_size=48, patch_size=16, image_size=32, num_register_tokens=4)
        ),
        16,
        5,
    ),
}


@pytest.mark.parametrize("name", TOKEN_MODELS)
def test_transformer_features_are_the_models_normed_patch_tokens(name: str, tmp_path: Path) -> None:
    make, patch, before = TOKEN_MODELS[name]
    torch.manual_seed(1)
    model = make().eval()
    model.save_pretrained(tmp_path)
    images = torch.rand(1, 3, 3 * patch, 2 * patch)
    with torch.no_grad():
        tokens = model(images).last_hidden_state[0, before:].reshape(3, 2, 24)
    features = load_encoder(tmp_path)(images)[0].permute(1, 2, 0)
    cosine = torch.nn.functional.cosine_similarity(tokens, features, dim=-1)
    assert torch.allclose(cosine, torch.ones(3, 2), atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_several_layers_are_the_last_one_and_those_before_it(name: str, tmp_path: Path) -> None:
    make, multiple, _, dimension = MODELS[name]
    torch.manual_seed(1)
    make().save_pretrained(tmp_path)
    encoder = load_encoder(tmp_path)
    both = encoder.reading(2)
    assert encoder.embedding_dim == dimension  # it still reads one
    images = torch.rand(1, 3, 4 * multiple, 2 * multiple)
    features = both(images)
    assert features.shape[1] == both.embedding_dim > dimension
    # Each layer has an equal part in the whole's length of one.
    earlier, last = features.split([both.embedding_dim - dimension, dimension], dim=1)
    assert torch.allclose(earlier.norm(dim=1), torch.full_like(earlier[:, 0], 0.5**0.5), atol=1e-4)
    if earlier.shape[1] == dimension:
        assert torch.allclose(last * 2**0.5, encoder(images), atol=1e-5)
        mean = encoder.reading(2, "average")(images)
        assert torch.allclose(mean, torch.nn.functional.normalize(earlier + last, dim=1), atol=1e-5)
    assert torch.equal(encoder(images), load_encoder(tmp_path)(images))


def test_an_earlier_layer_is_normed_like_the_last(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = Dinov2Model(Dinov2Config(**VIT, image_size=28, patch_size=14)).eval()
    model.save_pretrained(tmp_path)
    images = torch.rand(1, 3, 42, 28)
    with torch.no_grad():
        hidden = model(images, output_hidden_states=True).hidden_states[-2]
        tokens = torch.nn.functional.normalize(model.layernorm(hidden)[0, 1:], dim=-1).reshape(3, 2, 24)
    features = load_encoder(tmp_path).reading(2)(images)[0, :24].permute(1, 2, 0) * 2**0.5
    assert torch.allclose(features, tokens, atol=1e-5)


def test_layers_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    torch.manual_seed(1)
    ResNetBackbone(tiny_resnet_config(3)).save_pretrained(tmp_path)
    encoder = load_encoder(tmp_path)
    with pytest.raises(ConfigurationError, match=r"encode\.layers: 5 of an encoder that has 4"):
        encoder.reading(5)
    with pytest.raises(ConfigurationError, match="16, 20 channels cannot be averaged"):
        encoder.reading(2, "average")
    with pytest.raises(ConfigurationError, match="mixes its stages itself"):
        grey_encoder().reading(2)


def test_features_digest_follows_weights_scale_and_layers(tmp_path: Path) -> None:
    save_encoder(grey_encoder(), tmp_path / "grey")
    torch.manual_seed(1)
    make, _, _, _ = MODELS["dinov2-model"]
    make().save_pretrained(tmp_path / "vit")
    plain = load_encoder(tmp_path / "vit")
    (tmp_path / "vit" / "preprocessor_config.json").write_text('{"image_mean": [0, 0, 0], "image_std": [1, 1, 1]}')
    encoders = [load_encoder(tmp_path / "grey"), plain, load_encoder(tmp_path / "vit")]
    encoders += [plain.reading(2), plain.reading(2, "average")]
    assert len({one.features_digest for one in encoders}) == len(encoders)
    assert plain.reading(1).weights_digest == plain.weights_digest
    assert load_encoder(tmp_path / "grey").features_digest == encoders[0].features_digest
    assert grey_encoder().features_digest == ""


def test_own_format_survives_a_round_trip(tmp_path: Path) -> None:
    encoder = grey_encoder()
    save_encoder(encoder, tmp_path)
    loaded = load_encoder(str(tmp_path))
    images = torch.rand(2, 1, 64, 96)
    assert loaded.embedding_dim == 10
    assert (loaded.in_channels, loaded.image_mean, loaded.image_std) == (1, (0.25,), (0.5,))
    features = loaded(images)
    assert features.shape == (2, 10, 16, 24)
    assert torch.allclose(features, encoder(images), atol=1e-5)
    description = json.loads((tmp_path / "encoder.json").read_text())
    assert (description["format"], description["stride"], description["stages"]) == (
        "fewshot-encoder/1",
        4,
        STAGES,
    )
    assert all(path.suffix in {".json", ".safetensors"} for path in tmp_path.iterdir())


def test_half_precision_files_load_as_float32_and_leave_the_encoder_alone(tmp_path: Path) -> None:
    encoder = grey_encoder()
    save_encoder(encoder, tmp_path, half_precision=True)
    stored = load_file(tmp_path / "model.safetensors")
    assert {value.dtype for value in stored.values() if value.is_floating_point()} == {torch.float16}
    loaded = load_encoder(tmp_path)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32}
    images = torch.rand(1, 1, 64, 64)
    assert torch.allclose(loaded(images), encoder(images), atol=5e-3)


def test_plain_encoder_keeps_its_input_scale(tmp_path: Path) -> None:
    torch.manual_seed(1)
    backbone = ResNetBackbone(tiny_resnet_config(3))
    save_encoder(DenseEncoder(backbone, InputScale((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))), tmp_path)
    assert load_encoder(tmp_path).image_mean == (0.1, 0.2, 0.3)
    assert load_encoder(tmp_path).image_std == (0.4, 0.5, 0.6)


def test_digest_follows_the_weights(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("again", 0), ("b", 1)):
        save_encoder(grey_encoder(seed), tmp_path / name)
    digests = {name: load_encoder(tmp_path / name).weights_digest for name in ("a", "again", "b")}
    assert digests["a"] == digests["again"] != digests["b"]
    assert len(digests["a"]) == 64
    projection = load_file(tmp_path / "again" / "projection.safetensors")
    save_file({name: value + 1 for name, value in projection.items()}, tmp_path / "again" / "projection.safetensors")
    assert load_encoder(tmp_path / "again").weights_digest != digests["a"]


@pytest.mark.parametrize("shape", [(1, 3, 64, 64), (1, 1, 60, 64), (1, 64, 64)])
def test_unfit_images_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="multiples of 32"):
        grey_encoder()(torch.zeros(shape))


def test_embedded_encoder_is_packaged() -> None:
    encoder = load_encoder("embedded")
    assert (encoder.in_channels, encoder.embedding_dim, encoder.multiple) == (1, 128, 32)
    folder = Path(sys.modules[DenseEncoder.__module__].__file__ or "").parent / "weights" / "encoder"
    assert "Held-out score" in (folder / "CARD.md").read_text()
    assert sum(path.stat().st_size for path in folder.iterdir()) < 10e6


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ((), "no config.json and no model.safetensors; give a folder written by"),
        (("config.json",), "no model.safetensors; give a folder written by"),
        (("model.safetensors",), "no config.json; "),
        (("config.json", "pytorch_model.bin"), "pytorch_model.bin, a pickle, .*convert it to safetensors"),
        (("config.json", "model.safetensors", "encoder.json"), "no projection.safetensors"),
    ],
)
def test_incomplete_folders_say_what_is_missing(files: tuple[str, ...], message: str, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    save_encoder(grey_encoder(), whole)
    (whole / "pytorch_model.bin").write_bytes(pickle.dumps({}))
    part = tmp_path / "part"
    part.mkdir()
    for name in files:
        (part / name).write_bytes((whole / name).read_bytes())
    with pytest.raises(CheckpointError, match=message) as raised:
        load_encoder(part)
    assert str(part) in str(raised.value)


def _damage_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"not safetensors")


def _drop_a_weight(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors.pop(sorted(tensors)[0])
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _break_the_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def _foreign_model(folder: Path) -> None:
    SamConfig().save_pretrained(folder)


def _foreign_format(folder: Path) -> None:
    (folder / "encoder.json").write_text('{"format": "other/9"}')


def _broken_description(folder: Path) -> None:
    (folder / "encoder.json").write_text("[]")


def _wrong_dimension(folder: Path) -> None:
    path = folder / "encoder.json"
    path.write_text(path.read_text().replace('"embedding_dim": 10', '"embedding_dim": 11'))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_damage_weights, "not loadable as a backbone"),
        (_drop_a_weight, "the weights lack embedder"),
        (_break_the_config, "not loadable as a backbone"),
        (_foreign_model, "sam is no backbone"),
        (_foreign_format, "format 'other/9', expected"),
        (_broken_description, "not a JSON object"),
        (_wrong_dimension, "disagrees with the weights"),
    ],
)
def test_damaged_folders_are_refused(damage: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    save_encoder(grey_encoder(), tmp_path)
    damage(tmp_path)
    with pytest.raises(CheckpointError, match=message) as raised:
        load_encoder(tmp_path)
    assert str(tmp_path) in str(raised.value)


def test_three_values_do_not_fit_one_channel() -> None:
    with pytest.raises(CheckpointError, match="3 mean and 3 std values for 1 channels"):
        DenseEncoder(ResNetBackbone(tiny_resnet_config()), InputScale.usual(3))


def test_missing_folder_and_unknown_hub_name(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such model folder"):
        load_encoder(tmp_path / "absent")
    with pytest.raises(CheckpointError, match="local cache"):
        load_encoder("nobody/no-such-model-42")


def test_loading_prints_nothing(tmp_path: Path) -> None:
    ConvNextModel(tiny_convnext_config()).save_pretrained(tmp_path)
    script = f"from fewshot_node.vision.backbone import load_encoder; load_encoder({str(tmp_path)!r})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
