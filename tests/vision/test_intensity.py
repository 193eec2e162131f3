import numpy as np
import pytest

from fewshot_node.errors import ConfigurationError
from fewshot_node.vision.intensity import IntensitySettings, normalise


def volume(*values):
    return np.array(values, dtype=np.float32).reshape(len(values), 1, 1)


def test_one_channel_of_ct_is_the_soft_tissue_window():
    scaled = normalise(volume(-1000, -160, 40, 240, 3000), "CT")
    assert scaled.shape == (5, 1, 1, 1)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled.ravel(), [0, 0, 0.5, 1, 1])


def test_three_channels_of_ct_are_soft_tissue_lung_and_bone():
    scaled = normalise(volume(-1000, -600, 400), "CT", channels=3)[:, :, 0, 0]
    np.testing.assert_allclose(scaled[1], [0.0, 0.5, 0.0])
    np.testing.assert_allclose(scaled[2], [1.0, 1.0, 0.5])


def test_a_single_window_is_repeated_over_channels():
    scaled = normalise(volume(-1000, 40), "CT", IntensitySettings(ct_windows=((40, 400),)), channels=3)
    np.testing.assert_allclose(scaled[1].ravel(), [0.5, 0.5, 0.5])


def test_too_few_windows_are_refused_by_key():
    settings = IntensitySettings(ct_windows=((40, 400), (0, 100)))
    with pytest.raises(ConfigurationError, match=r"intensity\.ct_windows"):
        normalise(volume(-1000), "CT", settings, channels=3)


@pytest.mark.parametrize("wrong", [{"ct_windows": ()}, {"ct_windows": ((40, 0),)}, {"percentiles": (99, 1)}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ConfigurationError, match="intensity"):
        IntensitySettings(**wrong)


def test_mr_is_scaled_by_the_volume_and_never_by_the_slice():
    rng = np.random.default_rng(1)
    dim, bright = rng.uniform(100, 200, (2, 1, 64, 64)).astype(np.float32)
    bright *= 2
    together = normalise(np.concatenate([dim, bright]), "MR")
    assert together[0].max() < 0.45
    assert together[1].max() == 1


def test_mr_percentiles_do_not_count_padding_and_do_not_move_with_a_few_hot_pixels():
    rng = np.random.default_rng(2)
    tissue = rng.uniform(100, 200, (1, 100, 100)).astype(np.float32)
    padded = np.zeros((1, 100, 400), dtype=np.float32)
    padded[:, :, :100] = tissue
    padded[0, 0, 0] = 1e6
    scaled = normalise(padded, "MR")[0, 0]
    assert scaled[:, 100:].max() == 0
    assert scaled[:, :100].mean() == pytest.approx(0.5, abs=0.02)


def test_mr_scaling_ignores_the_units():
    image = np.random.default_rng(3).gamma(2, 50, (2, 32, 32)).astype(np.float32)
    np.testing.assert_allclose(normalise(image, "MR"), normalise(image * 7 + 300, "MR"), atol=1e-4)


@pytest.mark.parametrize("level", [0.0, 5.0, -1e5])
@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_a_constant_volume_gives_finite_values(level, modality):
    scaled = normalise(np.full((2, 4, 4), level, dtype=np.float32), modality)
    assert np.isfinite(scaled).all()
    assert np.ptp(scaled) == 0


def test_ct_that_is_not_in_hounsfield_units_keeps_its_contrast():
    windowed = np.linspace(0, 255, 1024, dtype=np.float32).reshape(1, 32, 32)
    scaled = normalise(windowed, "CT")
    assert scaled.min() == 0
    assert scaled.max() == 1
    assert scaled.mean() == pytest.approx(0.5, abs=0.01)
