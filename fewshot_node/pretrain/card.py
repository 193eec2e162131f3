"""The card that goes with a trained encoder: data, cost and scores, as measured."""

import itertools
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import torch
import transformers

_TEXT = """# Embedded encoder

A plain-convolution ResNet ({depth} blocks a stage) for grey images, `transformers`' `ResNetBackbone`.
Its four stage maps are layer-normalised, brought to stride 4 and projected to {embedding_dim} dimensions.
Written by `fewshot-node pretrain encoder`; weights in float16, no pickle.

## Data
No image of a patient and no label of a person: random label maps (layers, organs, vessels, bones,
vertebra-like chains, landmark-sized structures; {map_px} x {map_px}), each in two variants as of two
patients, painted with random CT-like and MR-like intensities, texture, blur, bias field, gamma and noise. Seed {seed}.

## Training
Supervised contrastive loss over class-balanced points of two views ({image_px} x {image_px}), plus
{place_weight} x a place-correspondence loss; AdamW, peak rate {learning_rate}, bf16 autocast.

| what | measured |
|---|---|
| steps | {step} of {steps}{replanned} |
| view pairs a step | {batch_pairs} |
| wall time | {wall_min:.1f} min ({s_per_step:.2f} s a step, the machine shared with other work) |
| processor time | {cpu_min:.1f} min, at most {threads} threads |
| written | {written} |
| torch, transformers | {torch}, {transformers} |

## Held-out score
One prototype a label from the first view of {held_out_pairs} unseen synthetic pairs; the second view's
cells take the nearest one. Mean IoU over the labels that both views show. It says that learning worked,
not how well a clinical task goes: for that, see the evaluation on real suites.

| features | step | IoU | training loss since the row above |
|---|---|---|---|
| raw intensity | - | {intensity_iou:.4f} | - |
{rows}
"""


def encoder_card(settings: Mapping[str, Any], done: Mapping[str, Any]) -> str:
    """Return the card in Markdown, from the settings and the progress of a run."""
    rows = [_score_row(*score) for score in done["scores"]]
    return _TEXT.format(
        **settings,
        **run_figures(done),
        intensity_iou=done["baselines"]["intensity"],
        rows="\n".join(rows),
    )


def run_figures(done: Mapping[str, Any]) -> dict[str, Any]:
    """Return what every card says of its run: steps, time, when it was written, by what."""
    return {
        "step": done["step"],
        "replanned": _replanned(done["plans"]),
        "wall_min": done["wall_s"] / 60,
        "cpu_min": done["cpu_s"] / 60,
        "s_per_step": done["wall_s"] / max(1, done["step"]),
        "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def _replanned(plans: Sequence[tuple[int, int]]) -> str:
    """Say where a run was given another end: its learning rates are then not those of one unbroken run."""
    changes = [f"; planned for {before} until step {step}" for (_, before), (step, _) in itertools.pairwise(plans)]
    return "".join(changes)


def _score_row(step: int, iou: float, loss: float) -> str:
    if step == 0:
        return f"| this network, untrained | 0 | {iou:.4f} | - |"
    return f"| this network | {step} | {iou:.4f} | {loss:.4f} |"
