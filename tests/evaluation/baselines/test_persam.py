"""PerSAM and PerSAM-F: features and points of known places, engines of each architecture, an engine that is exact."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch.nn import functional

from fewshot_node.evaluation.baselines import PerSam, PerSamF
from fewshot_node.evaluation.baselines.persam_f import fit_weights
from fewshot_node.evaluation.baselines.rival import Example
from fewshot_node.evaluation.baselines.target import Reference, cover, likeness, on_image, target_of
from fewshot_node.vision.sam import EmbeddedImage, MaskAnswer, load_sam


def embedded(features, image_shape, resized):
    return EmbeddedImage(torch.as_tensor(features, dtype=torch.float32)[None], image_shape, resized)


@dataclass
class GreySam:
    """An exact engine of 64 x 64 pixels: its features are grey levels, its masks all that is as grey as the point.

    Its three masks are that, half of it and its surroundings; it trusts the first most.
    """

    weights_digest: str = "grey"
    asked: list = field(default_factory=list)

    def embed(self, image):
        grey = torch.from_numpy(image[:1])
        angle = functional.adaptive_avg_pool2d(grey, 16)[0] * 1.5
        return EmbeddedImage(torch.stack([angle.cos(), angle.sin()])[None] * 5, image.shape[1:], (64, 64), (grey,))

    def segment(self, image, prompts, *, multimask=True, guidance=None):
        self.asked.append((prompts, multimask, guidance))
        column, row = prompts.points_xy[0, 0].round().astype(int)
        grey = image.detail[0][0]
        same = (0.2 - (grey - grey[row, column]).abs()) * 50
        half = same.clone()
        half[:, column:] = -5
        masks = torch.stack([half, same, torch.full_like(same, 5.0)])[None]
        masks = masks if multimask else masks[:, 1:2]
        trust = np.array([[0.2, 0.9, 0.1]], dtype=np.float32)
        return MaskAnswer(masks.numpy(), trust if multimask else trust[:, 1:2], masks)

    def mask_inputs(self, image, logits):
        return torch.from_numpy(logits)


def test_a_mask_lies_on_the_grid_where_it_lies_on_the_image():
    # 40 x 80 pixels on an input of 64: 32 rows are image, 32 are padding, so half of the 8 x 8 cells.
    image = embedded(np.ones((1, 8, 8)), (40, 80), (32, 64))
    mask = np.zeros((40, 80), dtype=bool)
    mask[10:20, 40:60] = True
    expected = np.zeros((8, 8))
    expected[1, 4:6] = 1
    np.testing.assert_allclose(cover(mask, image, (8, 8)).numpy(), expected, atol=0.15)
    assert float(cover(np.ones_like(mask), image, (8, 8))[4:].max()) == 0
    back = on_image(torch.from_numpy(expected).float(), image).numpy()
    row, column = np.unravel_index(back.argmax(), back.shape)
    assert back.shape == (40, 80)
    assert 10 <= row < 20
    assert 40 <= column < 60


def test_the_target_is_the_mean_of_the_references_features_inside_their_masks():
    features = np.zeros((2, 4, 4), dtype=np.float32)
    features[0] = 2.0
    features[:, :2, :2] = np.array([0.0, 6.0])[:, None, None]
    mask = np.zeros((16, 16), dtype=bool)
    mask[:8, :8] = True
    first = Reference(embedded(features, (16, 16), (16, 16)), mask)
    second = Reference(embedded(features, (16, 16), (16, 16)), ~mask)
    one, both = target_of([first]), target_of([first, second])
    assert one.direction.tolist() == [0, 1]
    assert one.embedding.tolist() == [0, 6]
    # As many references, as much weight, however large the masks.
    assert both.direction.tolist() == [0.5, 0.5]
    assert both.embedding.tolist() == [1, 3]


def test_a_mask_smaller_than_a_cell_has_the_features_of_that_cell():
    features = np.arange(16, dtype=np.float32).reshape(1, 4, 4) + 1
    mask = np.zeros((16, 16), dtype=bool)
    mask[9, 5] = True
    assert target_of([Reference(embedded(features, (16, 16), (16, 16)), mask)]).embedding.tolist() == [10]


def test_points_lie_where_the_image_is_most_and_least_alike():
    features = np.ones((2, 4, 4), dtype=np.float32)
    features[:, 1, 2], features[:, 3, 0] = [0, 3], [3, 0]
    image = embedded(features, (16, 16), (16, 16))
    mask = np.zeros((16, 16), dtype=bool)
    mask[4:8, 8:12] = True
    found = likeness(image, target_of([Reference(image, mask)]))
    assert found.prompts.positive.tolist() == [[True, False]]
    (column, row), (last_column, last_row) = found.prompts.points_xy[0]
    assert (row // 4, column // 4) == (1, 2)
    assert (last_row // 4, last_column // 4) == (3, 0)
    assert float(found.cells[1, 2]) == pytest.approx(1)


@pytest.mark.parametrize("method", [PerSam, PerSamF])
def test_an_exact_engine_finds_the_same_structure_elsewhere(method, disc_examples, make_disc):
    model = method(GreySam()).learn(disc_examples, (3,))
    image, disc = make_disc(44, 18, seed=9)
    found = model.label_logits(image)[0].numpy() > 0
    assert (found & disc).sum() / (found | disc).sum() > 0.98


def test_persam_leads_the_first_answer_and_refines_it_twice(disc_examples, make_disc):
    engine = GreySam()
    model = PerSam(engine).learn(disc_examples, (3,))
    image, disc = make_disc(44, 18, seed=9)
    model.label_logits(image)
    (first, one_mask, guidance), (second, *_, none), (third, *_) = engine.asked
    assert one_mask is False
    assert guidance.attention_similarity.shape == (1, 1, 1, 256)
    similarity = guidance.attention_similarity.reshape(16, 16)
    assert 0 < float(similarity.min()) < 0.5 < float(similarity.max()) < 1
    assert float(similarity[11, 4]) > 0.9  # the disc's middle
    torch.testing.assert_close(guidance.target_embedding.flatten(), model.targets[0].embedding)
    assert none is None
    assert first.mask_inputs is None
    assert second.boxes_xyxy is None
    assert second.mask_inputs.shape == (1, 64, 64)
    rows, columns = np.nonzero(disc)
    box = [columns.min(), rows.min(), columns.max(), rows.max()]
    np.testing.assert_allclose(third.boxes_xyxy[0], box, atol=1)
    assert third.mask_inputs.shape == (1, 64, 64)


def test_weights_go_to_the_mask_that_is_meant():
    generator = torch.Generator().manual_seed(0)
    truths = (torch.rand(2, 16, 16, generator=generator) > 0.6).float()
    meant = 8 * (2 * truths - 1)
    answers = torch.stack([-meant, meant.roll(3, 1), meant], dim=1)
    weights = fit_weights(answers, truths)
    assert float(weights.sum()) == pytest.approx(1, abs=1e-5)
    assert float(weights[2]) > 0.6 > float(weights[:2].max())
    assert torch.equal(torch.einsum("m,rmhw->rhw", weights, answers) > 0, truths > 0)
    assert torch.equal(fit_weights(answers, truths), weights)


@pytest.mark.parametrize("method", [PerSam, PerSamF])
def test_a_real_sam_answers_for_several_labels_on_the_image_grid(method, sam_folder):
    rng = np.random.default_rng(0)
    labels = np.zeros((50, 40), dtype=np.uint8)
    labels[5:20, 5:30], labels[30:45, 10:20] = 1, 4
    examples = [Example(rng.random((50, 40), dtype=np.float32), labels) for _ in range(2)]
    image = rng.random((60, 44), dtype=np.float32)
    model = method(load_sam(sam_folder)).learn(examples, (1, 4))
    first, again = model.label_logits(image), model.label_logits(image)
    assert first.shape == (2, 60, 44)
    assert torch.equal(first, again)
    assert torch.isfinite(first).all()


def test_an_engine_that_sees_nothing_leaves_nothing(disc_examples, make_disc):
    class Blind(GreySam):
        def segment(self, image, prompts, *, multimask=True, guidance=None):
            answer = super().segment(image, prompts, multimask=multimask)
            return MaskAnswer(-np.abs(answer.logits) - 1, answer.predicted_iou, -answer.low_res.abs() - 1)

    for method in (PerSam, PerSamF):
        found = method(Blind()).learn(disc_examples, (3,)).label_logits(make_disc(30, 30)[0])
        assert not (found > 0).any()
