"""Shapes against distances that can be worked out by hand."""

import numpy as np
import pytest

from fewshot_node.evaluation import shapes as sh


def at(shape: sh.Shape, *points: tuple[float, float, float]) -> list[float]:
    return shape(np.array(points, dtype=np.float32).T).tolist()


def test_a_ball_gives_its_distance() -> None:
    ball = sh.ellipsoid((1, 2, 3), (5, 5, 5))
    assert at(ball, (1, 2, 3), (6, 2, 3), (1, 9, 3), (1, 2, 0)) == pytest.approx([-5, 0, 2, -2], abs=1e-4)


def test_an_egg_keeps_its_poles_and_widens_upwards() -> None:
    egg = sh.ellipsoid((0, 0, 0), (10, 10, 20), taper=0.3)
    assert at(egg, (0, 0, 20), (0, 0, -20), (10, 0, 0)) == pytest.approx([0, 0, 0], abs=1e-4)
    above, below = at(egg, (9, 0, 10), (9, 0, -10))
    assert above < 0 < below


def test_a_capsule_is_round_at_its_ends_and_can_taper() -> None:
    rod = sh.capsule((0, 0, 0), (0, 0, 10), 2)
    assert at(rod, (3, 0, 5), (0, 0, 13), (0, 0, -1)) == pytest.approx([1, 1, -1], abs=1e-4)
    cone = sh.capsule((0, 0, 0), (0, 0, 10), 2, 4)
    assert at(cone, (3, 0, 5), (4, 0, 10)) == pytest.approx([0, 0], abs=1e-4)


def test_a_superellipse_is_endless_along_z() -> None:
    box = sh.superellipse((0, 0), (10, 6), 4)
    assert at(box, (10, 0, 500), (0, -6, -500)) == pytest.approx([0, 0], abs=1e-4)
    corner = at(box, (7.5, 4.5, 0))[0]
    assert corner < 0 < at(sh.superellipse((0, 0), (10, 6), 2), (7.5, 4.5, 0))[0]


def test_half_space_slabs_and_dome_lie_where_they_say() -> None:
    assert at(sh.half_space((0, 2, 0), 3), (0, 5, 0), (9, 1, 9)) == pytest.approx([2, -2])
    slabs = sh.slabs(10, 2, phase=1)
    assert at(slabs, (0, 0, 1), (0, 0, 11), (0, 0, 6), (0, 0, 3)) == pytest.approx([-2, -2, 3, 0], abs=1e-4)
    dome = sh.dome((0, 0, 50), (100, 100))
    below_top, above_top, above_flank = at(dome, (0, 0, 49), (0, 0, 51), (30, 0, 42))
    assert below_top > 0 > max(above_top, above_flank)


def test_set_operations() -> None:
    left, right = sh.ellipsoid((-3, 0, 0), (5, 5, 5)), sh.ellipsoid((3, 0, 0), (5, 5, 5))
    middle, far_left = (0.0, 0.0, 0.0), (-7.0, 0.0, 0.0)
    assert at(sh.union(left, right), middle, far_left) == pytest.approx([-2, -1], abs=1e-4)
    assert at(sh.intersection(left, right), middle, far_left) == pytest.approx([-2, 5], abs=1e-4)
    assert at(sh.difference(left, right), middle, far_left) == pytest.approx([2, -1], abs=1e-4)
    assert at(sh.grown(left, 2), far_left) == pytest.approx([-3], abs=1e-4)
    assert at(sh.shell(left, 2, 0.5), (-6, 0, 0), (-3, 0, 4.9)) == pytest.approx([-0.5, 1.4], abs=1e-4)


def test_a_blend_fills_the_crease_and_nothing_else() -> None:
    left, right = sh.ellipsoid((-4, 0, 0), (5, 5, 5)), sh.ellipsoid((4, 0, 0), (5, 5, 5))
    crease, pole = (0.0, 3.5, 0.0), (-9.0, 0.0, 0.0)
    assert at(sh.union(left, right), crease)[0] > 0 > at(sh.blend(left, right, 4), crease)[0]
    assert at(sh.blend(left, right, 4), pole) == pytest.approx([0], abs=1e-4)


def test_extruded_forgets_height() -> None:
    assert at(sh.extruded(sh.ellipsoid((0, 0, 0), (5, 5, 5))), (5, 0, 80)) == pytest.approx([0], abs=1e-4)


def test_a_remembered_shape_is_computed_once_for_the_same_points() -> None:
    calls = []

    def counted(points: sh.Points) -> sh.Field:
        calls.append(points)
        return points[0]

    shape = sh.remembered(counted)
    first, second = np.zeros((3, 2), np.float32), np.ones((3, 2), np.float32)
    assert shape(first).tolist() == shape(first).tolist() == [0, 0]
    assert shape(second).tolist() == [1, 1]
    assert len(calls) == 2
