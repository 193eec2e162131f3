"""``fewshot-node pretrain``: learn encoders without labels."""

import logging
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(help="Learn encoders without labels.", no_args_is_help=True)

Out = Annotated[Path, typer.Option(help="Folder of the model, written at every checkpoint.")]
Work = Annotated[Path, typer.Option(help="Folder of the run's state; the same command resumes there.")]
Steps = Annotated[int | None, typer.Option(min=1, help="Optimiser steps in all.")]
LearningRate = Annotated[float | None, typer.Option(min=0.0, help="Peak rate.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed of everything random.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads.")]
CheckpointEvery = Annotated[float | None, typer.Option(min=0.0, help="Seconds between checkpoints.")]

_PLACES = ("out", "work")
"""The other options of a command are fields of its model's settings, by their names."""


@app.callback()
def _pretrain() -> None:
    """Learn encoders without labels; an option that is not given has the packaged encoder's value."""


@app.command()
def encoder(
    context: typer.Context,
    out: Out,
    work: Work,
    steps: Steps = None,
    batch_pairs: Annotated[int | None, typer.Option(min=1, help="View pairs a step.")] = None,
    image_px: Annotated[int | None, typer.Option(min=64, help="Side of a view.")] = None,
    learning_rate: LearningRate = None,
    seed: Seed = None,
    threads: Threads = None,
    checkpoint_every_s: CheckpointEvery = None,
) -> None:
    """Train an encoder on synthetic images; an option that is not given has the packaged encoder's value."""
    from fewshot_node.pretrain.encoder import PretrainSettings, pretrain_encoder

    _show_log()
    pretrain_encoder(out, work, PretrainSettings(**_given(context)))


@app.command()
def sam(
    context: typer.Context,
    out: Out,
    work: Work,
    steps: Steps = None,
    batch_crops: Annotated[int | None, typer.Option(min=1, help="Crops a step.")] = None,
    image_px: Annotated[int | None, typer.Option(min=64, help="Side of a crop as the model sees it.")] = None,
    learning_rate: LearningRate = None,
    seed: Seed = None,
    threads: Threads = None,
    checkpoint_every_s: CheckpointEvery = None,
) -> None:
    """Train a small SAM on synthetic images; an option that is not given has the packaged model's value."""
    from fewshot_node.pretrain.promptable.settings import PromptableSettings
    from fewshot_node.pretrain.promptable.training import pretrain_promptable

    _show_log()
    pretrain_promptable(out, work, PromptableSettings(**_given(context)))


@app.command()
def universeg(
    context: typer.Context,
    out: Out,
    work: Work,
    steps: Steps = None,
    batch_tasks: Annotated[int | None, typer.Option(min=1, help="Tasks a step.")] = None,
    image_px: Annotated[int | None, typer.Option(min=32, help="Side of an image as the model sees it.")] = None,
    width: Annotated[int | None, typer.Option(min=1, help="Channels of a level.")] = None,
    learning_rate: LearningRate = None,
    seed: Seed = None,
    threads: Threads = None,
    checkpoint_every_s: CheckpointEvery = None,
) -> None:
    """Train a small UniverSeg, a rival to compare with, on the encoder's synthetic images."""
    from fewshot_node.pretrain.universeg.training import UniverSegSettings, pretrain_universeg

    _show_log()
    pretrain_universeg(out, work, UniverSegSettings(**_given(context)))


def _show_log() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")


def _given(context: typer.Context) -> dict[str, Any]:
    """Return the settings that were given on the command line, by their names."""
    return {name: value for name, value in context.params.items() if name not in _PLACES and value is not None}
