import pytest

from fewshot_node.vision.grids import input_grid


def test_the_long_side_is_rounded_to_what_encoder_and_stride_can_take():
    grid = input_grid((100, 50), multiple=14, long_side_px=450, stride=4)
    assert grid.resized == (448, 224)
    assert grid.padded == (448, 224)
    assert grid.cells == (112, 56)


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (512, 512), (333, 77), (5, 4000)])
@pytest.mark.parametrize(("multiple", "stride"), [(14, 4), (16, 4), (32, 4), (14, 14), (32, 8)])
def test_every_size_is_a_whole_number_of_steps(shape, multiple, stride):
    grid = input_grid(shape, multiple, 224, stride)
    for resized, padded, cells in zip(grid.resized, grid.padded, grid.cells, strict=True):
        assert resized == cells * stride > 0
        assert padded % multiple == 0
        assert padded % stride == 0
        assert resized <= padded < resized + multiple * stride
