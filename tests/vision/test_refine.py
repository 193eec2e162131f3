import numpy as np
import pytest
import torch

from fewshot_node.errors import ConfigurationError, TaskError
from fewshot_node.records import Localization
from fewshot_node.vision.prompts import PromptSettings, place_prompts, random_points
from fewshot_node.vision.refine import RefineSettings, intersection_over_union, refine
from fewshot_node.vision.sam import EmbeddedImage, MaskAnswer, load_sam

SAM = RefineSettings(engine="sam", iou_gate=0.5)


class Echo:
    """An engine that answers every prompt with given masks, and keeps what it was asked."""

    weights_digest = "echo"

    def __init__(self, *answers, trust=None):
        self.answers, self.trust, self.images, self.asked = answers, trust, [], []

    def embed(self, image):
        self.images.append(image)
        return EmbeddedImage(torch.zeros(1), image.shape[1:], image.shape[1:])

    def segment(self, image, prompts, *, multimask=True, guidance=None):
        self.asked.append((prompts, multimask))
        masks = np.stack([self.answer(image.image_shape, one) for one in self.answers])
        logits = np.where(np.stack([masks] * len(prompts)), 5.0, -5.0).astype(np.float32)
        trust = np.tile(np.array(self.trust or [0.5] * len(masks), dtype=np.float32), (len(prompts), 1))
        return MaskAnswer(logits, trust, torch.arange(float(len(prompts) * len(masks))).reshape(len(prompts), -1, 1, 1))

    def answer(self, shape, mask):
        return mask if mask.shape == shape else np.ones(shape, dtype=bool)

    def mask_inputs(self, image, logits):
        return torch.from_numpy(logits)


class Drawn(Echo):
    """An engine that gives another mask at every prompt of a batch."""

    def segment(self, image, prompts, *, multimask=True, guidance=None):
        answer = super().segment(image, prompts, multimask=multimask)
        return MaskAnswer(answer.logits[:1].swapaxes(0, 1)[: len(prompts)], answer.predicted_iou[:, :1], answer.low_res)


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
    assert sorted(asked.points_xy.shape for asked, _ in engine.asked) == [(1, 2, 2), (1, 10, 2)]


def test_sam_without_a_checkpoint_is_refused_with_the_remedy():
    found = localization([box(4, 12, 4, 12)])
    with pytest.raises(ConfigurationError, match="no SAM checkpoint"):
        refine(IMAGE[:1], "CT", found, random_points(found), None, SAM)


@pytest.mark.parametrize(
    "wrong", [{"engine": "sam9"}, {"iou_gate": 1.5}, {"rounds": 3}, {"rounds": -1}, {"crop_margin": -0.1}]
)
def test_impossible_settings_are_refused_by_key(wrong):
    with pytest.raises(TaskError, match=r"refine\."):
        RefineSettings(**wrong)


def test_overlap_of_nothing_is_zero():
    assert intersection_over_union(box(0, 0, 0, 0), box(0, 0, 0, 0)) == 0
    assert intersection_over_union(box(0, 2, 0, 2), box(0, 2, 0, 4)) == 0.5


def test_a_volume_goes_through_a_real_sam(sam_folder):
    found = localization([box(0, 0, 0, 0), box(4, 12, 4, 12)])
    masks = refine(IMAGE, "MR", found, random_points(found), load_sam(sam_folder), SAM)
    count = masks.refinement[1]
    assert count.refined + count.coarse == 1
    assert set(np.unique(masks.label_map)) <= {0, 1}


def test_slices_without_a_label_cost_nothing():
    found = localization([box(0, 0, 0, 0), box(0, 0, 0, 0)])
    engine = Echo(box(4, 12, 4, 12))
    masks = refine(IMAGE, "CT", found, place_prompts(found), engine, SAM)
    assert engine.images == []
    assert not masks.label_map.any()
    assert masks.refinement == {}


def test_none_counts_every_slice_of_every_label_without_prompts():
    found = localization([np.where(box(0, 4, 0, 4), 1, 0) + np.where(box(6, 9, 6, 9), 7, 0), box(0, 4, 0, 4)], (1, 7))
    masks = refine(IMAGE, "CT", found, ())
    assert {value: (count.refined, count.coarse) for value, count in masks.refinement.items()} == {1: (0, 2), 7: (0, 1)}


def test_of_masks_that_agree_alike_the_trusted_one_is_taken():
    found = localization([box(4, 12, 4, 12)])
    engine = Echo(box(4, 12, 4, 13), box(4, 13, 4, 12), trust=[0.2, 0.9])
    masks = refine(IMAGE[:1], "CT", found, random_points(found), engine, SAM)
    np.testing.assert_array_equal(masks.label_map[0] == 1, box(4, 13, 4, 12))


def test_a_round_gives_the_chosen_mask_back_and_asks_for_one():
    found = localization([box(4, 12, 4, 12)])
    engine = Echo(box(16, 30, 16, 30), box(4, 12, 4, 13))
    refine(IMAGE[:1], "CT", found, random_points(found), engine, RefineSettings("sam", rounds=2))
    assert [multimask for _, multimask in engine.asked] == [True, False, False]
    assert [None if asked.mask_inputs is None else asked.mask_inputs.tolist() for asked, _ in engine.asked] == [
        None,
        [[[1.0]]],
        [[[1.0]]],
    ]


def test_components_are_asked_about_apart_and_gated_apart():
    two = box(2, 10, 2, 10) | box(20, 28, 20, 28)
    found = localization([two])
    settings = RefineSettings("sam", prompts=PromptSettings(per_component=True))
    engine = Echo(box(2, 10, 2, 11))
    masks = refine(IMAGE[:1], "CT", found, place_prompts(found, settings.prompts), engine, settings)
    np.testing.assert_array_equal(masks.label_map[0] == 1, box(2, 10, 2, 11) | box(20, 28, 20, 28))
    assert (masks.refinement[1].refined, masks.refinement[1].coarse) == (1, 0)


def test_a_crop_shows_the_organ_large_and_puts_its_mask_back():
    image = np.zeros((1, 128, 128), dtype=np.float32)
    image[0, 40:60, 80:100] = 100
    found = localization([box(40, 60, 80, 100, shape=(128, 128))])
    engine = Echo(np.zeros((0, 0), dtype=bool))
    engine.answer = lambda shape, mask: engine.images[-1][0] > 0.5
    settings = RefineSettings("sam", crop=True, crop_margin=0.5, prompts=PromptSettings("ours"))
    masks = refine(image, "MR", found, place_prompts(found, settings.prompts), engine, settings)
    assert [shown.shape for shown in engine.images] == [(3, 40, 40)]
    np.testing.assert_array_equal(masks.label_map[0] == 1, image[0] > 50)
    ((asked, _),) = engine.asked
    np.testing.assert_array_equal(asked.boxes_xyxy, [[10, 10, 29, 29]])
    inside = asked.points_xy[0][asked.positive[0]]
    assert ((inside >= 10) & (inside <= 29)).all()
    assert asked.mask_inputs.shape == (1, 40, 40)


def test_labels_in_one_crop_share_one_embedding():
    side_by_side = np.where(box(40, 60, 40, 60, shape=(128, 128)), 1, 0)
    side_by_side += np.where(box(40, 60, 62, 80, shape=(128, 128)), 2, 0)
    found = localization([side_by_side], (1, 2))
    engine = Echo(np.zeros((0, 0), dtype=bool))
    settings = RefineSettings("sam", crop=True, prompts=PromptSettings(draws=3))
    refine(np.zeros((1, 128, 128), np.float32), "CT", found, place_prompts(found, settings.prompts), engine, settings)
    assert len(engine.images) == 1


def test_one_draw_has_no_uncertainty_and_equal_draws_have_none_of_it():
    found = localization([box(4, 12, 4, 12)])
    once = refine(IMAGE[:1], "CT", found, place_prompts(found), Echo(box(4, 12, 4, 13)), SAM)
    assert once.uncertainty == {}
    prompts = place_prompts(found, PromptSettings(draws=4))
    alike = refine(IMAGE[:1], "CT", found, prompts, Echo(box(4, 12, 4, 13)), SAM)
    assert alike.uncertainty == {1: 0.0}
    np.testing.assert_array_equal(alike.label_map[0] == 1, box(4, 12, 4, 13))


def test_draws_are_voted_on_and_their_disagreement_is_told():
    found = localization([box(4, 12, 4, 12)])
    answers = box(4, 12, 4, 12), box(4, 12, 4, 16), box(4, 12, 4, 16)
    prompts = place_prompts(found, PromptSettings(draws=3))
    masks = refine(IMAGE[:1], "CT", found, prompts, Drawn(*answers), SAM)
    np.testing.assert_array_equal(masks.label_map[0] == 1, box(4, 12, 4, 16))
    # Two pairs overlap by 64 of 96 pixels, the third fully.
    assert masks.uncertainty[1] == pytest.approx(1 - (2 * 64 / 96 + 1) / 3)


@pytest.mark.parametrize("strategy", ["random", "box", "ours"])
def test_every_strategy_goes_through_a_real_sam_and_repeats(sam_folder, strategy):
    found = localization([box(0, 0, 0, 0), box(4, 12, 4, 12) | box(20, 30, 20, 31)])
    settings = RefineSettings(
        "sam", iou_gate=0.01, crop=True, rounds=1, prompts=PromptSettings(strategy, points=3, draws=2)
    )
    engine = load_sam(sam_folder)
    first, again = (
        refine(IMAGE, "MR", found, place_prompts(found, settings.prompts), engine, settings) for _ in range(2)
    )
    np.testing.assert_array_equal(first.label_map, again.label_map)
    assert first.uncertainty == again.uncertainty
    assert not first.label_map[0].any()


def test_only_sam_has_weights_to_load_and_pin():
    assert [RefineSettings(engine=name).needs_model for name in ("none", "walker", "sam")] == [False, False, True]
