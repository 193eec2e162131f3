"""How a slice of any size lies on an encoder's input and on the grid of its features."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class InputGrid:
    """Sizes, each (height, width): the resized slice, the padded one, and the features that cover the slice."""

    resized: tuple[int, int]
    padded: tuple[int, int]
    cells: tuple[int, int]


def input_grid(image_shape: tuple[int, int], multiple: int, long_side_px: int, stride: int) -> InputGrid:
    """Lay out the encoder's input so that the features cover (rows, columns) edge to edge.

    The long side is rounded to what encoder and stride can take. The short side is rounded to the stride,
    which bends the aspect by less than half a cell.
    """
    step = math.lcm(multiple, stride)
    long_side = max(1, round(long_side_px / step)) * step
    scale = long_side / max(image_shape)
    resized = [max(1, round(side * scale / stride)) * stride for side in image_shape]
    padded = [math.ceil(side / step) * step for side in resized]
    cells = [side // stride for side in resized]
    return InputGrid((resized[0], resized[1]), (padded[0], padded[1]), (cells[0], cells[1]))
