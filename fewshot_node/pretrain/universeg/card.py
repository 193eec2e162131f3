"""The card that goes with the trained UniverSeg: data, cost and scores, as measured."""

from collections.abc import Mapping
from typing import Any

from fewshot_node.pretrain.card import run_figures

_TEXT = """# Embedded UniverSeg

The architecture of UniverSeg (arXiv 2304.06131), small: {levels} levels of {width} channels (the published one has 4 of
64), {image_px} x {image_px} px. It marks in an image what masks of a few other images mark, without being fitted to
them. It is here to be compared with: a rival trained on no more than the embedded encoder was.
Written by `fewshot-node pretrain universeg`; weights in float16, no pickle.

## Data
No image of a patient and no label of a person: random label maps ({map_px} x {map_px}), as for the embedded encoder,
each in as many variants as a task has patients, painted with random CT-like and MR-like intensities. The published
network learnt from 53 sets of real images with labels of people, which nobody could expect of these. Seed {seed}.

## Training
Soft Dice and cross-entropy of one random structure a task; AdamW, peak rate {learning_rate}, bf16 autocast.

| what | measured |
|---|---|
| steps | {step} of {steps}{replanned} |
| tasks a step, examples a task | {batch_tasks}, {fewest_examples} to {most_examples} |
| wall time | {wall_min:.1f} min ({s_per_step:.2f} s a step, the machine shared with other work) |
| processor time | {cpu_min:.1f} min, {threads} thread(s) |
| written | {written} |
| torch | {torch} |

## Held-out score
Mean Dice over {held_out} tasks of unseen synthetic anatomies with {held_out_examples} examples each, queries that lack
the structure left out. The pixels that most of the examples mark, without any network, score {place:.4f}.

| step | Dice | training loss since the row above |
|---|---|---|
{rows}

## Limits
Synthetic structures only; what it does on real images, the evaluation on real suites says. It sees single slices, and
several labels one after the other.{early}
"""
_EARLY = (
    " Training was stopped before its planned end: the network has seen little, and its learning\n"
    "rate had not come down. It shows what so much training gives, not what the method can do."
)


def universeg_card(settings: Mapping[str, Any], done: Mapping[str, Any]) -> str:
    """Return the card in Markdown, from the settings and the progress of a run."""
    return _TEXT.format(
        **settings,
        **run_figures(done),
        early=_EARLY if done["step"] < settings["steps"] else "",
        place=done["baselines"]["place"],
        rows="\n".join(f"| {step:.0f} | {dice:.4f} | {loss:.4f} |" for step, dice, loss in done["scores"]),
    )
