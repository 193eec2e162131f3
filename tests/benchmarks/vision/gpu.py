"""Slices a second on a GPU, and which share of its peak that is."""

import os
import time
from collections.abc import Callable

import torch
from transformers import Dinov2Backbone, Dinov2Config, SamConfig, SamModel

from tests.benchmarks.bars import Board

_BATCH, _REPEATS = 32, 5
# DINOv2-S and -B; width, heads.
_SIZES = {"dinov2-s": (384, 6), "dinov2-b": (768, 12)}
PEAK_VARIABLE = "BENCH_GPU_PEAK_TFLOPS"


def gpu(board: Board) -> None:
    """Run encoders at 448 px and SAM-B's image encoder in bfloat16."""
    if not torch.cuda.is_available():
        board.skip("vision-gpu", "no GPU here")
        return
    board.detail(torch.cuda.get_device_name())
    for name, (width, heads) in _SIZES.items():
        config = Dinov2Config(
            hidden_size=width, num_hidden_layers=12, num_attention_heads=heads, image_size=518, patch_size=14
        )
        _report(board, name, Dinov2Backbone(config), torch.rand(_BATCH, 3, 448, 448))
    _report(board, "sam-b", SamModel(SamConfig()).vision_encoder, torch.rand(4, 3, 1024, 1024))


def _report(board: Board, name: str, net: torch.nn.Module, images: torch.Tensor) -> None:
    net, images = net.eval().cuda(), images.cuda()
    with torch.inference_mode(), torch.autocast("cuda", dtype=torch.bfloat16):
        rate = len(images) / _seconds(lambda: net(images))
        work = _operations(lambda: net(images[:1]))
    board.info(f"vision-{name}-slices-per-s", rate)
    peak = float(os.environ.get(PEAK_VARIABLE, "0"))
    remark = f"{100 * rate * work / peak / 1e12:.0f} % of the peak" if peak else f"give {PEAK_VARIABLE} for the share"
    board.info(f"vision-{name}-tflops", rate * work / 1e12, remark)


def _seconds(run: Callable[[], object]) -> float:
    for _ in range(2):
        run()
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(_REPEATS):
        run()
    torch.cuda.synchronize()
    return (time.perf_counter() - started) / _REPEATS


def _operations(run: Callable[[], object]) -> int:
    """Count floating-point operations of one image, two for each multiplication with its addition."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()
