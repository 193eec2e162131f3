import numpy as np
import pytest

from fewshot_node.errors import TaskError
from fewshot_node.tasks.augment import AugmentSettings, Pose, draw_poses, vary_images, vary_labels


def blob(shape: tuple[int, int] = (64, 80)) -> tuple[np.ndarray, np.ndarray]:
    labels = np.zeros((3, *shape), dtype=np.uint8)
    labels[:, 20:40, 30:50] = 7
    return np.where(labels == 7, 500, -500).astype(np.float32), labels


def test_image_and_labels_move_together() -> None:
    images, labels = blob()
    rng = np.random.default_rng(1)
    poses = draw_poses(3, (64, 80), rng)
    moved_images, moved_labels = vary_images(images, "CT", poses, rng), vary_labels(labels, poses)
    assert set(np.unique(moved_labels)) == {0, 7}
    assert moved_images.dtype == np.float32
    agree = ((moved_images > 0) == (moved_labels == 7)).mean()
    assert agree > 0.99
    assert (moved_labels != labels).any()


def test_identity_pose_changes_nothing() -> None:
    _, labels = blob()
    identity = Pose(np.eye(2), np.zeros(2))
    np.testing.assert_array_equal(vary_labels(labels, [identity] * 3), labels)


def test_ct_keeps_its_units_and_mr_does_not() -> None:
    images, labels = blob()
    poses = [Pose(np.eye(2), np.zeros(2))] * 3
    ct = vary_images(images, "CT", poses, np.random.default_rng(2))
    mr = vary_images(images, "MR", poses, np.random.default_rng(2))
    assert abs(ct[labels == 7].mean() - 500) < 2
    assert abs(mr[labels == 7].mean() - 500) > 5


def test_same_seed_gives_the_same_variant() -> None:
    images, _ = blob()

    def once() -> np.ndarray:
        rng = np.random.default_rng(3)
        return vary_images(images, "MR", draw_poses(3, (64, 80), rng), rng)

    np.testing.assert_array_equal(once(), once())


def test_flat_slice_stays_finite() -> None:
    flat = np.full((1, 16, 16), 5.0, dtype=np.float32)
    rng = np.random.default_rng(0)
    assert np.isfinite(vary_images(flat, "MR", draw_poses(1, (16, 16), rng), rng)).all()


def test_negative_count_is_refused() -> None:
    with pytest.raises(TaskError, match=r"augment\.count"):
        AugmentSettings(count=-1)
