"""Two views of one label map, related by a known geometry.

The first view is elastic, the second affine: so the point of the second that shows the same place as a point
of the first has a closed form. Points and coordinates are ``(x, y)`` in pixels, pixel centres at whole
numbers.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class ViewRanges:
    """How far views differ.

    Attributes
    ----------
    zoom
        Map pixels per view pixel of the first view, lowest and highest.
    scale
        Relative scale of the second view, lowest and highest.
    rotation_rad
        Standard deviation of each view's rotation.
    offset
        Largest distance of the two centres, as a part of the view's width.
    flip_probability
        Chance that the second view is mirrored.
    elastic_px
        Standard deviation of the first view's elastic displacement, in map pixels.
    """

    zoom: tuple[float, float] = (0.65, 1.67)
    scale: tuple[float, float] = (0.6, 1.6)
    rotation_rad: float = 0.2
    offset: float = 0.3
    flip_probability: float = 0.05
    elastic_px: float = 4.0


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A batch of views: view pixel ``p`` shows map place ``linear @ p + shift + displacement[p]``.

    Attributes
    ----------
    linear, shift
        Float ``(B, 2, 2)`` and ``(B, 2)``, to map pixels.
    displacement
        Float ``(B, 2, side, side)`` in map pixels, or None for an affine view.
    side
        Height and width of the view in pixels.
    """

    linear: Tensor
    shift: Tensor
    displacement: Tensor | None
    side: int

    def map_coordinates(self) -> Tensor:
        """Return the map place of every view pixel, float ``(B, side, side, 2)``."""
        axis = torch.arange(self.side, dtype=torch.float32)
        pixels = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1)
        places: Tensor = torch.einsum("bij,hwj->bhwi", self.linear, pixels) + self.shift[:, None, None, :]
        return places if self.displacement is None else places + self.displacement.permute(0, 2, 3, 1)

    def to_view(self, places: Tensor) -> Tensor:
        """Return the points that show the map ``places``, both ``(B, N, 2)``; affine views only."""
        if self.displacement is not None:
            raise ValueError("an elastic view has no closed-form inverse; take the affine view of the pair")
        inverse = torch.linalg.inv(self.linear)
        return torch.einsum("bij,bnj->bni", inverse, places - self.shift[:, None, :])


def _uniform(generator: torch.Generator, count: int, low: float, high: float) -> Tensor:
    return low + (high - low) * torch.rand(count, generator=generator)


def _log_uniform(generator: torch.Generator, count: int, low: float, high: float) -> Tensor:
    bounds = torch.tensor([low, high]).log()
    return _uniform(generator, count, float(bounds[0]), float(bounds[1])).exp()


def _affine(zoom: Tensor, angle: Tensor, flip: Tensor, centre: Tensor, side: int) -> tuple[Tensor, Tensor]:
    cosine, sine = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    linear = torch.stack([torch.stack([cosine * flip, -sine], -1), torch.stack([sine * flip, cosine], -1)], -2)
    middle = torch.full((2,), (side - 1) / 2)
    return linear, centre - linear @ middle


def sample_view_pair(
    batch: int, map_side: int, side: int, generator: torch.Generator, ranges: ViewRanges | None = None
) -> tuple[View, View]:
    """Draw the geometry of ``batch`` view pairs: the first elastic, the second affine."""
    ranges = ranges or ViewRanges()
    zoom = _log_uniform(generator, batch, *ranges.zoom)
    # A view that covers most of the map stays near its centre, a close-up may look anywhere.
    slack = (map_side - side * zoom).clamp(min=0)[:, None] / 2
    centre = map_side / 2 + 0.8 * slack * (2 * torch.rand(batch, 2, generator=generator) - 1)
    turn = ranges.rotation_rad * torch.randn(batch, 2, generator=generator)
    upright = torch.ones(batch)
    linear, shift = _affine(zoom, turn[:, 0], upright, centre, side)
    nodes = torch.randn(batch, 2, 6, 6, generator=generator) * ranges.elastic_px
    elastic = functional.interpolate(nodes, size=(side, side), mode="bicubic", align_corners=True)
    other_zoom = zoom * _log_uniform(generator, batch, *ranges.scale)
    move = ranges.offset * side * zoom[:, None] * (2 * torch.rand(batch, 2, generator=generator) - 1)
    flip = 1 - 2 * (torch.rand(batch, generator=generator) < ranges.flip_probability).float()
    other_linear, other_shift = _affine(other_zoom, turn[:, 1], flip, centre + move, side)
    return View(linear, shift, elastic, side), View(other_linear, other_shift, None, side)


def look(maps: Tensor, places: Tensor, mode: str = "nearest") -> Tensor:
    """Read ``maps`` ``(B, C, S, S)`` at map ``places`` ``(B, h, w, 2)``; zero outside the map."""
    grid = places * (2 / (maps.shape[-1] - 1)) - 1
    return functional.grid_sample(maps, grid, mode=mode, padding_mode="zeros", align_corners=True)


def corresponding_points(points: Tensor, places: Tensor, target: View) -> tuple[Tensor, Tensor]:
    """Find where ``target`` shows what whole-pixel ``points`` of another view show.

    Parameters
    ----------
    points
        int64 ``(B, N, 2)``, ``(x, y)`` in the first view.
    places
        The first view's map coordinates, float ``(B, side, side, 2)``.
    target
        The affine view.

    Returns
    -------
    points, visible
        Float ``(B, N, 2)`` in the target and bool ``(B, N)``: inside the target's frame.
    """
    rows = torch.arange(len(points))[:, None]
    found = target.to_view(places[rows, points[..., 1], points[..., 0]])
    visible = ((found >= 0) & (found <= target.side - 1)).all(dim=-1)
    return found, visible
