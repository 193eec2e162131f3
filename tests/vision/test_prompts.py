import numpy as np
import pytest

from fewshot_node.errors import TaskError
from fewshot_node.records import Localization
from fewshot_node.vision.prompts import PromptSettings, place_prompts, random_points


def localization():
    label_map = np.zeros((4, 20, 30), dtype=np.uint8)
    label_map[1, 2:12, 3:9] = 5
    label_map[1, 15:18, 20:21] = 9
    label_map[3, 5:15, 5:25] = 9
    return Localization(label_map, np.zeros((4, 3, 5, 8), dtype=np.float32), (5, 9))


def test_prompts_lie_on_their_label_and_only_where_it_fired():
    found = localization()
    prompts = random_points(found)
    assert [(p.slice_index, p.label_value) for p in prompts] == [(1, 5), (1, 9), (3, 9)]
    for prompt in prompts:
        columns, rows = prompt.points_xy.astype(int).T
        assert (found.label_map[prompt.slice_index, rows, columns] == prompt.label_value).all()
        np.testing.assert_array_equal(prompt.coarse_mask, found.label_map[prompt.slice_index] == prompt.label_value)
        assert prompt.positive.all()
        assert len(np.unique(prompt.points_xy, axis=0)) == len(prompt.points_xy)


def test_ten_points_or_all_there_are():
    assert [len(p.points_xy) for p in random_points(localization())] == [10, 3, 10]
    assert [len(p.points_xy) for p in random_points(localization(), count=2)] == [2, 2, 2]


def test_a_draw_does_not_depend_on_other_slices_or_labels():
    whole = {(p.slice_index, p.label_value): p.points_xy for p in random_points(localization(), seed=3)}
    alone = localization()
    alone.label_map[1] = 0
    (only,) = random_points(alone, seed=3)
    np.testing.assert_array_equal(only.points_xy, whole[3, 9])


def test_seeds_differ_and_repeat():
    first, again, other = (random_points(localization(), seed=seed)[0].points_xy for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_nothing_found_is_no_prompt():
    empty = Localization(np.zeros((2, 4, 4), np.uint8), np.zeros((2, 2, 1, 1), np.float32), (1,))
    assert random_points(empty) == ()


def blob(shape=(64, 64), centre=(30, 34), radius=10, value=2, others=()):
    """A disc of label 2 whose scores fall with the distance; `others` are further label values."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    distance = np.hypot(rows - centre[0], columns - centre[1])
    label_map = np.where(distance < radius, value, 0).astype(np.uint8)[None]
    scores = np.zeros((1, 2 + len(others), shape[0] // 4, shape[1] // 4), dtype=np.float32)
    scores[0, 1] = (radius - distance).reshape(shape[0] // 4, 4, shape[1] // 4, 4).mean(axis=(1, 3)) / 10
    return Localization(label_map, scores, (value, *others)), distance


def test_a_box_holds_the_outermost_pixels_and_no_point():
    (first, *_) = place_prompts(localization(), PromptSettings("box"))
    np.testing.assert_array_equal(first.box_xyxy, [3, 2, 8, 11])
    assert first.points_xy.shape == (0, 2)
    assert first.mask_logits is None


def test_ours_places_positives_inside_and_negatives_on_a_ring():
    found, distance = blob()
    (asked,) = place_prompts(found, PromptSettings("ours", points=4, negatives=3))
    columns, rows = asked.points_xy.astype(int).T
    assert asked.positive.tolist() == [True] * 4 + [False] * 3
    assert (distance[rows[:4], columns[:4]] <= 0.7 * 10).all()
    assert ((distance[rows[4:], columns[4:]] > 11) & (distance[rows[4:], columns[4:]] < 20)).all()
    assert distance[rows[0], columns[0]] < 1.5
    apart = np.linalg.norm(asked.points_xy[:4, None] - asked.points_xy[None, :4], axis=-1)[np.triu_indices(4, 1)]
    assert apart.min() > 4


def test_ours_has_no_negative_where_the_adapter_is_not_sure():
    found, _ = blob()
    found.scores[0, 0] = -10
    (asked,) = place_prompts(found, PromptSettings("ours"))
    assert asked.positive.all()


def test_negatives_of_a_label_may_lie_on_another_label():
    found, _ = blob(others=(9,))
    found.scores[0, [0, 2]] = -10  # background is ruled out everywhere
    found.scores[0, 2, :, :5] = 20  # the other label is sure at the left edge
    (asked,) = place_prompts(found, PromptSettings("ours", negatives=2))
    negatives = asked.points_xy[~asked.positive]
    assert len(negatives) == 2
    assert (negatives[:, 0] < 24).all()


def test_mask_logits_have_the_sign_of_the_scores_and_a_scale_of_their_own():
    found, _ = blob()
    (weak,) = place_prompts(found, PromptSettings("ours"))
    strong = Localization(found.label_map, found.scores * 50, found.label_values)
    (same,) = place_prompts(strong, PromptSettings("ours"))
    np.testing.assert_allclose(weak.mask_logits, same.mask_logits, atol=1e-4)
    assert 5 < np.abs(weak.mask_logits).max() <= 10
    near = np.s_[4:12, 5:13]
    np.testing.assert_array_equal(weak.mask_logits[near] > 0, found.scores[0, 1][near] > 0)
    (without,) = place_prompts(found, PromptSettings("ours", mask_input=False))
    assert without.mask_logits is None


def test_components_are_asked_about_one_by_one():
    found, _ = blob()
    found.label_map[0, 60:63, 2:6] = 2
    asked = list(place_prompts(found, PromptSettings("ours")))
    assert sorted(int(one.coarse_mask.sum()) for one in asked) == [12, int((found.label_map == 2).sum()) - 12]
    small = min(asked, key=lambda one: one.coarse_mask.sum())
    np.testing.assert_array_equal(small.box_xyxy, [2, 60, 5, 62])
    assert (small.mask_logits[4:10, 6:11] == -10).all()
    (together,) = place_prompts(found, PromptSettings("ours", per_component=False))
    assert together.coarse_mask.sum() == (found.label_map == 2).sum()


@pytest.mark.parametrize("strategy", ["random", "box", "ours"])
def test_draws_differ_repeat_and_begin_with_the_only_one(strategy):
    found, _ = blob()
    (only,) = place_prompts(found, PromptSettings(strategy))
    first, second = place_prompts(found, PromptSettings(strategy, draws=2))
    _, again = place_prompts(found, PromptSettings(strategy, draws=2))
    assert (first.draw, second.draw) == (0, 1)
    for one, other in ((only, first), (second, again)):
        np.testing.assert_array_equal(one.points_xy, other.points_xy)
        np.testing.assert_array_equal(one.box_xyxy, other.box_xyxy)
    if strategy == "box":
        assert not np.array_equal(first.box_xyxy, second.box_xyxy)
    else:
        assert not np.array_equal(first.points_xy, second.points_xy)


@pytest.mark.parametrize("strategy", ["random", "box", "ours"])
@pytest.mark.parametrize("place", [np.s_[0, 0], np.s_[5, :], np.s_[:, :]])
def test_a_pixel_a_line_and_a_whole_slice_have_prompts_within_the_slice(strategy, place):
    label_map = np.zeros((1, 16, 20), np.uint8)
    label_map[0][place] = 1
    found = Localization(label_map, np.zeros((1, 2, 4, 5), np.float32), (1,))
    for asked in place_prompts(found, PromptSettings(strategy, draws=3)):
        places = np.concatenate(
            [asked.points_xy, (asked.box_xyxy if strategy != "random" else np.zeros(4)).reshape(2, 2)]
        )
        assert (places >= 0).all()
        assert (places <= [19, 15]).all()


def test_prompts_are_made_when_asked_for():
    found = localization()
    stream = place_prompts(found)
    assert next(stream).slice_index == 1
    found.label_map[3] = 0
    assert [asked.label_value for asked in stream] == [9]


@pytest.mark.parametrize(
    "wrong", [{"strategy": "circle"}, {"points": 0}, {"negatives": -1}, {"draws": 0}, {"draws": 33}, {"seed": -1}]
)
def test_impossible_prompt_settings_are_refused_by_key_with_the_remedy(wrong):
    with pytest.raises(TaskError, match=r"refine\.prompts\.\w+.*; give "):
        PromptSettings(**wrong)
