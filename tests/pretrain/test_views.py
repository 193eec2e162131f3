"""Views: correspondences checked against an image of coordinates, read by another library."""

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from fewshot_node.pretrain.views import View, ViewRanges, corresponding_points, look, sample_view_pair

MAP_SIDE, SIDE, BATCH = 120, 64, 6


@pytest.fixture(scope="module")
def pair() -> tuple[View, View]:
    return sample_view_pair(BATCH, MAP_SIDE, SIDE, torch.Generator().manual_seed(4), ViewRanges(flip_probability=0.5))


def coordinate_maps() -> torch.Tensor:
    """Each map pixel holds its own (column + 1, row + 1); zero then means outside."""
    rows, columns = np.mgrid[:MAP_SIDE, :MAP_SIDE].astype(np.float32)
    return torch.from_numpy(np.stack([columns, rows]) + 1).expand(BATCH, 2, MAP_SIDE, MAP_SIDE)


def test_corresponding_points_show_the_same_place(pair: tuple[View, View]) -> None:
    first, second = pair
    places = first.map_coordinates()
    seen_first = look(coordinate_maps(), places, mode="bilinear").numpy()
    seen_second = look(coordinate_maps(), second.map_coordinates(), mode="bilinear").numpy()
    points = torch.randint(0, SIDE, (BATCH, 200, 2), generator=torch.Generator().manual_seed(1))
    found, visible = corresponding_points(points, places, second)
    compared = 0
    for index in range(BATCH):
        for (x, y), (u, v), inside in zip(points[index], found[index], visible[index], strict=True):
            if not inside:
                continue
            here = seen_first[index, :, y, x]
            there = [map_coordinates(seen_second[index, axis], [[v], [u]], order=1)[0] for axis in (0, 1)]
            # Places at the map's rim mix with the outside; an affine view is linear everywhere else.
            if min(here) < 3 or max(here) > MAP_SIDE - 2 or min(there) < 1:
                continue
            assert np.allclose(here, there, atol=2e-2)
            compared += 1
    assert compared > 200


def test_visible_means_inside_the_second_view(pair: tuple[View, View]) -> None:
    points = torch.stack(torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="xy"), -1).view(1, -1, 2)
    found, visible = corresponding_points(points.expand(BATCH, -1, -1), pair[0].map_coordinates(), pair[1])
    inside = (found.amin(-1) >= 0) & (found.amax(-1) <= SIDE - 1)
    assert torch.equal(visible, inside)
    assert 0.2 < visible.float().mean() < 0.95


def test_identity_view_reads_the_map_as_it_is() -> None:
    view = View(torch.eye(2)[None], torch.tensor([[10.0, 20.0]]), None, SIDE)
    maps = torch.arange(MAP_SIDE**2, dtype=torch.float32).view(1, 1, MAP_SIDE, MAP_SIDE)
    assert torch.equal(look(maps, view.map_coordinates()), maps[..., 20 : 20 + SIDE, 10 : 10 + SIDE])


def test_scale_turn_and_flip_stay_in_their_ranges() -> None:
    ranges = ViewRanges(flip_probability=0.25, rotation_rad=0.1)
    first, second = sample_view_pair(400, MAP_SIDE, SIDE, torch.Generator().manual_seed(2), ranges)
    zoom = torch.linalg.det(first.linear).sqrt()
    ratio = torch.linalg.det(second.linear).abs().sqrt() / zoom
    assert ranges.zoom[0] * 0.999 <= zoom.min() < zoom.max() <= ranges.zoom[1] * 1.001
    assert 0.6 * 0.999 <= ratio.min() < 0.75 < 1.3 < ratio.max() <= 1.6 * 1.001
    assert 0.15 < (torch.linalg.det(second.linear) < 0).float().mean() < 0.35
    turn = torch.atan2(first.linear[:, 1, 0], first.linear[:, 0, 0])
    assert 0.08 < turn.std() < 0.12


def test_an_elastic_view_has_no_inverse(pair: tuple[View, View]) -> None:
    with pytest.raises(ValueError, match="no closed-form inverse"):
        pair[0].to_view(torch.zeros(BATCH, 1, 2))
