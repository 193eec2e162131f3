import numpy as np
import pytest

from fewshot_node.errors import TaskError
from fewshot_node.tasks.augment import AugmentSettings, at_working_size, vary

LEVELS = (-500.0, 500.0)


def blob(shape: tuple[int, int] = (64, 80)) -> tuple[np.ndarray, np.ndarray]:
    labels = np.zeros((3, *shape), dtype=np.uint8)
    labels[:, 20:40, 30:50] = 7
    return np.where(labels == 7, 500, -500).astype(np.float32), labels


def test_image_and_labels_move_together() -> None:
    images, labels = blob()
    moved_images, moved_labels = vary(images, labels, LEVELS, seed=1)
    assert set(np.unique(moved_labels)) == {0, 7}
    assert moved_images.dtype == np.float32
    assert ((moved_images > 0) == (moved_labels == 7)).mean() > 0.98
    assert (moved_labels != labels).any(axis=(1, 2)).all()


def test_slices_get_poses_of_their_own() -> None:
    _, labels = vary(*blob(), LEVELS, seed=1)
    assert (labels[0] != labels[1]).any()
    assert (labels[1] != labels[2]).any()


def test_a_rotation_keeps_shapes_in_a_wide_image() -> None:
    # Were the aspect forgotten, a turned square would become a rhomb and lose or gain area.
    images, labels = blob((40, 160))
    labels[:] = 0
    labels[:, 10:30, 70:90] = 7
    areas = [(vary(images, labels, LEVELS, seed)[1] == 7).sum(axis=(1, 2)) for seed in range(20)]
    assert 0.9 < np.median(areas) / 400 < 1.1


def test_ct_keeps_its_contrast_and_mr_does_not() -> None:
    # Three bands at equal steps of intensity: a gamma makes the steps differ.
    bands = np.repeat(np.array([1, 2, 3], dtype=np.uint8), 32)
    label_map = np.tile(bands[:, None], (40, 1, 96))
    images = 250 * label_map.astype(np.float32) - 500

    def unevenness(keep_contrast: bool) -> float:
        varied, labels = vary(images, label_map, LEVELS, 2, keep_contrast=keep_contrast)
        first, second, third = (
            np.array([np.median(image[own == band]) for image, own in zip(varied, labels, strict=True)])
            for band in (1, 2, 3)
        )
        return float(np.median(np.abs(np.log((third - second) / (second - first)))))

    assert unevenness(keep_contrast=True) < 0.9 * unevenness(keep_contrast=False)


def test_same_seed_gives_the_same_variant() -> None:
    first, second, other = (vary(*blob(), LEVELS, seed)[0] for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()


def test_flat_slice_stays_finite() -> None:
    flat = np.full((1, 16, 16), 5.0, dtype=np.float32)
    assert np.isfinite(vary(flat, np.zeros(flat.shape, dtype=np.uint8), (5.0, 5.0), 0)[0]).all()


def test_working_size_keeps_aspect_and_labels() -> None:
    images, labels = at_working_size(*blob((64, 80)), 40, outside=-500.0)
    assert images.shape == labels.shape == (3, 40, 40)
    assert set(np.unique(labels)) == {0, 7}
    assert (labels == 7).sum() == 3 * 100
    # 32 rows of image lie in the middle of 40.
    assert (images[:, :4] == -500).all()
    assert (images[:, 36:] == -500).all()
    rows, columns = np.nonzero(labels[0])
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (14, 23, 15, 24)


def test_many_annotated_slices_get_fewer_variants() -> None:
    counts = [AugmentSettings(count=40).count_for(slices, "contrastive") for slices in (1, 5, 60, 1000)]
    assert counts == [40, 40, 4, 1]
    assert AugmentSettings(count=0).count_for(5, "context") == 0


def test_the_adapter_says_how_many_variants_it_needs() -> None:
    usual = AugmentSettings()
    assert usual.count_for(5, "context") > usual.count_for(5, "contrastive") == 1


def test_negative_count_is_refused() -> None:
    with pytest.raises(TaskError, match=r"augment\.count"):
        AugmentSettings(count=-1)
