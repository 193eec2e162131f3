"""Training the embedded UniverSeg: its tasks, resuming bit for bit, and what it leaves."""

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
from fewshot_node.pretrain.label_maps import random_label_map
from fewshot_node.pretrain.map_pool import MapPool
from fewshot_node.pretrain.universeg import training
from fewshot_node.pretrain.universeg.tasks import TaskBatch, TaskSettings, task_batch, training_tasks
from fewshot_node.pretrain.universeg.training import (
    UniverSegSettings,
    dice_score,
    mask_loss,
    place_score,
    pretrain_universeg,
    step_loss,
)
from fewshot_node.vision.universeg import UniverSeg, load_universeg

TINY = UniverSegSettings(
    steps=4,
    warmup_steps=2,
    batch_tasks=2,
    most_examples=3,
    image_px=32,
    map_px=64,
    width=4,
    levels=3,
    held_out=3,
    held_out_examples=2,
    checkpoint_every_s=3600.0,
)


@pytest.fixture(autouse=True)
def small_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    def tasks(self: UniverSegSettings) -> TaskSettings:
        return TaskSettings(
            self.batch_tasks, self.fewest_examples, self.most_examples, self.image_px, self.map_px, self.seed, 3, 1
        )

    monkeypatch.setattr(UniverSegSettings, "tasks", tasks)


def test_a_task_asks_for_one_structure_that_query_and_examples_show() -> None:
    rng = np.random.default_rng(4)
    batch = task_batch([random_label_map(rng, 96, 5) for _ in range(6)], 4, 48, rng)
    assert batch.images.shape == batch.masks.shape == (6, 1, 48, 48)
    assert batch.support_images.shape == batch.support_masks.shape == (6, 4, 1, 48, 48)
    assert 0 <= float(batch.images.min()) < float(batch.images.max()) <= 1
    assert set(batch.support_masks.unique().tolist()) == {0.0, 1.0}
    shown = (batch.support_masks.sum(dim=(2, 3, 4)) > 0).float().mean(dim=1)
    assert float(shown.min()) >= 0.5
    # Some queries show another anatomy; most show what is asked for.
    assert int((batch.masks.sum(dim=(1, 2, 3)) > 0).sum()) >= 3


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    settings = TINY.tasks()
    walked = MapPool(settings.pool())
    for step in range(3):
        last = training_tasks(walked, step, settings)
    fresh = training_tasks(MapPool(settings.pool()), 2, settings)
    assert torch.equal(last.images, fresh.images)
    assert torch.equal(last.support_masks, fresh.support_masks)
    assert not torch.equal(training_tasks(walked, 3, settings).images, fresh.images)


def test_a_resumed_run_ends_like_an_unbroken_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class StoppedError(Exception):
        pass

    pretrain_universeg(tmp_path / "whole", tmp_path / "work-whole", TINY)

    def stop_in_the_third_step(network: UniverSeg, pool: MapPool, step: int, settings: UniverSegSettings) -> Tensor:
        if step == 2:
            raise StoppedError
        return step_loss(network, pool, step, settings)

    with monkeypatch.context() as patch:
        patch.setattr(training, "step_loss", stop_in_the_third_step)
        with pytest.raises(StoppedError):
            pretrain_universeg(tmp_path / "broken", tmp_path / "work", replace(TINY, checkpoint_every_s=0.0))
    pretrain_universeg(tmp_path / "broken", tmp_path / "work", TINY)
    whole, resumed = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "broken"))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    model = load_universeg(tmp_path / "whole")
    assert (model.network.widths, model.image_px) == ((4, 4, 4), 32)
    card = (tmp_path / "whole" / "CARD.md").read_text()
    assert "| steps | 4 of 4 |" in card
    with pytest.raises(CheckpointError, match="other settings"):
        pretrain_universeg(tmp_path / "whole", tmp_path / "work", replace(TINY, width=6))


def test_it_learns_that_the_mark_says_what_is_meant() -> None:
    """Two squares, one bright and one dark; only the examples' masks say which is asked for."""
    torch.manual_seed(0)
    images = torch.full((8, 4, 1, 32, 32), 0.5)
    masks = torch.zeros_like(images)
    for task in range(8):
        for patient in range(4):
            row, column = 4 + 2 * patient, 3 + task
            images[task, patient, 0, row : row + 9, column : column + 9] = 1.0
            images[task, patient, 0, row + 10 : row + 19, column : column + 9] = 0.0
            top = row if task % 2 else row + 10
            masks[task, patient, 0, top : top + 9, column : column + 9] = 1
    batch = TaskBatch(images[:, 0], masks[:, 0], images[:, 1:], masks[:, 1:])
    network = UniverSeg((8, 8, 8))
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
    for _ in range(60):
        loss = mask_loss(network(batch.images, batch.support_images, batch.support_masks), batch.masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert dice_score(network, batch) > 0.9 > place_score(batch)


def test_loss_and_scores_of_known_masks() -> None:
    masks = torch.zeros(2, 1, 8, 8)
    masks[0, 0, :4] = 1
    right = 20 * (2 * masks - 1)
    assert float(mask_loss(right, masks)) == pytest.approx(0, abs=1e-3)
    assert float(mask_loss(-right, masks)) > 10
    shifted = torch.zeros(2, 3, 1, 8, 8)
    shifted[0, :, 0, 2:6] = 1
    # Half of four rows; the empty query does not count.
    assert place_score(TaskBatch(masks, masks, shifted, shifted)) == pytest.approx(0.5)


def test_the_command_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[UniverSegSettings] = []
    monkeypatch.setattr(training, "pretrain_universeg", lambda out, work, settings: seen.append(settings))
    places = ["--out", str(tmp_path / "o"), "--work", str(tmp_path / "w")]
    result = CliRunner().invoke(app, ["universeg", *places, "--steps", "7"])
    assert result.exit_code == 0, result.output
    assert seen == [replace(UniverSegSettings(), steps=7)]
