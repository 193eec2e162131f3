"""What the adapters cost beside the encoder, and the printed contrastive head's two forms beside each other."""

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from fewshot_node.records import FeatureMap
from fewshot_node.vision.adapters.concat import pairwise_scores
from fewshot_node.vision.backbone import DenseEncoder, InputScale
from fewshot_node.vision.encode import EncodeSettings, encode
from tests.benchmarks.bars import Board
from tests.benchmarks.vision.scene import Scene, definition, draw_patient, encoder, taught

REFERENCES = 64
HEAD_SHARE, TIMES_FACTORISED, TIMES_BFLOAT16 = 0.2, 20.0, 2.0
_SLICES, _PAIRED_SLICES, _REPEATS = 48, 2, 5


def head(board: Board) -> None:
    """Measure the matching head, all labels, against the encoding of the same slices; others for information."""
    for name, one, input_px, slices in (("embedded", encoder(), 256, 16), ("dinov2-s", dinov2_small(), 448, 3)):
        scene, settings = draw_patient(98, slices), EncodeSettings(input_px=input_px)
        features = _encode(scene, one, settings)
        encoding = _least(partial(_encode, scene, one, settings))
        board.detail(f"{name}, {input_px} px: {1000 * encoding / slices:.1f} ms a slice")
        share = _head_seconds(features, one, input_px, "contrastive") / encoding
        board.bar(f"vision-head-vs-encoder-{name}", share, "<=", HEAD_SHARE)
        for other in ("contrastive-concat", "classification", "context")[: 3 if name == "embedded" else 2]:
            share = _head_seconds(features, one, input_px, other) / encoding
            board.info(f"vision-head-{other}-vs-encoder-{name}", share)


def _head_seconds(features: FeatureMap, one: DenseEncoder, input_px: int, name: str) -> float:
    adapter = taught(definition(input_px, name=name, references=REFERENCES, steps=10), one)
    return _least(partial(adapter.scores, features))


def factorised(board: Board) -> None:
    """Measure ``contrastive-concat`` as it is computed against every pixel paired with every reference."""
    adapter = taught(definition(name="contrastive-concat", references=REFERENCES, steps=10))
    features = _encode(draw_patient(98, _PAIRED_SLICES), encoder(), EncodeSettings())
    quick, paired = _least(lambda: adapter.scores(features)), _least(lambda: pairwise_scores(adapter, features), 1)
    apart = float(np.abs(adapter.scores(features) - pairwise_scores(adapter, features)).max())
    board.detail(f"{1000 * quick:.0f} ms against {1000 * paired:.0f} ms for {_PAIRED_SLICES} slices, {apart:.1g} apart")
    board.bar("vision-factorised-vs-pairwise", paired / quick, ">=", TIMES_FACTORISED)


def bfloat16(board: Board) -> None:
    """Measure both precisions on the packaged encoder and on a DINOv2-S; a bar where the processor has AMX."""
    has_amx = bool(torch.cpu.get_capabilities().get("amx_bf16"))
    for name, one, input_px, slices in (("embedded", encoder(), 256, 16), ("dinov2-s", dinov2_small(), 448, 2)):
        scene = draw_patient(98, slices)
        exact, quick = (
            _least(partial(_encode, scene, one, EncodeSettings(precision=precision, input_px=input_px)))
            for precision in ("float32", "auto")
        )
        if has_amx and name == "dinov2-s":
            board.bar("vision-bf16-vs-fp32", exact / quick, ">=", TIMES_BFLOAT16)
        else:
            board.info(f"vision-bf16-vs-fp32-{name}", exact / quick)
    if not has_amx:
        board.skip("vision-bf16-vs-fp32", "this processor has no AMX")


def dinov2_small() -> DenseEncoder:
    """Return a DINOv2-S of random weights: as slow as the released one."""
    from transformers import Dinov2Backbone, Dinov2Config

    torch.manual_seed(0)
    sizes = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6}
    backbone = Dinov2Backbone(Dinov2Config(**sizes, image_size=518, patch_size=14))
    return DenseEncoder(backbone, InputScale.usual(3)).eval().requires_grad_(False)


def _encode(scene: Scene, one: DenseEncoder, settings: EncodeSettings) -> FeatureMap:
    return encode(scene.array, "CT", one, settings)


def _least(run: Callable[[], object], repeats: int = _REPEATS) -> float:
    """Return the least seconds of some runs: what else the machine does only adds."""
    seconds = []
    for _ in range(repeats + (repeats > 1)):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
