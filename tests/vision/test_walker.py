import numpy as np
import pytest
from scipy import ndimage

from fewshot_node.records import Localization
from fewshot_node.vision.prompts import PromptSettings, place_prompts
from fewshot_node.vision.refine import RefineSettings, intersection_over_union, refine

WALKER = RefineSettings(engine="walker")
ROWS, COLUMNS = np.mgrid[:128, :128]


def disc(row, column, radius, wobble=0.0):
    angle = np.arctan2(ROWS - row, COLUMNS - column)
    return np.hypot(ROWS - row, COLUMNS - column) < radius * (1 + wobble * np.sin(4 * angle))


def scene(noise=5.0):
    """Two organs of their own brightness, and a localization with wavy outlines."""
    true, coarse = np.zeros((128, 128), np.uint8), np.zeros((128, 128), np.uint8)
    image = np.zeros((128, 128))
    for value, place in ((3, (40, 40, 25)), (7, (90, 80, 20))):
        true[disc(*place)] = value
        coarse[disc(*place, wobble=0.15)] = value
        image[disc(*place)] = 40.0 + 10 * value
    image += np.random.default_rng(0).normal(0, noise, image.shape)
    scores = np.stack([coarse[2::4, 2::4] == value for value in (0, 3, 7)])[None] * 6.0
    scores = ndimage.gaussian_filter(scores, (0, 0, 2, 2)).astype(np.float32)
    return image[None].astype(np.float32), true, Localization(coarse[None], scores, (3, 7))


@pytest.mark.parametrize("strategy", ["random", "box", "ours"])
def test_outlines_move_to_the_edges_of_the_image(strategy):
    image, true, found = scene()
    masks = refine(image, "MR", found, place_prompts(found, PromptSettings(strategy)), None, WALKER)
    for value in (3, 7):
        before = intersection_over_union(found.label_map[0] == value, true == value)
        after = intersection_over_union(masks.label_map[0] == value, true == value)
        assert before < 0.85
        assert after > 0.95
        assert (masks.refinement[value].refined, masks.refinement[value].coarse) == (1, 0)


def test_the_answer_repeats():
    image, _, found = scene(noise=40)
    first, second = (refine(image, "MR", found, place_prompts(found), None, WALKER).label_map for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_slices_without_a_label_stay_empty():
    image, _, found = scene()
    empty = np.zeros_like(found.label_map)
    both = Localization(
        np.concatenate([empty, found.label_map]), np.concatenate([found.scores] * 2), found.label_values
    )
    masks = refine(np.concatenate([image] * 2), "MR", both, place_prompts(both), None, WALKER)
    assert not masks.label_map[0].any()
    assert masks.label_map[1].any()


def test_a_flat_image_keeps_the_coarse_masks():
    image, _, found = scene()
    masks = refine(np.zeros_like(image), "MR", found, place_prompts(found), None, WALKER)
    np.testing.assert_array_equal(masks.label_map, found.label_map)


@pytest.mark.parametrize("places", [(slice(60, 61), slice(60, 61)), (slice(0, 128), slice(0, 128))])
def test_one_pixel_and_a_whole_slice_are_no_error(places):
    image, _, _ = scene()
    label_map = np.zeros((1, 128, 128), np.uint8)
    label_map[0][places] = 3
    found = Localization(label_map, np.zeros((1, 2, 4, 4), np.float32), (3,))
    masks = refine(image, "MR", found, place_prompts(found, PromptSettings("ours")), None, WALKER)
    assert (masks.label_map[label_map > 0] == 3).any()


def test_negative_points_hold_the_walker_back():
    """Both halves of a bright bar are alike; only a prompt says that the right one is not meant."""
    image = np.where((ROWS > 50) & (ROWS < 70), 100.0, 0.0)[None].astype(np.float32)
    image += np.random.default_rng(1).normal(0, 1, image.shape).astype(np.float32)
    coarse = ((ROWS > 50) & (ROWS < 70) & (COLUMNS < 60)).astype(np.uint8)[None]
    found = Localization(coarse, np.zeros((1, 2, 4, 4), np.float32), (1,))
    (asked,) = place_prompts(found)
    masks = refine(image, "MR", found, [asked], None, WALKER).label_map[0]
    points = np.array([[57, row] for row in range(51, 70)], dtype=np.float32)
    held = type(asked)(
        0, 1, np.concatenate([asked.points_xy, points]), np.r_[asked.positive, [False] * len(points)], asked.coarse_mask
    )
    stopped = refine(image, "MR", found, [held], None, WALKER).label_map[0]
    assert masks[51:70, 57:60].any()
    assert not stopped[51:70, 57:60].any()
    assert stopped[60, 30] == 1


def test_where_the_image_shows_another_edge_the_adapter_is_heard_too():
    """Within an organ of faint outline lies a bright part: its edge must not become the organ's."""
    organ, bright = disc(64, 64, 30), disc(64, 64, 22)
    image = np.random.default_rng(0).normal(0, 2, (1, 128, 128)) + 4.0 * organ + 100.0 * bright
    soft = ndimage.gaussian_filter(np.where(organ, 6.0, -6.0)[2::4, 2::4], 0.7)
    scores = np.stack([np.zeros_like(soft), soft])[None].astype(np.float32)
    found = Localization(organ[None].astype(np.uint8) * 3, scores, (3,))
    masks = refine(image.astype(np.float32), "MR", found, place_prompts(found, PromptSettings("ours")), None, WALKER)
    assert intersection_over_union(masks.label_map[0] == 3, organ) > 0.85
