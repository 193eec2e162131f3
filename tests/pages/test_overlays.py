"""Overlay pictures: they open, show what was found, and hold nothing else."""

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewshot_node.errors import GeometryError
from fewshot_node.evaluation.phantoms import Phantom
from fewshot_node.pages.overlays import SheetSettings, overlay_png, write_overlay
from fewshot_node.records import Volume

Convert = Callable[[Phantom], Volume]


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def coloured(picture: np.ndarray) -> int:
    """How many pixels are clearly not grey."""
    return int((picture.max(axis=2) - picture.min(axis=2) > 60).sum())


def test_a_sheet_shows_image_contours_and_legend(small_torso: Phantom, as_volume: Convert, tmp_path: Path) -> None:
    path = tmp_path / "new" / "torso.png"
    write_overlay(path, as_volume(small_torso), small_torso.label_map, small_torso.labels)
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.info == {}  # no text chunk, no EXIF
        assert image.size[0] == 3 * 250  # 80 of 96 pixels wide: 300 px tall tiles, three in a row
        assert image.size[1] > 2 * 300
    picture = pixels(path.read_bytes())
    assert picture[:600].std() > 20
    assert coloured(picture[:600]) > 1000
    assert coloured(picture[600:]) > 4 * 100  # one box a label


def test_nothing_found_is_a_picture_too(small_torso: Phantom, as_volume: Convert) -> None:
    volume = as_volume(small_torso)
    empty = np.zeros_like(small_torso.label_map)
    picture = pixels(overlay_png(volume, empty, {1: "liver"}))
    assert coloured(picture[:600]) == 0
    assert picture[:600].std() > 20
    assert (picture[600:] != pixels(overlay_png(volume, small_torso.label_map, {1: "liver"}))[600:]).any()


def test_the_truth_is_drawn_besides_the_result(small_torso: Phantom, as_volume: Convert) -> None:
    volume, labels = as_volume(small_torso), small_torso.labels
    alone = overlay_png(volume, small_torso.label_map, labels)
    both = overlay_png(volume, small_torso.label_map, labels, truth=small_torso.label_map)
    assert (pixels(alone)[:600] != pixels(both)[:600]).any()


def test_only_slices_with_something_to_see_are_shown(small_torso: Phantom, as_volume: Convert) -> None:
    one = np.zeros_like(small_torso.label_map)
    one[9, 40:50, 30:40] = 1
    picture = pixels(overlay_png(as_volume(small_torso), one, {1: "cyst"}))
    assert picture.shape[1] == 250
    rows, columns = np.nonzero((picture.max(axis=2) - picture.min(axis=2) > 60)[:300])
    scale = 300 / 96
    assert rows.min() == pytest.approx(40 * scale, abs=3)
    assert rows.max() == pytest.approx(50 * scale, abs=3)
    assert columns.min() == pytest.approx(30 * scale, abs=3)
    assert columns.max() == pytest.approx(40 * scale, abs=3)


def test_points_are_marked_on_their_own_slice(small_knee: Phantom, as_volume: Convert) -> None:
    volume = as_volume(small_knee)
    picture = pixels(overlay_png(volume, {1: (6.8, 20.0, 10.0)}, {1: "KPB", 2: "KAL"}))
    rows, columns = np.nonzero((picture.max(axis=2) - picture.min(axis=2) > 60)[:300])
    scale = 300 / 80
    assert picture.shape[1] == round(72 * scale)
    assert rows.mean() == pytest.approx(20.5 * scale, abs=1.5)
    assert columns.mean() == pytest.approx(10.5 * scale, abs=1.5)
    truth = overlay_png(volume, {}, {1: "KPB"}, truth={1: (2.0, 20.0, 10.0)})
    assert coloured(pixels(truth)[:300]) > 10


def test_points_outside_the_stack_are_drawn_on_its_last_slice(small_knee: Phantom, as_volume: Convert) -> None:
    picture = pixels(overlay_png(as_volume(small_knee), {1: (13.6, 20.0, 10.0)}, {1: "KPB"}))
    assert coloured(picture[:300]) > 10


def test_many_labels_wrap_in_the_legend(small_torso: Phantom, as_volume: Convert) -> None:
    names = {value: f"structure number {value}" for value in range(1, 31)}
    short = pixels(overlay_png(as_volume(small_torso), small_torso.label_map, {1: "liver"}))
    long = pixels(overlay_png(as_volume(small_torso), small_torso.label_map, names))
    assert long.shape[1] == short.shape[1]
    assert long.shape[0] > short.shape[0] + 100


def test_number_of_slices_and_size_can_be_chosen(small_torso: Phantom, as_volume: Convert) -> None:
    settings = SheetSettings(max_slices=2, columns=2, tile_px=96)
    picture = pixels(overlay_png(as_volume(small_torso), small_torso.label_map, small_torso.labels, settings=settings))
    assert picture.shape[1] == 2 * 80


def test_pixels_that_are_not_square_become_square_millimetres(small_torso: Phantom, as_volume: Convert) -> None:
    volume = as_volume(small_torso)
    affine = volume.affine.copy()
    affine[:3, 2] /= 2  # columns half as far apart
    thin = dataclasses.replace(volume, affine=affine)
    one = np.zeros_like(small_torso.label_map)
    one[9, 40:50, 30:40] = 1
    assert pixels(overlay_png(thin, one, {1: "cyst"})).shape[1] == 125


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_a_constant_image_is_no_problem(modality: str, small_torso: Phantom, as_volume: Convert) -> None:
    flat = dataclasses.replace(as_volume(small_torso), array=np.zeros_like(small_torso.array), modality=modality)
    assert pixels(overlay_png(flat, small_torso.label_map, {1: "liver"})).std() > 0


def test_labels_on_another_grid_are_refused(small_torso: Phantom, as_volume: Convert) -> None:
    with pytest.raises(GeometryError, match=r"grid of \(20, 96, 80\), the label map to draw one of \(19, 96, 80\)"):
        overlay_png(as_volume(small_torso), small_torso.label_map[:-1], {1: "liver"})
