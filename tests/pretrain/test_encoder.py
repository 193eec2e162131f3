"""Training: it learns, it resumes bit for bit, it leaves a loadable encoder and a card."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from fewshot_node.cli.pretrain import app
from fewshot_node.errors import CheckpointError
from fewshot_node.pretrain import encoder as training
from fewshot_node.pretrain.batches import PairBatch, held_out_batch, training_batch
from fewshot_node.pretrain.encoder import PretrainSettings, batch_loss, pretrain_encoder
from fewshot_node.pretrain.map_pool import MapPool
from fewshot_node.pretrain.schedule import learning_rate
from fewshot_node.pretrain.scoring import coarse_labels, intensity_score, matching_iou
from fewshot_node.vision.backbone import load_encoder

TINY = PretrainSettings(
    steps=4,
    warmup_steps=2,
    batch_pairs=2,
    image_px=64,
    map_px=96,
    embedding_dim=8,
    widths=(8, 8, 8, 12, 16),
    depth=1,
    threads=1,
    held_out_pairs=2,
    checkpoint_every_s=3600.0,
)


@pytest.fixture(autouse=True)
def small_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = PretrainSettings.batch
    monkeypatch.setattr(PretrainSettings, "batch", lambda self: replace(usual(self), pool_maps=4, new_maps=1))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {
        f"{name}/{key}": value
        for name in ("model", "projection")
        for key, value in load_file(folder / f"{name}.safetensors").items()
    }


class _StoppedError(Exception):
    pass


def test_a_resumed_run_ends_like_an_unbroken_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretrain_encoder(tmp_path / "whole", tmp_path / "work-whole", TINY)

    def stop_in_the_third_step(pool: MapPool, step: int, settings: training.BatchSettings) -> PairBatch:
        if step == 2:
            raise _StoppedError
        return training_batch(pool, step, settings)

    often = replace(TINY, checkpoint_every_s=0.0)
    with monkeypatch.context() as patch:
        patch.setattr(training, "training_batch", stop_in_the_third_step)
        with pytest.raises(_StoppedError):
            pretrain_encoder(tmp_path / "broken", tmp_path / "work", often)
    assert [path.name for path in (tmp_path / "work").glob("step-*")] == ["step-000002"]
    halfway = weights(tmp_path / "broken")
    pretrain_encoder(tmp_path / "broken", tmp_path / "work", TINY)
    whole, resumed = weights(tmp_path / "whole"), weights(tmp_path / "broken")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert not all(torch.equal(whole[name], halfway[name]) for name in whole)


def test_the_result_loads_and_its_card_tells_what_was_done(tmp_path: Path) -> None:
    pretrain_encoder(tmp_path / "out", tmp_path / "work", TINY)
    encoder = load_encoder(tmp_path / "out")
    assert encoder(torch.zeros(1, 1, 64, 32)).shape == (1, 8, 16, 8)
    card = (tmp_path / "out" / "CARD.md").read_text()
    assert "| steps | 4 of 4 |" in card
    assert "raw intensity" in card
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".json", ".safetensors", ".md"}
    assert not (tmp_path / "out.new").exists()
    before = weights(tmp_path / "out")
    pretrain_encoder(tmp_path / "out", tmp_path / "work", TINY)
    assert all(torch.equal(value, before[name]) for name, value in weights(tmp_path / "out").items())


def test_a_work_folder_of_other_settings_is_refused(tmp_path: Path) -> None:
    once = replace(TINY, steps=1)
    pretrain_encoder(tmp_path / "out", tmp_path / "work", once)
    with pytest.raises(CheckpointError, match="other settings"):
        pretrain_encoder(tmp_path / "out", tmp_path / "work", replace(once, seed=1))


def test_the_loss_falls_on_one_batch() -> None:
    batch = training_batch(MapPool(TINY.batch().pool()), 0, TINY.batch())
    encoder = training.new_encoder(TINY).train()
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=1e-2)
    losses = []
    for _ in range(20):
        loss = batch_loss(encoder(batch.images), batch, TINY.place_weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-3:]) / 3 < 0.9 * losses[0]


def test_batches_depend_on_seed_and_step_alone() -> None:
    settings = TINY.batch()
    pool = MapPool(settings.pool())
    earlier = training_batch(pool, 3, settings)
    later = training_batch(pool, 4, settings)
    again = training_batch(MapPool(settings.pool()), 4, settings)
    assert torch.equal(later.images, again.images)
    assert torch.equal(later.points, again.points)
    assert not torch.equal(later.images, earlier.images)


def test_the_learning_rate_rises_and_falls_to_zero() -> None:
    settings = PretrainSettings(steps=1000, warmup_steps=100, learning_rate=1.0)
    rates = [learning_rate(step, settings) for step in (0, 49, 99, 100, 550, 999)]
    assert rates == pytest.approx([0.01, 0.5, 1.0, 1.0, 0.5, 0.0], abs=1e-2)


def test_the_score_is_one_for_features_that_are_labels_and_low_for_noise() -> None:
    batch = held_out_batch(4, TINY.batch())
    labels = coarse_labels(batch.labels)
    perfect = torch.nn.functional.one_hot(labels, int(labels.max()) + 1).permute(0, 3, 1, 2).float()
    assert matching_iou(perfect, labels) == pytest.approx(1.0)
    noise = torch.randn(perfect.shape, generator=torch.Generator().manual_seed(0))
    assert matching_iou(noise, labels) < 0.35
    assert 0 < intensity_score(batch) < 0.9


def test_the_command_hands_its_options_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Path, Path, PretrainSettings]] = []
    monkeypatch.setattr(
        "fewshot_node.pretrain.encoder.pretrain_encoder",
        lambda out, work, settings: calls.append((out, work, settings)),
    )
    arguments = [
        "encoder",
        "--out",
        str(tmp_path),
        "--work",
        str(tmp_path / "w"),
        "--steps",
        "7",
        "--seed",
        "3",
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert calls == [(tmp_path, tmp_path / "w", PretrainSettings(steps=7, seed=3))]
