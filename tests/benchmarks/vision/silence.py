"""What refinement by SAM costs on slices where the adapter is silent: a ViT-B of random weights is asked."""

import time

import numpy as np
import torch
from transformers import SamConfig, SamModel

from fewshot_node.records import LabelArray, Localization
from fewshot_node.vision.hub import quiet_transformers
from fewshot_node.vision.prompts import PromptSettings, place_prompts
from fewshot_node.vision.refine import RefineSettings, refine
from fewshot_node.vision.sam import SamEngine, load_sam
from tests.benchmarks.bars import Board

_SLICES, _SIDE, _LOUD = 60, 256, 1
_SETTINGS = RefineSettings(engine="sam", prompts=PromptSettings(strategy="box"))
SHARE = 0.01
"""Of what one slice that is asked about costs: what a silent one may."""


def silent_slices(board: Board) -> None:
    """Refine a volume with no region, and with a region on one slice."""
    torch.manual_seed(0)
    folder = board.scratch / "sam-vit-b"
    with quiet_transformers():
        SamModel(SamConfig()).save_pretrained(folder)
    engine = load_sam(folder)
    silent, loud = (_seconds(engine, count) for count in (0, _LOUD))
    board.detail(f"{_SLICES} silent slices {1000 * silent:.1f} ms; with one that is asked about {loud:.1f} s")
    board.bar("vision-sam-silent-slice-vs-asked", silent / _SLICES / (loud / _LOUD), "<=", SHARE)


def _seconds(engine: SamEngine, loud: int) -> float:
    found = _localization(loud)
    array = np.random.default_rng(0).normal(0, 50, found.label_map.shape).astype(np.float32)
    started = time.perf_counter()
    masks = refine(array, "CT", found, place_prompts(found, _SETTINGS.prompts), engine, _SETTINGS)
    seconds = time.perf_counter() - started
    if loud == 0 and masks.label_map.any():
        raise RuntimeError("silent slices got a label")
    return seconds


def _localization(loud: int) -> Localization:
    label_map: LabelArray = np.zeros((_SLICES, _SIDE, _SIDE), dtype=np.uint8)
    label_map[_SLICES // 2 : _SLICES // 2 + loud, 100:140, 90:150] = 1
    scores = np.zeros((_SLICES, 2, _SIDE // 4, _SIDE // 4), dtype=np.float32)
    scores[:, 1] = np.where(label_map[:, ::4, ::4], 5.0, -5.0)
    return Localization(label_map, scores, (1,))
