import json

import numpy as np
import pytest
import torch

from fewshot_node.errors import CheckpointError, ConfigurationError, TaskError
from fewshot_node.records import Localization
from fewshot_node.vision.prompts import random_points
from fewshot_node.vision.refine import RefineSettings, intersection_over_union, load_sam, refine
from fewshot_node.vision.sam import EmbeddedImage

SAM = RefineSettings(engine="sam", iou_gate=0.5)


class Echo:
    """An engine that answers with given masks, and keeps what it was asked."""

    def __init__(self, *answers):
        self.answers, self.images, self.asked = answers, [], []

    def embed(self, image):
        self.images.append(image)
        return EmbeddedImage(torch.zeros(1), image.shape[1:], image.shape[1:])

    def segment(self, image, points_xy, positive, *, multimask):
        self.asked.append(points_xy)
        return np.stack([np.stack(self.answers)] * len(points_xy))


def localization(label_map, values=(1,), scores=None):
    label_map = np.asarray(label_map, dtype=np.uint8)
    if scores is None:
        scores = np.zeros((len(label_map), len(values) + 1, 4, 4), dtype=np.float32)
    return Localization(label_map, scores, values)


def box(*bounds, shape=(32, 32)):
    mask = np.zeros(shape, dtype=bool)
    top, bottom, left, right = bounds
    mask[top:bottom, left:right] = True
    return mask


IMAGE = np.random.default_rng(0).normal(0, 100, (2, 32, 32)).astype(np.float32)


def test_none_gives_the_coarse_map_back_and_counts_it():
    found = localization([box(0, 0, 0, 0), box(4, 12, 4, 12)])
    masks = refine(IMAGE, "CT", found, random_points(found), None, RefineSettings())
    np.testing.assert_array_equal(masks.label_map, found.label_map)
    assert (masks.refinement[1].refined, masks.refinement[1].coarse) == (0, 1)


def test_an_agreeing_mask_is_kept():
    found = localization([box(0, 0, 0, 0), box(4, 12, 4, 12)])
    better = box(4, 13, 4, 13)
    masks = refine(IMAGE, "CT", found, random_points(found), Echo(better), SAM)
    np.testing.assert_array_equal(masks.label_map[1] == 1, better)
    assert not masks.label_map[0].any()
    assert (masks.refinement[1].refined, masks.refinement[1].coarse) == (1, 0)


def test_a_disagreeing_or_empty_mask_leaves_the_coarse_one():
    found = localization([box(0, 0, 0, 0), box(4, 12, 4, 12)])
    for answer in (box(16, 30, 16, 30), box(0, 0, 0, 0), box(0, 32, 0, 32)):
        masks = refine(IMAGE, "CT", found, random_points(found), Echo(answer), SAM)
        np.testing.assert_array_equal(masks.label_map, found.label_map)
        assert (masks.refinement[1].refined, masks.refinement[1].coarse) == (0, 1)


def test_an_open_gate_does_not_let_an_unrelated_mask_in():
    found = localization([box(4, 12, 4, 12)])
    masks = refine(
        IMAGE[:1], "CT", found, random_points(found), Echo(box(20, 30, 20, 30)), RefineSettings("sam", iou_gate=0)
    )
    np.testing.assert_array_equal(masks.label_map, found.label_map)


def test_of_several_masks_the_best_agreeing_one_is_taken():
    found = localization([box(4, 12, 4, 12)])
    masks = refine(IMAGE[:1], "CT", found, random_points(found), Echo(box(0, 16, 0, 16), box(4, 12, 4, 13)), SAM)
    np.testing.assert_array_equal(masks.label_map[0] == 1, box(4, 12, 4, 13))


def test_a_contested_pixel_goes_to_the_higher_score():
    label_map = np.where(box(4, 12, 4, 12), 1, 0) + np.where(box(4, 12, 12, 20), 2, 0)
    scores = np.zeros((1, 3, 4, 4), dtype=np.float32)
    scores[0, 2] = 1.0
    found = localization([label_map], (1, 2), scores)
    union = box(4, 12, 4, 20)
    masks = refine(IMAGE[:1], "CT", found, random_points(found), Echo(union), SAM)
    assert (masks.label_map[0][union] == 2).all()


def test_one_embedding_a_slice_and_only_where_the_adapter_fired():
    first = np.where(box(4, 12, 4, 12), 1, 0) + np.where(box(20, 22, 20, 21), 2, 0)
    found = localization([first, np.zeros((32, 32))], (1, 2))
    engine = Echo(box(4, 12, 4, 12))
    refine(IMAGE, "CT", found, random_points(found), engine, SAM)
    assert len(engine.images) == 1
    assert engine.images[0].shape == (3, 32, 32)
    assert sorted(asked.shape for asked in engine.asked) == [(1, 2, 2), (1, 10, 2)]


def test_sam_without_a_checkpoint_is_refused_with_the_remedy():
    found = localization([box(4, 12, 4, 12)])
    with pytest.raises(ConfigurationError, match="no SAM checkpoint"):
        refine(IMAGE[:1], "CT", found, random_points(found), None, SAM)


@pytest.mark.parametrize("wrong", [{"engine": "sam9"}, {"iou_gate": 1.5}])
def test_impossible_settings_are_refused_by_key(wrong):
    with pytest.raises(TaskError, match=r"refine\."):
        RefineSettings(**wrong)


def test_overlap_of_nothing_is_zero():
    assert intersection_over_union(box(0, 0, 0, 0), box(0, 0, 0, 0)) == 0
    assert intersection_over_union(box(0, 2, 0, 2), box(0, 2, 0, 4)) == 0.5


def test_a_real_sam_answers_on_the_image_grid_and_repeats(sam_folder):
    engine = load_sam(sam_folder)
    assert len(engine.weights_digest) == 64
    image = np.random.default_rng(1).uniform(0, 1, (3, 50, 40)).astype(np.float32)
    points = np.array([[[10, 12], [20, 30]], [[5, 5], [6, 40]]], dtype=np.float32)
    positive = np.ones((2, 2), dtype=bool)
    embedded = engine.embed(image)
    assert embedded.resized == (64, 51)
    three = engine.segment(embedded, points, positive)
    one = engine.segment(embedded, points, positive, multimask=False)
    assert three.shape == (2, 3, 50, 40)
    assert one.shape == (2, 1, 50, 40)
    np.testing.assert_array_equal(three, load_sam(sam_folder).segment(engine.embed(image), points, positive))


def test_prompts_of_one_slice_do_not_influence_each_other(sam_folder):
    engine = load_sam(sam_folder)
    embedded = engine.embed(np.random.default_rng(2).uniform(0, 1, (3, 64, 64)).astype(np.float32))
    points = np.random.default_rng(3).uniform(0, 63, (3, 10, 2)).astype(np.float32)
    positive = np.ones((3, 10), dtype=bool)
    together = engine.segment(embedded, points, positive)
    alone = engine.segment(embedded, points[1:2], positive[1:2])
    assert (together[1] == alone[0]).mean() > 0.999


def test_the_image_handling_agrees_with_the_processor_that_belongs_to_sam(sam_folder):
    """Without torchvision, `transformers` offers its PIL processor: other resampling, same geometry."""
    from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil

    engine = load_sam(sam_folder)
    smooth = np.linspace(0, 1, 60)[:, None] * np.linspace(1, 0.2, 90)[None]
    grey = (smooth * 255).astype(np.uint8)
    processor = SamImageProcessorPil(size={"longest_edge": 64}, pad_size={"height": 64, "width": 64})
    expected = processor(np.stack([grey] * 3, axis=-1), return_tensors="pt")["pixel_values"][0]
    seen = []
    engine.model.get_image_embeddings = lambda pixels: seen.append(pixels) or torch.zeros(1)
    engine.embed(np.stack([grey / 255.0] * 3).astype(np.float32))
    assert seen[0].shape == (1, 3, 64, 64)
    difference = (seen[0][0] - expected).abs()
    assert difference.mean() < 0.05


def test_a_volume_goes_through_a_real_sam(sam_folder):
    found = localization([box(0, 0, 0, 0), box(4, 12, 4, 12)])
    masks = refine(IMAGE, "MR", found, random_points(found), load_sam(sam_folder), SAM)
    count = masks.refinement[1]
    assert count.refined + count.coarse == 1
    assert set(np.unique(masks.label_map)) <= {0, 1}


def spoiled(folder, how, target):
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    weights = target / "model.safetensors"
    if how == "no config":
        (target / "config.json").unlink()
    elif how == "config is no JSON":
        (target / "config.json").write_text("{")
    elif how == "another model":
        (target / "config.json").write_text(json.dumps({"model_type": "vit"}))
    elif how == "no weights":
        weights.unlink()
    elif how == "truncated":
        weights.write_bytes(weights.read_bytes()[:5000])
    elif how == "wrong sizes":
        config = json.loads((target / "config.json").read_text())
        config["vision_config"]["hidden_size"] = 32
        (target / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    "how", ["no config", "config is no JSON", "another model", "no weights", "truncated", "wrong sizes"]
)
def test_a_folder_that_is_no_sam_is_refused_by_name(sam_folder, tmp_path, how):
    target = tmp_path / "broken-sam"
    target.mkdir()
    spoiled(sam_folder, how, target)
    with pytest.raises(CheckpointError, match=r"broken-sam.*; "):
        load_sam(target)


def test_a_folder_that_is_absent_and_a_hub_name_offline_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"nowhere.*no such SAM folder"):
        load_sam(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=r"facebook/sam-vit-base.*local cache"):
        load_sam("facebook/sam-vit-base", offline=True)
