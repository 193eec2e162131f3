import json
import shutil

import numpy as np
import pytest
import torch
from transformers import (
    Sam2Config,
    Sam2HieraDetConfig,
    Sam2MaskDecoderConfig,
    Sam2Model,
    Sam2PromptEncoderConfig,
    Sam2VisionConfig,
    SamHQConfig,
    SamHQModel,
)

from fewshot_node.errors import CheckpointError
from fewshot_node.vision.sam import Guidance, PromptBatch, load_sam
from fewshot_node.vision.sam import loading as sam_loading

POINTS = np.array([[[10, 12], [20, 30]], [[5, 5], [6, 40]]], dtype=np.float32)
SIGNS = np.array([[True, False], [True, True]])
BOXES = np.array([[3, 4, 30, 35], [0, 0, 39, 49]], dtype=np.float32)
IMAGE = np.random.default_rng(1).uniform(0, 1, (3, 50, 40)).astype(np.float32)


@pytest.fixture(scope="module")
def sam_hq_folder(sam_folder, tmp_path_factory):
    """A SAM-HQ of random weights with the sizes of the small SAM."""
    torch.manual_seed(1)
    sizes = json.loads((sam_folder / "config.json").read_text())
    parts = {
        part: {
            key: value
            for key, value in sizes[part].items()
            if key not in {"model_type", "dtype", "transformers_version"}
        }
        for part in ("vision_config", "prompt_encoder_config", "mask_decoder_config")
    }
    parts["mask_decoder_config"]["vit_dim"] = sizes["vision_config"]["hidden_size"]
    folder = tmp_path_factory.mktemp("sam-hq")
    SamHQModel(SamHQConfig(**parts)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def sam2_folder(tmp_path_factory):
    """A SAM 2 of random weights on 64 x 64 pixels."""
    torch.manual_seed(2)
    backbone = Sam2HieraDetConfig(
        hidden_size=8,
        num_attention_heads=1,
        image_size=[64, 64],
        blocks_per_stage=[1, 2, 2, 2],
        embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 1, 2, 2],
        window_size_per_stage=[4, 4, 4, 2],
        global_attention_blocks=[4],
    )
    vision = Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[64, 32, 16, 8],
        backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
        fpn_hidden_size=32,
    )
    prompt = Sam2PromptEncoderConfig(hidden_size=32, image_size=64, patch_size=16, mask_input_channels=4)
    decoder = Sam2MaskDecoderConfig(
        hidden_size=32, mlp_dim=32, num_hidden_layers=1, num_attention_heads=2, iou_head_hidden_dim=16
    )
    config = Sam2Config(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)
    folder = tmp_path_factory.mktemp("sam2")
    Sam2Model(config).save_pretrained(folder)
    return folder


@pytest.fixture(params=["sam", "sam_hq", "sam2"])
def engine(request):
    """An engine of each architecture, its weights large enough that everything shows in its answers."""
    loaded = load_sam(request.getfixturevalue(f"{request.param}_folder"))
    generator = torch.Generator().manual_seed(3)
    for parameter in loaded.model.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return loaded


def test_every_engine_answers_points_boxes_and_masks_on_the_image_grid(engine):
    embedded = engine.embed(IMAGE)
    assert embedded.image_shape == (50, 40)
    points = engine.segment(embedded, PromptBatch(POINTS, SIGNS))
    assert points.logits.shape == (2, 3, 50, 40)
    assert points.logits.dtype == np.float32
    boxes = engine.segment(embedded, PromptBatch(POINTS[:, :0], SIGNS[:, :0], BOXES), multimask=False)
    assert boxes.logits.shape == (2, 1, 50, 40)
    masks = engine.mask_inputs(embedded, np.random.default_rng(0).normal(0, 5, (2, 13, 10)))
    everything = engine.segment(embedded, PromptBatch(POINTS, SIGNS, BOXES, masks))
    assert everything.low_res.shape[2:] == masks.shape[1:]
    assert np.abs(everything.logits - points.logits).max() > 0
    again = engine.segment(embedded, PromptBatch(POINTS, SIGNS, BOXES, everything.low_res[:, 0]))
    assert np.isfinite(again.logits).all()


def test_every_engine_gives_each_prompt_its_own_answer(engine):
    embedded = engine.embed(IMAGE)
    masks = engine.mask_inputs(embedded, np.random.default_rng(0).normal(0, 5, (2, 13, 10)))
    together = engine.segment(embedded, PromptBatch(POINTS, SIGNS, BOXES, masks))
    for index in range(2):
        one = slice(index, index + 1)
        alone = engine.segment(embedded, PromptBatch(POINTS[one], SIGNS[one], BOXES[one], masks[one]))
        scale = np.abs(together.logits).max()
        np.testing.assert_allclose(together.logits[one] / scale, alone.logits / scale, atol=1e-4)
        np.testing.assert_allclose(together.predicted_iou[one], alone.predicted_iou, rtol=1e-3)


def test_the_whole_image_is_on_the_input_and_points_keep_their_place(engine):
    """SAM and SAM-HQ pad the short side, SAM 2 stretches it."""
    expected = (64, 64) if engine.frame.squashes else (64, 51)
    assert engine.embed(IMAGE).resized == expected
    corners = np.array([[-0.5, -0.5], [39.5, 49.5]], dtype=np.float32)  # the outer edges of the outermost pixels
    placed = engine.frame.place_points(corners, (50, 40))
    np.testing.assert_allclose(placed, [[-0.5, -0.5], [expected[1] - 0.5, expected[0] - 0.5]], atol=1e-5)


def test_logits_on_the_input_come_back_where_they_were(engine):
    logits = np.full((1, 25, 20), -4.0, dtype=np.float32)
    logits[0, 5:15, 4:12] = 4
    low_res = engine.mask_inputs(engine.embed(IMAGE), logits)
    back = engine.frame.logits_on_image(low_res[:, None], (50, 40)).numpy()[0, 0]
    expected = np.repeat(np.repeat(logits[0], 2, axis=0), 2, axis=1)
    assert ((back > 0) == (expected > 0)).mean() > 0.97


def test_guidance_reaches_the_decoder(engine):
    embedded = engine.embed(IMAGE)
    height, width = embedded.embedding.shape[2:]
    asked = PromptBatch(POINTS, SIGNS)
    plain = engine.segment(embedded, asked).low_res
    similarity = torch.linspace(0, 20, height * width)[None, None, None]
    led = engine.segment(embedded, asked, guidance=Guidance(attention_similarity=similarity)).low_res
    assert not torch.equal(plain, led)
    target = torch.ones(1, 1, 1, embedded.embedding.shape[1])
    assert not torch.equal(plain, engine.segment(embedded, asked, guidance=Guidance(target_embedding=target)).low_res)
    assert torch.equal(plain, engine.segment(embedded, asked, guidance=Guidance()).low_res)


def test_a_video_checkpoint_of_sam2_is_loaded_for_its_image_half(sam2_folder, tmp_path):
    """The released SAM 2.1 folders state `sam2_video`."""
    folder = shutil.copytree(sam2_folder, tmp_path / "video")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "sam2_video"}))
    expected, seen = (
        load_sam(one).segment(load_sam(one).embed(IMAGE), PromptBatch(POINTS, SIGNS)).logits
        for one in (sam2_folder, folder)
    )
    np.testing.assert_array_equal(seen, expected)


def test_prompts_that_contradict_themselves_are_refused():
    with pytest.raises(ValueError, match="neither point nor box"):
        PromptBatch(POINTS[:, :0], SIGNS[:, :0])
    with pytest.raises(ValueError, match="signs"):
        PromptBatch(POINTS, SIGNS[:1])


def test_the_embedded_sam_is_found_by_name_and_missed_by_name(sam_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(sam_loading, "EMBEDDED_SAM", sam_folder)
    assert load_sam("embedded").weights_digest == load_sam(sam_folder).weights_digest
    monkeypatch.setattr(sam_loading, "EMBEDDED_SAM", tmp_path / "absent")
    with pytest.raises(CheckpointError, match=r"no embedded SAM; give the folder"):
        load_sam("embedded")


def test_the_embedded_sam_is_packaged_and_turns_prompts_on_a_disc_into_the_disc():
    """The model saw synthetic images only; a plain disc, prompted as the node prompts, is the least it must find."""
    engine = load_sam("embedded")
    rows, columns = np.ogrid[:96, :96]
    disc = (rows - 50) ** 2 + (columns - 44) ** 2 <= 20**2
    image = np.repeat(np.where(disc, 0.7, 0.3).astype(np.float32)[None], 3, axis=0)
    points = np.array([[[44, 50], [36, 44], [52, 58]]], dtype=np.float32)
    box = np.array([[24, 30, 64, 70]], dtype=np.float32)
    answer = engine.segment(engine.embed(image), PromptBatch(points, np.ones((1, 3), bool), box), multimask=False)
    found = answer.logits[0, 0] > 0
    assert (found & disc).sum() / (found | disc).sum() > 0.8
    folder = sam_loading.EMBEDDED_SAM
    assert "Held-out score" in (folder / "CARD.md").read_text()
    assert sum(path.stat().st_size for path in folder.iterdir()) < 10e6


def test_a_real_sam_answers_on_the_image_grid_and_repeats(sam_folder):
    engine = load_sam(sam_folder)
    assert len(engine.weights_digest) == 64
    image = np.random.default_rng(1).uniform(0, 1, (3, 50, 40)).astype(np.float32)
    points = np.array([[[10, 12], [20, 30]], [[5, 5], [6, 40]]], dtype=np.float32)
    positive = np.ones((2, 2), dtype=bool)
    embedded = engine.embed(image)
    assert embedded.resized == (64, 51)
    asked = PromptBatch(points, positive)
    three = engine.segment(embedded, asked)
    one = engine.segment(embedded, asked, multimask=False)
    assert three.logits.shape == (2, 3, 50, 40)
    assert three.predicted_iou.shape == (2, 3)
    assert one.logits.shape == (2, 1, 50, 40)
    again = load_sam(sam_folder).segment(engine.embed(image), asked)
    np.testing.assert_array_equal(three.logits, again.logits)


def test_prompts_of_one_slice_do_not_influence_each_other(sam_folder):
    engine = load_sam(sam_folder)
    embedded = engine.embed(np.random.default_rng(2).uniform(0, 1, (3, 64, 64)).astype(np.float32))
    points = np.random.default_rng(3).uniform(0, 63, (3, 10, 2)).astype(np.float32)
    positive = np.ones((3, 10), dtype=bool)
    boxes = np.array([[5, 5, 20, 30], [1, 2, 60, 50], [30, 30, 40, 41]] * 7, dtype=np.float32)
    together = engine.segment(embedded, PromptBatch(np.tile(points, (7, 1, 1)), np.tile(positive, (7, 1)), boxes))
    alone = engine.segment(embedded, PromptBatch(points[1:2], positive[1:2], boxes[1:2]))
    assert together.logits.shape[0] == 21  # more than are decoded at once
    np.testing.assert_allclose(together.logits[19], alone.logits[0], atol=1e-5)


def test_the_image_handling_agrees_with_the_processor_that_belongs_to_sam(sam_folder, monkeypatch):
    """Without torchvision, `transformers` offers its PIL processor: other resampling, same geometry."""
    from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil

    engine = load_sam(sam_folder)
    smooth = np.linspace(0, 1, 60)[:, None] * np.linspace(1, 0.2, 90)[None]
    grey = (smooth * 255).astype(np.uint8)
    processor = SamImageProcessorPil(size={"longest_edge": 64}, pad_size={"height": 64, "width": 64})
    expected = processor(np.stack([grey] * 3, axis=-1), return_tensors="pt")["pixel_values"][0]
    seen = []
    monkeypatch.setattr(engine.model, "get_image_embeddings", lambda pixels: seen.append(pixels) or torch.zeros(1))
    engine.embed(np.stack([grey / 255.0] * 3).astype(np.float32))
    assert seen[0].shape == (1, 3, 64, 64)
    difference = (seen[0][0] - expected).abs()
    assert difference.mean() < 0.05


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
