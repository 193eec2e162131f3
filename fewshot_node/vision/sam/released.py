"""Checkpoints as `segment-anything` releases them (``sam_vit_b_01ec64.pth``, MedSAM), for `transformers`' SamModel.

The same network under other names. Renaming its weights needs neither `segment-anything` nor torchvision,
which that package imports and which does not load beside a CPU-only torch.
"""

import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from transformers import SamConfig, SamModel

from fewshot_node.errors import CheckpointError

_REMEDY = "give an original SAM checkpoint with a ViT encoder (sam_vit_b, _l, _h, MedSAM), or a transformers folder"

_DECODER_HEADS = 8
"""Of every released SAM; the only thing that no weight's shape tells."""

_MODULES = (
    (r"image_encoder\.patch_embed\.proj\.", "vision_encoder.patch_embed.projection."),
    (r"image_encoder\.blocks\.(\d+)\.norm([12])\.", r"vision_encoder.layers.\1.layer_norm\2."),
    (r"image_encoder\.blocks\.", "vision_encoder.layers."),
    (r"image_encoder\.neck\.0\.", "vision_encoder.neck.conv1."),
    (r"image_encoder\.neck\.1\.", "vision_encoder.neck.layer_norm1."),
    (r"image_encoder\.neck\.2\.", "vision_encoder.neck.conv2."),
    (r"image_encoder\.neck\.3\.", "vision_encoder.neck.layer_norm2."),
    (r"image_encoder\.", "vision_encoder."),
    (r"prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix", "shared_image_embedding.positional_embedding"),
    (r"prompt_encoder\.point_embeddings\.", "prompt_encoder.point_embed."),
    (r"prompt_encoder\.mask_downscaling\.0\.", "prompt_encoder.mask_embed.conv1."),
    (r"prompt_encoder\.mask_downscaling\.1\.", "prompt_encoder.mask_embed.layer_norm1."),
    (r"prompt_encoder\.mask_downscaling\.3\.", "prompt_encoder.mask_embed.conv2."),
    (r"prompt_encoder\.mask_downscaling\.4\.", "prompt_encoder.mask_embed.layer_norm2."),
    (r"prompt_encoder\.mask_downscaling\.6\.", "prompt_encoder.mask_embed.conv3."),
    (r"mask_decoder\.transformer\.norm_final_attn\.", "mask_decoder.transformer.layer_norm_final_attn."),
    (r"mask_decoder\.transformer\.layers\.(\d+)\.norm(\d)\.", r"mask_decoder.transformer.layers.\1.layer_norm\2."),
    (r"mask_decoder\.output_upscaling\.0\.", "mask_decoder.upscale_conv1."),
    (r"mask_decoder\.output_upscaling\.1\.", "mask_decoder.upscale_layer_norm."),
    (r"mask_decoder\.output_upscaling\.3\.", "mask_decoder.upscale_conv2."),
)
_HEAD = re.compile(r"mask_decoder\.(output_hypernetworks_mlps\.\d+|iou_prediction_head)\.layers\.(\d+)\.(weight|bias)")


def read_released(path: Path) -> tuple[SamConfig, dict[str, Tensor]]:
    """Read a ``.pth`` file's weights, and nothing else that a pickle could hold.

    Returns
    -------
    tuple
        The configuration that the weights' shapes tell, and the state of a `SamModel` of it.

    Raises
    ------
    CheckpointError
        The file is absent, damaged, holds more than weights, or is of another architecture.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such SAM checkpoint; check the path")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, OSError, EOFError, RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path}: not readable as weights alone; copy it again from its publisher") from error
    tensors = _require_tensors(path, content)
    try:
        config = _configuration(tensors)
    except (KeyError, IndexError) as error:
        raise CheckpointError(f"{path}: no original SAM checkpoint, it lacks {error}; {_REMEDY}") from error
    renamed = _rename(tensors, _head_depths(tensors))
    _require_fit(path, config, renamed)
    return config, renamed


def _require_tensors(path: Path, content: object) -> dict[str, Tensor]:
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError(f"{path}: not a plain mapping of names to weights; {_REMEDY}")
    return {str(name): value.float() for name, value in content.items()}


def _require_fit(path: Path, config: SamConfig, renamed: Mapping[str, Tensor]) -> None:
    with torch.device("meta"):
        expected = {name: value.shape for name, value in SamModel(config).state_dict().items()}
    given = {name: value.shape for name, value in renamed.items()}
    wrong = sorted(name for name in expected.keys() | given.keys() if expected.get(name) != given.get(name))
    if wrong:
        raise CheckpointError(f"{path}: {len(wrong)} weights do not fit SAM, first {wrong[0]}; {_REMEDY}")


def _configuration(tensors: Mapping[str, Tensor]) -> SamConfig:
    patch_size = tensors["image_encoder.patch_embed.proj.weight"].shape[-1]
    image_size = tensors["image_encoder.pos_embed"].shape[1] * patch_size
    hidden = tensors["mask_decoder.iou_token.weight"].shape[1]
    prompt = {
        "hidden_size": hidden,
        "image_size": image_size,
        "patch_size": patch_size,
        "mask_input_channels": tensors["prompt_encoder.mask_downscaling.3.weight"].shape[0],
    }
    return SamConfig(
        vision_config=_vision_configuration(tensors, image_size, patch_size),
        prompt_encoder_config=prompt,
        mask_decoder_config=_decoder_configuration(tensors, hidden),
    )


def _vision_configuration(tensors: Mapping[str, Tensor], image_size: int, patch_size: int) -> dict[str, object]:
    layers = _count(tensors, r"image_encoder\.blocks\.(\d+)\.")
    hidden = tensors["image_encoder.pos_embed"].shape[-1]
    # A layer's table of relative positions has 2 n - 1 entries for a window of n patches.
    tables = [tensors[f"image_encoder.blocks.{layer}.attn.rel_pos_h"] for layer in range(layers)]
    windows = [(len(table) + 1) // 2 for table in tables]
    grid = image_size // patch_size
    return {
        "hidden_size": hidden,
        "output_channels": tensors["image_encoder.neck.0.weight"].shape[0],
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // tables[0].shape[1],
        "image_size": image_size,
        "patch_size": patch_size,
        "window_size": min(windows),
        "global_attn_indexes": [layer for layer, window in enumerate(windows) if window == grid],
        "num_pos_feats": tensors["prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"].shape[1],
        "mlp_dim": tensors["image_encoder.blocks.0.mlp.lin1.weight"].shape[0],
    }


def _decoder_configuration(tensors: Mapping[str, Tensor], hidden: int) -> dict[str, object]:
    layer = "mask_decoder.transformer.layers.0"
    return {
        "hidden_size": hidden,
        "mlp_dim": tensors[f"{layer}.mlp.lin1.weight"].shape[0],
        "num_hidden_layers": _count(tensors, r"mask_decoder\.transformer\.layers\.(\d+)\."),
        "num_attention_heads": _DECODER_HEADS,
        "attention_downsample_rate": hidden // tensors[f"{layer}.cross_attn_token_to_image.q_proj.weight"].shape[0],
        "num_multimask_outputs": len(tensors["mask_decoder.mask_tokens.weight"]) - 1,
        "iou_head_depth": _count(tensors, r"mask_decoder\.iou_prediction_head\.layers\.(\d+)\."),
        "iou_head_hidden_dim": tensors["mask_decoder.iou_prediction_head.layers.0.weight"].shape[0],
        # Where the two libraries differ: PyTorch's own default.
        "layer_norm_eps": 1e-5,
    }


def _count(tensors: Mapping[str, Tensor], pattern: str) -> int:
    return 1 + max((int(match[1]) for match in map(re.compile(pattern).match, tensors) if match), default=-1)


def _head_depths(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    depths: dict[str, int] = {}
    for match in filter(None, map(_HEAD.fullmatch, tensors)):
        depths[match[1]] = max(depths.get(match[1], 0), int(match[2]) + 1)
    return depths


def _rename(tensors: Mapping[str, Tensor], depths: Mapping[str, int]) -> dict[str, Tensor]:
    renamed = {_new_name(name, depths): value for name, value in tensors.items()}
    shared = renamed.get("shared_image_embedding.positional_embedding")
    if shared is not None:
        renamed["prompt_encoder.shared_embedding.positional_embedding"] = shared
    return renamed


def _new_name(name: str, depths: Mapping[str, int]) -> str:
    head = _HEAD.fullmatch(name)
    if head:
        module, index, last = head[1], int(head[2]), depths[head[1]] - 1
        place = "proj_in" if index == 0 else "proj_out" if index == last else f"layers.{index - 1}"
        return f"mask_decoder.{module}.{place}.{head[3]}"
    for pattern, replacement in _MODULES:
        new, hits = re.subn(f"^{pattern}", replacement, name)
        if hits:
            return new
    return name
