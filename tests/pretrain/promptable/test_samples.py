"""Crops and regions: what they show, that they repeat, that coarse masks are wrong as an adapter's are."""

import numpy as np
import pytest
from numpy.typing import NDArray

from fewshot_node.pretrain.label_maps import LabelMap, random_label_map
from fewshot_node.pretrain.promptable.samples import CropBatch, crop_batch, random_prompt_settings
from fewshot_node.pretrain.promptable.settings import PromptableSettings
from fewshot_node.vision.prompts import PromptSettings

SETTINGS = PromptableSettings(image_px=64, map_px=128, regions=2)


def batch(seed: int, crops: int = 8) -> CropBatch:
    rng = np.random.default_rng(seed)
    return crop_batch([random_label_map(rng, SETTINGS.map_px) for _ in range(crops)], SETTINGS, rng)


def iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    return float((first & second).sum() / (first | second).sum())


def test_a_batch_is_a_function_of_its_generator() -> None:
    first, again, other = batch(1), batch(1), batch(2)
    assert np.array_equal(first.images, again.images)
    assert all(np.array_equal(a.coarse, b.coarse) for a, b in zip(first.regions, again.regions, strict=True))
    assert not np.array_equal(first.images, other.images)


def test_crops_are_images_on_0_to_1_and_regions_lie_in_them() -> None:
    made = batch(3)
    assert made.images.shape == (8, 1, 64, 64)
    assert 0 <= float(made.images.min()) < float(made.images.max()) <= 1
    assert made.truth.shape == (len(made.regions), 64, 64)
    owners = [region.crop for region in made.regions]
    assert owners == sorted(owners)
    assert set(owners) <= set(range(8))


def test_coarse_masks_are_like_the_truth_but_wrong() -> None:
    overlaps = [iou(region.coarse, region.truth) for seed in range(4) for region in batch(seed).regions]
    assert 0.5 < np.mean(overlaps) < 0.9
    assert max(overlaps) < 1


def test_a_crop_of_one_disc_shows_that_disc(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, columns = np.ogrid[:128, :128]
    disc = ((rows - 40) ** 2 + (columns - 80) ** 2 <= 12**2).astype(np.uint8)
    table = np.arange(64, dtype=np.uint8)
    plain = random_label_map(np.random.default_rng(0), 128)
    table = np.zeros_like(plain.label_of)
    table[1] = 1
    single = LabelMap(np.stack([disc, disc]), table, table)
    found = []
    for seed in range(20):
        made = crop_batch([single], SETTINGS, np.random.default_rng(seed))
        found += [region.truth for region in made.regions if region.truth.mean() < 0.4]
    # A disc stays one however a crop turns: as wide as high, of the area of its width.
    for truth in found:
        rows_seen, columns_seen = np.flatnonzero(truth.any(axis=1)), np.flatnonzero(truth.any(axis=0))
        whole = min(rows_seen[0], columns_seen[0]) > 0 and max(rows_seen[-1], columns_seen[-1]) < 63
        if whole and iou(truth, ~truth) == 0 and truth[rows_seen.mean().astype(int), columns_seen.mean().astype(int)]:
            width = len(columns_seen)
            assert abs(len(rows_seen) - width) <= 2
            assert truth.sum() == pytest.approx(np.pi * (width / 2) ** 2, rel=0.15)
    assert found


def test_prompts_are_those_of_inference() -> None:
    region = batch(5).regions[0]
    points = region.prompt(PromptSettings(strategy="random", points=6))
    assert all(region.coarse[int(y), int(x)] for x, y in points.points_xy)
    assert len(points.positive) == 6
    box = region.prompt(PromptSettings(strategy="box")).box_xyxy
    assert box is not None
    rows, columns = np.nonzero(region.coarse)
    assert box.tolist() == [columns.min(), rows.min(), columns.max(), rows.max()]


def test_every_strategy_is_asked_sooner_or_later() -> None:
    rng = np.random.default_rng(0)
    assert {random_prompt_settings(rng).strategy for _ in range(40)} == {"random", "box", "ours"}
