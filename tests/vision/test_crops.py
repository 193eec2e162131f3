import numpy as np
import pytest

from fewshot_node.vision.refine.crops import Box, plan_crops

SHAPE = (200, 300)


def mask(top, bottom, left, right, shape=SHAPE):
    drawn = np.zeros(shape, dtype=bool)
    drawn[top:bottom, left:right] = True
    return drawn


def holds(crop, drawn):
    cut = drawn.copy()
    cut[crop.part] = False
    return not cut.any()


def test_one_region_lies_in_the_middle_of_a_square():
    ((crop, members),) = plan_crops([mask(80, 120, 100, 180)], SHAPE, 0.25)
    assert members == [0]
    assert crop == Box(40, 80, 160, 200)


def test_a_small_region_is_still_shown_with_its_surroundings():
    ((crop, _),) = plan_crops([mask(100, 102, 100, 102)], SHAPE, 0.5)
    assert (crop.bottom - crop.top, crop.right - crop.left) == (75, 75)


def test_a_crop_at_the_edge_moves_into_the_slice():
    ((crop, _),) = plan_crops([mask(0, 60, 0, 60)], SHAPE, 0.5)
    assert crop == Box(0, 0, 120, 120)


def test_a_crop_larger_than_the_slice_is_the_slice():
    ((crop, _),) = plan_crops([mask(10, 190, 10, 290)], SHAPE, 1.0)
    assert crop == Box(0, 0, *SHAPE)


def test_regions_far_apart_have_crops_of_their_own_and_near_ones_share():
    far = [mask(5, 25, 5, 25), mask(170, 190, 270, 290), mask(5, 25, 27, 45)]
    planned = plan_crops(far, SHAPE, 0.5)
    assert sorted(sorted(members) for _, members in planned) == [[0, 2], [1]]


def test_the_same_mask_given_twice_is_one_crop():
    ((_, members),) = plan_crops([mask(5, 25, 5, 25)] * 3, SHAPE, 0.5)
    assert members == [0, 1, 2]


@pytest.mark.parametrize("seed", range(5))
def test_every_mask_lies_in_exactly_one_crop_within_the_slice(seed):
    rng = np.random.default_rng(seed)
    masks = []
    for _ in range(12):
        top, left = rng.integers(0, 180), rng.integers(0, 280)
        masks.append(mask(top, top + rng.integers(1, 20), left, left + rng.integers(1, 20)))
    planned = plan_crops(masks, SHAPE, 0.5)
    assert sorted(index for _, members in planned for index in members) == list(range(12))
    for crop, members in planned:
        assert 0 <= crop.top < crop.bottom <= SHAPE[0]
        assert 0 <= crop.left < crop.right <= SHAPE[1]
        assert all(holds(crop, masks[index]) for index in members)
