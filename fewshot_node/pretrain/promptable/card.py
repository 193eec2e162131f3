"""The card that goes with the promptable model: data, cost and scores, as measured."""

from collections.abc import Mapping
from typing import Any

from fewshot_node.pretrain.card import run_figures
from fewshot_node.vision.prompts import STRATEGIES

_TEXT = """# Embedded promptable model

SAM's architecture, small (`transformers`' `SamModel`): {image_px} x {image_px} px, patches of {patch_px} px,
{layers} layers of width {width}, decoder of width {decoder_width}. It turns points, boxes and coarse masks into masks.
Written by `fewshot-node pretrain sam`; weights in float16, no pickle.

## Data
No image of a patient and no label of a person: crops around structures of random label maps
({map_px} x {map_px}), painted with random CT-like and MR-like intensities, as for the embedded encoder. Coarse masks
are truths brought to a coarse grid with a partly wrong edge; prompts are made by the node's own strategies.
Seed {seed}.

## Training
Cross-entropy and Dice of the best mask, squared error of the predicted IoU; one mask and three by turns; AdamW,
peak rate {learning_rate}, bf16 autocast of the image encoder.

| what | measured |
|---|---|
| steps | {step} of {steps}{replanned} |
| crops a step, regions a crop | {batch_crops}, {regions} |
| wall time | {wall_min:.1f} min ({s_per_step:.2f} s a step) |
| processor time | {cpu_min:.1f} min, at most {threads} threads |
| written | {written} |
| torch, transformers | {torch}, {transformers} |

## Held-out score
Mean IoU of the single answers over regions of {held_out_crops} crops of unseen synthetic maps. The coarse masks
that the prompts were made of have {coarse:.4f}.

| step | {strategies} | training loss since the row above |
|---|{rules}---|
{rows}

## Limits
Synthetic regions only: whether it helps on real images, a task's own cross-validation and the evaluation on real
suites must show. It sees single slices, cropped to a region.
"""


def promptable_card(settings: Mapping[str, Any], done: Mapping[str, Any]) -> str:
    """Return the card in Markdown, from the settings and the progress of a run."""
    return _TEXT.format(
        **settings,
        **run_figures(done),
        coarse=done["baselines"]["coarse"],
        strategies=" | ".join(STRATEGIES),
        rules="---|" * len(STRATEGIES),
        rows="\n".join(_row(*score) for score in done["scores"]),
    )


def _row(step: float, *figures: float) -> str:
    return f"| {step:.0f} | {' | '.join(f'{figure:.4f}' for figure in figures)} |"
