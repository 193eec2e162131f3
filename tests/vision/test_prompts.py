import numpy as np

from fewshot_node.records import Localization
from fewshot_node.vision.prompts import random_points


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
