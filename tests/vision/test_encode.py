from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import Dinov2Backbone, Dinov2Config

from fewshot_node.errors import ConfigurationError
from fewshot_node.vision.backbone import load_encoder
from fewshot_node.vision.encode import EncodeSettings, encode
from fewshot_node.vision.feature_cache import MemoryCache
from fewshot_node.vision.intensity import IntensitySettings

WINDOW = IntensitySettings(ct_windows=((0.5, 1.0),))
"""HU 0..1 become 0..1, so that test images are their own grey levels."""


def settings(**keys):
    return EncodeSettings(**{"input_px": 64, "batch": 3, "precision": "float32", "intensity": WINDOW, **keys})


def grey_of(features):
    return np.arctan2(features[..., 1].astype(float), features[..., 0].astype(float))


def as_ct(grey):
    """Keep one voxel of air, or the values would not count as Hounsfield units."""
    grey = np.asarray(grey, dtype=np.float32).copy()
    grey[-1, 0, 0] = -1000
    return grey


@pytest.mark.parametrize(
    ("shape", "cells"),
    [((64, 64), (16, 16)), ((512, 512), (16, 16)), ((35, 51), (11, 16)), ((200, 101), (16, 8)), ((1, 300), (1, 16))],
)
def test_the_grid_covers_odd_images_and_keeps_their_aspect(shape, cells, thermometer):
    features = encode(as_ct(np.zeros((2, *shape))), "CT", thermometer(), settings())
    assert features.array.shape == (2, *cells, 2)
    assert features.array.dtype == np.float16
    assert features.image_shape == shape


def test_features_lie_where_the_image_has_them(thermometer):
    ramp = np.tile(np.linspace(0, 1, 96), (40, 1))
    image = as_ct(np.stack([ramp, ramp * 0]))
    grey = grey_of(encode(image, "CT", thermometer(), settings()).array)[0]
    cells = grey.shape[1]
    expected = ((np.arange(cells) + 0.5) * 96 / cells - 0.5) / 95
    np.testing.assert_allclose(grey, np.tile(expected, (grey.shape[0], 1)), atol=0.01)


def test_padding_continues_the_edge_and_is_cropped(thermometer):
    image = as_ct(np.full((2, 60, 64), 0.7))
    encoder = thermometer(multiple=64)
    features = encode(image, "CT", encoder, settings())
    assert encoder.seen[0].shape[-2:] == (64, 64)
    assert features.array.shape[1:3] == (15, 16)
    np.testing.assert_allclose(encoder.seen[0][0, 0].numpy(), 0.7, atol=1e-3)


def test_a_coarse_encoder_is_interpolated_to_the_stride_and_renormalised(thermometer):
    rng = np.random.default_rng(0)
    image = as_ct(rng.uniform(0, 1, (1, 64, 64)))
    encoder = thermometer(stride=14, multiple=14)
    array = encode(image, "CT", encoder, settings(input_px=56)).array
    assert array.shape == (1, 14, 14, 2)
    np.testing.assert_allclose(np.linalg.norm(array.astype(float), axis=-1), 1, atol=2e-3)


def test_the_encoder_gets_its_own_mean_and_deviation_in_every_channel(thermometer):
    encoder = thermometer(in_channels=3, mean=0.5, std=0.25)
    encode(as_ct(np.full((1, 64, 64), 0.75)), "CT", encoder, settings())
    assert encoder.seen[0].shape[1] == 3
    np.testing.assert_allclose(encoder.seen[0][0, :, 8:].numpy(), 1.0, atol=1e-5)


def test_batches_do_not_change_the_result_and_two_runs_agree(thermometer):
    image = as_ct(np.random.default_rng(4).uniform(0, 1, (7, 48, 40)))
    whole = encode(image, "CT", thermometer(), settings(batch=7)).array
    np.testing.assert_array_equal(whole, encode(image, "CT", thermometer(), settings(batch=2)).array)
    np.testing.assert_array_equal(whole, encode(image, "CT", thermometer(), settings(batch=7)).array)


def test_scratch_holds_the_features_and_two_volumes_do_not_collide(tmp_path, thermometer):
    image = as_ct(np.random.default_rng(5).uniform(0, 1, (3, 32, 32)))
    first = encode(image, "CT", thermometer(), settings(), store=tmp_path)
    second = encode(image * 0.5, "CT", thermometer(), settings(), store=tmp_path)
    assert isinstance(first.array, np.memmap)
    assert len(list(tmp_path.iterdir())) == 2
    np.testing.assert_array_equal(first.array, encode(image, "CT", thermometer(), settings()).array)
    assert not np.array_equal(first.array, second.array)


def test_bfloat16_is_close_to_float32(thermometer):
    class Convolution(thermometer):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.layer = torch.nn.Conv2d(1, 2, 4, stride=4)

        def forward(self, images):
            return torch.nn.functional.normalize(self.layer(images), dim=1)

    image = as_ct(np.random.default_rng(6).uniform(0, 1, (2, 64, 64)))
    encoder = Convolution()
    exact = encode(image, "CT", encoder, settings()).array.astype(float)
    quick = encode(image, "CT", encoder, settings(precision="auto")).array.astype(float)
    assert (exact * quick).sum(axis=-1).min() > 0.99


def test_scales_lie_behind_each_other_on_the_finest_grid(thermometer):
    image = as_ct(np.random.default_rng(7).uniform(0, 1, (2, 64, 48)))
    both = encode(image, "CT", thermometer(), settings(scales=(0.5, 1.0))).array.astype(float)
    assert both.shape == (2, 16, 12, 4)
    # Each has an equal part in the length of one.
    np.testing.assert_allclose(np.linalg.norm(both[..., :2], axis=-1), 0.5**0.5, atol=2e-3)
    fine = encode(image, "CT", thermometer(), settings()).array.astype(float)
    np.testing.assert_allclose(both[..., 2:] * 2**0.5, fine, atol=2e-3)
    coarse = grey_of(both[..., :2])
    np.testing.assert_allclose(coarse[1, 1:-1, 1:-1].mean(), grey_of(fine)[1, 1:-1, 1:-1].mean(), atol=0.02)


def test_scales_agree_about_where_things_are(thermometer):
    ramp = as_ct(np.stack([np.tile(np.linspace(0, 1, 96), (40, 1))] * 2))
    features = encode(ramp, "CT", thermometer(), settings(scales=(1.0, 0.5))).array[0]
    np.testing.assert_allclose(grey_of(features[..., :2])[:, 1:-1], grey_of(features[..., 2:])[:, 1:-1], atol=0.01)


def test_debias_takes_the_place_out(thermometer):
    class Placed(thermometer):
        """Says the grey level, and the row."""

        def __init__(self):
            super().__init__()
            self.embedding_dim = 3

        def forward(self, images):
            grey = super().forward(images)
            rows = torch.linspace(-1, 1, grey.shape[2])[:, None].expand(len(grey), 1, *grey.shape[2:])
            return torch.nn.functional.normalize(torch.cat([grey, rows], dim=1), dim=1)

    image = as_ct(np.full((2, 64, 64), 0.2))
    biased = encode(image, "CT", Placed(), settings()).array[0].astype(float)
    assert biased.std(axis=(0, 1)).max() > 0.3
    features = encode(image, "CT", Placed(), settings(debias=1)).array[0].astype(float)
    assert features.std(axis=(0, 1)).max() < 0.05


def test_several_layers_of_an_encoder_are_read(tmp_path):
    torch.manual_seed(0)
    config = Dinov2Config(hidden_size=16, num_hidden_layers=3, num_attention_heads=2, image_size=28, patch_size=14)
    Dinov2Backbone(config).save_pretrained(tmp_path)
    encoder = load_encoder(tmp_path)
    image = as_ct(np.random.default_rng(8).uniform(0, 1, (1, 50, 64)))
    own = settings(input_px=56, intensity=IntensitySettings(ct_windows=((0.5, 1.0),)))
    for more, dimension in (({}, 16), ({"layers": 2}, 32), ({"layers": 3, "join": "average"}, 16)):
        array = encode(image, "CT", encoder, replace(own, **more)).array
        assert array.shape == (1, 11, 14, dimension)
        np.testing.assert_allclose(np.linalg.norm(array.astype(float), axis=-1), 1, atol=2e-3)


@pytest.fixture
def counted(thermometer):
    """Build thermometers with a digest, which a cache asks for."""

    class Counted(thermometer):
        features_digest = "thermometer"

    return Counted


def test_the_same_pixels_are_encoded_once(counted):
    image = as_ct(np.random.default_rng(9).uniform(0, 1, (2, 32, 32)))
    encoder, cache = counted(), MemoryCache(10**6)
    first = encode(image, "CT", encoder, settings(), store=cache).array
    runs = len(encoder.seen)
    np.testing.assert_array_equal(first, encode(image.copy(), "CT", encoder, settings(), store=cache).array)
    assert len(encoder.seen) == runs
    np.testing.assert_array_equal(first, encode(image, "CT", encoder, settings()).array)


def test_other_pixels_settings_ranges_or_weights_are_encoded_anew(counted):
    image = as_ct(np.random.default_rng(9).uniform(0, 1, (2, 32, 32)))
    other = image.copy()
    other[1, 5, 5] += 0.01
    weights = counted()
    weights.features_digest = "others"
    cache = MemoryCache(10**6)
    calls = [
        (image, counted(), settings(), None),
        (other, counted(), settings(), None),
        (image.reshape(1, 64, 32), counted(), settings(), None),
        (image, counted(), settings(debias=1), None),
        (image, counted(), settings(), ((0.0, 0.9),)),
        (image, weights, settings(), None),
    ]
    for array, encoder, own, ranges in calls:
        encode(array, "CT", encoder, own, ranges=ranges, store=cache)
        assert encoder.seen


def test_an_encoder_without_a_digest_is_never_cached(counted):
    encoder, cache = counted(), MemoryCache(10**6)
    encoder.features_digest = ""
    image = as_ct(np.zeros((1, 32, 32)))
    for runs in (1, 2):
        encode(image, "CT", encoder, settings(), store=cache)
        assert len(encoder.seen) == runs


@pytest.mark.parametrize(
    "wrong",
    [
        {"input_px": 0},
        {"batch": 0},
        {"feature_stride": 0},
        {"precision": "half"},
        {"layers": 0},
        {"join": "add"},
        {"scales": ()},
        {"scales": (1.0, 0.0)},
        {"scales": (9.0,)},
        {"scales": (float("nan"),)},
        {"debias": -1},
    ],
)
def test_impossible_settings_are_refused_by_key(wrong):
    with pytest.raises(ConfigurationError, match=r"encode\."):
        EncodeSettings(**wrong)
