"""``fewshot-node pretrain``: learn encoders without labels."""

import logging
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(help="Learn encoders without labels.", no_args_is_help=True)


@app.callback()
def _pretrain() -> None:
    """Learn encoders without labels; an option that is not given has the packaged encoder's value."""


@app.command()
def encoder(
    out: Annotated[Path, typer.Option(help="Folder of the encoder, written at every checkpoint.")],
    work: Annotated[Path, typer.Option(help="Folder of the run's state; the same command resumes there.")],
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps in all.")] = None,
    batch_pairs: Annotated[int | None, typer.Option(min=1, help="View pairs a step.")] = None,
    image_px: Annotated[int | None, typer.Option(min=64, help="Side of a view.")] = None,
    learning_rate: Annotated[float | None, typer.Option(min=0.0, help="Peak rate.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of everything random.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    checkpoint_every_s: Annotated[float | None, typer.Option(min=0.0, help="Seconds between checkpoints.")] = None,
) -> None:
    """Train an encoder on synthetic images; an option that is not given has the packaged encoder's value."""
    from fewshot_node.pretrain.encoder import PretrainSettings, pretrain_encoder

    given = _given(
        steps=steps,
        batch_pairs=batch_pairs,
        image_px=image_px,
        learning_rate=learning_rate,
        seed=seed,
        threads=threads,
        checkpoint_every_s=checkpoint_every_s,
    )
    pretrain_encoder(out, work, PretrainSettings(**given))


@app.command()
def sam(
    out: Annotated[Path, typer.Option(help="Folder of the model, written at every checkpoint.")],
    work: Annotated[Path, typer.Option(help="Folder of the run's state; the same command resumes there.")],
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps in all.")] = None,
    batch_crops: Annotated[int | None, typer.Option(min=1, help="Crops a step.")] = None,
    image_px: Annotated[int | None, typer.Option(min=64, help="Side of a crop as the model sees it.")] = None,
    learning_rate: Annotated[float | None, typer.Option(min=0.0, help="Peak rate.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of everything random.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    checkpoint_every_s: Annotated[float | None, typer.Option(min=0.0, help="Seconds between checkpoints.")] = None,
) -> None:
    """Train a small SAM on synthetic images; an option that is not given has the packaged model's value."""
    from fewshot_node.pretrain.promptable.settings import PromptableSettings
    from fewshot_node.pretrain.promptable.training import pretrain_promptable

    given = _given(
        steps=steps,
        batch_crops=batch_crops,
        image_px=image_px,
        learning_rate=learning_rate,
        seed=seed,
        threads=threads,
        checkpoint_every_s=checkpoint_every_s,
    )
    pretrain_promptable(out, work, PromptableSettings(**given))


@app.command()
def universeg(
    out: Annotated[Path, typer.Option(help="Folder of the model, written at every checkpoint.")],
    work: Annotated[Path, typer.Option(help="Folder of the run's state; the same command resumes there.")],
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps in all.")] = None,
    batch_tasks: Annotated[int | None, typer.Option(min=1, help="Tasks a step.")] = None,
    image_px: Annotated[int | None, typer.Option(min=32, help="Side of an image as the model sees it.")] = None,
    width: Annotated[int | None, typer.Option(min=1, help="Channels of a level.")] = None,
    learning_rate: Annotated[float | None, typer.Option(min=0.0, help="Peak rate.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of everything random.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    checkpoint_every_s: Annotated[float | None, typer.Option(min=0.0, help="Seconds between checkpoints.")] = None,
) -> None:
    """Train a small UniverSeg, a rival to compare with, on the encoder's synthetic images."""
    from fewshot_node.pretrain.universeg.training import UniverSegSettings, pretrain_universeg

    given = _given(
        steps=steps,
        batch_tasks=batch_tasks,
        image_px=image_px,
        width=width,
        learning_rate=learning_rate,
        seed=seed,
        threads=threads,
        checkpoint_every_s=checkpoint_every_s,
    )
    pretrain_universeg(out, work, UniverSegSettings(**given))


def _given(**options: Any) -> dict[str, Any]:
    """Return the options that were given, and show the run's log."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    return {name: value for name, value in options.items() if value is not None}
