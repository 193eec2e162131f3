"""Training the promptable model: it learns, it resumes bit for bit, it leaves a SAM that the node can load."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from typer.testing import CliRunner

from fewshot_node.cli.pretrain import app
from fewshot_node.errors import CheckpointError
from fewshot_node.pretrain.batches import BatchSettings
from fewshot_node.pretrain.map_pool import MapPool
from fewshot_node.pretrain.promptable import training
from fewshot_node.pretrain.promptable.asking import answer_loss, answers, overlap
from fewshot_node.pretrain.promptable.samples import CropBatch
from fewshot_node.pretrain.promptable.settings import PromptableSettings, new_model
from fewshot_node.pretrain.promptable.training import held_out_crops, pretrain_promptable, step_loss
from fewshot_node.vision.prompts import STRATEGIES, PromptSettings
from fewshot_node.vision.sam import PromptBatch, load_sam

TINY = PromptableSettings(
    steps=4,
    warmup_steps=2,
    batch_crops=2,
    image_px=64,
    patch_px=16,
    width=16,
    layers=1,
    heads=2,
    decoder_width=32,
    map_px=96,
    threads=1,
    held_out_crops=3,
    checkpoint_every_s=3600.0,
)


@pytest.fixture(autouse=True)
def small_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    def settings(map_px: int, seed: int) -> BatchSettings:
        return BatchSettings(map_px=map_px, seed=seed, pool_maps=4, new_maps=1)

    monkeypatch.setattr(training, "BatchSettings", settings)


def test_a_resumed_run_ends_like_an_unbroken_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class StoppedError(Exception):
        pass

    pretrain_promptable(tmp_path / "whole", tmp_path / "work-whole", TINY)

    def stop_in_the_third_step(model: object, pool: MapPool, step: int, settings: PromptableSettings) -> Tensor:
        if step == 2:
            raise StoppedError
        return step_loss(model, pool, step, settings)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(training, "step_loss", stop_in_the_third_step)
        with pytest.raises(StoppedError):
            pretrain_promptable(tmp_path / "broken", tmp_path / "work", replace(TINY, checkpoint_every_s=0.0))
    pretrain_promptable(tmp_path / "broken", tmp_path / "work", TINY)
    whole, resumed = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "broken"))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_the_result_is_a_sam_and_its_card_tells_what_was_done(tmp_path: Path) -> None:
    pretrain_promptable(tmp_path / "out", tmp_path / "work", TINY)
    engine = load_sam(tmp_path / "out")
    image = engine.embed(np.random.default_rng(0).random((3, 50, 70), dtype=np.float32))
    answer = engine.segment(image, PromptBatch(np.array([[[30, 20]]], np.float32), np.ones((1, 1), bool)))
    assert answer.logits.shape == (1, 3, 50, 70)
    card = (tmp_path / "out" / "CARD.md").read_text()
    assert "| steps | 4 of 4 |" in card
    assert "| step | random | box | ours |" in card
    assert card.count("\n| 4 | 0.") == 1


def test_other_settings_do_not_go_on_in_the_same_folder(tmp_path: Path) -> None:
    pretrain_promptable(tmp_path / "out", tmp_path / "work", TINY)
    with pytest.raises(CheckpointError, match="other settings"):
        pretrain_promptable(tmp_path / "out", tmp_path / "work", replace(TINY, width=32))


def test_it_learns_to_find_a_bright_square_from_any_prompt() -> None:
    """A task with one right answer: after a few hundred steps a prompted square is found, before it is not."""
    torch.manual_seed(0)
    model = new_model(TINY)
    crops = held_out_crops(replace(TINY, held_out_crops=6))
    images = crops.truth.new_zeros(len(crops.regions), 1, 64, 64)
    regions = []
    for index, region in enumerate(crops.regions):
        images[index, 0] = torch.from_numpy(region.truth)
        regions.append(replace(region, crop=index))
    batch = CropBatch(images, tuple(regions))
    prompts = PromptSettings(strategy="ours", per_component=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(60):
        logits, predicted = answers(model, batch, prompts, multimask=False)
        loss = answer_loss(logits.float(), predicted.float(), batch.truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


def test_places_near_each_other_look_alike_to_a_new_model() -> None:
    torch.manual_seed(0)
    model = new_model(PromptableSettings())
    places = model.get_image_wide_positional_embeddings()[0].flatten(1).T
    usual = torch.cdist(places, places).mean()
    assert torch.dist(places[0], places[1]) < 0.7 * usual
    assert torch.equal(
        model.shared_image_embedding.positional_embedding, model.prompt_encoder.shared_embedding.positional_embedding
    )


def test_the_loss_takes_the_best_of_several_masks() -> None:
    truth = torch.zeros(1, 64, 64)
    truth[:, 16:48, 16:48] = 1
    small = torch.zeros(1, 16, 16)
    small[:, 4:12, 4:12] = 1
    right, wrong = 20 * (2 * small - 1), 20 * (1 - 2 * small)
    one = answer_loss(right[:, None], torch.ones(1, 1), truth)
    three = answer_loss(torch.stack([wrong, right, wrong], dim=1), torch.tensor([[0.0, 1.0, 0.0]]), truth)
    assert float(one) == pytest.approx(0, abs=1e-3)
    assert float(three) == pytest.approx(0, abs=1e-3)
    assert float(answer_loss(wrong[:, None], torch.zeros(1, 1), truth)) > 10


def test_overlap_of_known_masks() -> None:
    first, second = torch.zeros(4, 4, dtype=torch.bool), torch.zeros(4, 4, dtype=torch.bool)
    first[:2], second[1:3] = True, True
    assert float(overlap(first, second)) == pytest.approx(1 / 3)


def test_strategies_are_scored_apart() -> None:
    torch.manual_seed(0)
    model, crops = new_model(TINY), held_out_crops(TINY)
    scores = [training.refined_score(model, crops, strategy) for strategy in STRATEGIES]
    assert all(0 <= score <= 1 for score in scores)
    assert model.training


def test_the_command_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[PromptableSettings] = []
    monkeypatch.setattr(training, "pretrain_promptable", lambda out, work, settings: seen.append(settings))
    result = CliRunner().invoke(
        app, ["sam", "--out", str(tmp_path / "o"), "--work", str(tmp_path / "w"), "--steps", "7"]
    )
    assert result.exit_code == 0, result.output
    assert seen == [replace(PromptableSettings(), steps=7)]
