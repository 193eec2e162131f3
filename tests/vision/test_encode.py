import numpy as np
import pytest
import torch

from fewshot_node.errors import ConfigurationError
from fewshot_node.vision.encode import EncodeSettings, encode, input_grid
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


def test_the_long_side_is_rounded_to_what_encoder_and_stride_can_take():
    grid = input_grid((100, 50), multiple=14, settings=EncodeSettings(input_px=450))
    assert grid.resized == (448, 224)
    assert grid.padded == (448, 224)
    assert grid.cells == (112, 56)


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
    first = encode(image, "CT", thermometer(), settings(), scratch=tmp_path)
    second = encode(image * 0.5, "CT", thermometer(), settings(), scratch=tmp_path)
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


@pytest.mark.parametrize("wrong", [{"input_px": 0}, {"batch": 0}, {"feature_stride": 0}, {"precision": "half"}])
def test_impossible_settings_are_refused_by_key(wrong):
    with pytest.raises(ConfigurationError, match=r"encode\."):
        EncodeSettings(**wrong)
