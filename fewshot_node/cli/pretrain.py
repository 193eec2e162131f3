"""``fewshot-node pretrain``: learn encoders without labels."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from fewshot_node.pretrain.encoder import PretrainSettings, pretrain_encoder

app = typer.Typer(help="Learn encoders without labels.", no_args_is_help=True)

_DEFAULTS = PretrainSettings()


@app.callback()
def _pretrain() -> None:
    """Learn encoders without labels."""


@app.command()
def encoder(
    out: Annotated[Path, typer.Option(help="Folder of the encoder, written at every checkpoint.")],
    work: Annotated[Path, typer.Option(help="Folder of the run's state; the same command resumes there.")],
    steps: Annotated[int, typer.Option(min=1)] = _DEFAULTS.steps,
    batch_pairs: Annotated[int, typer.Option(min=1)] = _DEFAULTS.batch_pairs,
    image_px: Annotated[int, typer.Option(min=64)] = _DEFAULTS.image_px,
    learning_rate: Annotated[float, typer.Option(min=0.0)] = _DEFAULTS.learning_rate,
    seed: Annotated[int, typer.Option(min=0)] = _DEFAULTS.seed,
    threads: Annotated[int, typer.Option(min=1)] = _DEFAULTS.threads,
    checkpoint_every_s: Annotated[float, typer.Option(min=0.0)] = _DEFAULTS.checkpoint_every_s,
) -> None:
    """Train the packaged encoder from synthetic label maps."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    settings = PretrainSettings(
        steps=steps,
        batch_pairs=batch_pairs,
        image_px=image_px,
        learning_rate=learning_rate,
        seed=seed,
        threads=threads,
        checkpoint_every_s=checkpoint_every_s,
    )
    pretrain_encoder(out, work, settings)
