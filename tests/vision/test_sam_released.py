"""Checkpoints in the format of `segment-anything`, written and answered by that package itself."""

import os
import pickle
import sys
import types
from functools import partial

import numpy as np
import pytest
import torch

from fewshot_node.errors import CheckpointError
from fewshot_node.vision.sam import PromptBatch, load_sam

POINTS = np.array([[[10, 12], [30, 40]], [[3, 4], [5, 6]]], dtype=np.float32)
SIGNS = np.array([[True, False], [True, True]])
BOXES = np.array([[2, 3, 30, 40], [5, 5, 20, 22]], dtype=np.float32)
_TORCHVISION = {
    "torchvision": (),
    "torchvision.ops": (),
    "torchvision.ops.boxes": ("batched_nms", "box_area"),
    "torchvision.transforms": (),
    "torchvision.transforms.functional": ("resize", "to_pil_image"),
}


@pytest.fixture(scope="module")
def modeling():
    """The package's networks; what it imports from torchvision they do not need, and it is not installed."""
    with pytest.MonkeyPatch.context() as patch:
        for name, members in _TORCHVISION.items():
            module = types.ModuleType(name)
            for member in members:
                setattr(module, member, None)
            patch.setitem(sys.modules, name, module)
        return pytest.importorskip("segment_anything.modeling")


@pytest.fixture(scope="module")
def original(modeling):
    """A SAM as `segment-anything` builds it, small and of random weights."""
    torch.manual_seed(0)
    encoder = modeling.ImageEncoderViT(
        img_size=64,
        patch_size=8,
        embed_dim=32,
        depth=3,
        num_heads=4,
        mlp_ratio=4,
        out_chans=32,
        qkv_bias=True,
        use_rel_pos=True,
        global_attn_indexes=[2],
        window_size=3,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
    )
    prompts = modeling.PromptEncoder(
        embed_dim=32, image_embedding_size=(8, 8), input_image_size=(64, 64), mask_in_chans=16
    )
    transformer = modeling.TwoWayTransformer(depth=2, embedding_dim=32, mlp_dim=64, num_heads=8)
    decoder = modeling.MaskDecoder(
        num_multimask_outputs=3, transformer=transformer, transformer_dim=32, iou_head_depth=3, iou_head_hidden_dim=16
    )
    sam = modeling.Sam(encoder, prompts, decoder).eval()
    for parameter in sam.parameters():
        torch.nn.init.normal_(parameter, mean=0.1, std=0.3)
    return sam


@pytest.fixture
def checkpoint(original, tmp_path):
    """Its weights, saved as the released ones are."""
    path = tmp_path / "sam_tiny.pth"
    torch.save(original.state_dict(), path)
    return path


@pytest.mark.parametrize("multimask", [True, False])
def test_answers_are_those_of_the_package_that_wrote_the_checkpoint(original, checkpoint, monkeypatch, multimask):
    monkeypatch.setattr("fewshot_node.vision.encode._has_bfloat16", lambda device: False)
    engine = load_sam(checkpoint)
    image = np.random.default_rng(0).uniform(0, 1, (3, 64, 48)).astype(np.float32)
    masks = torch.randn((2, 32, 32), generator=torch.Generator().manual_seed(1))
    answer = engine.segment(engine.embed(image), PromptBatch(POINTS, SIGNS, BOXES, masks), multimask=multimask)
    with torch.inference_mode():
        (expected,) = original(
            [
                {
                    "image": torch.from_numpy(image * 255),
                    "original_size": (64, 48),
                    "point_coords": torch.from_numpy(POINTS),
                    "point_labels": torch.from_numpy(SIGNS.astype(np.int64)),
                    "boxes": torch.from_numpy(BOXES),
                    "mask_inputs": masks[:, None],
                }
            ],
            multimask_output=multimask,
        )
    scale = float(expected["low_res_logits"].abs().max())
    assert scale > 0.1
    np.testing.assert_allclose(answer.low_res.cpu(), expected["low_res_logits"], atol=1e-4 * scale)
    np.testing.assert_allclose(answer.predicted_iou, expected["iou_predictions"], atol=1e-3)
    assert ((answer.logits > 0) == expected["masks"].numpy()).mean() > 0.999


def test_the_digest_is_of_the_file(checkpoint):
    import hashlib

    assert load_sam(checkpoint).weights_digest == hashlib.sha256(checkpoint.read_bytes()).hexdigest()


class Trace:
    """Unpickling it makes a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return (os.mkdir, (str(self.folder),))


SPOILT = {
    "absent": lambda path, state: path.unlink(),
    "a pickle that runs code": lambda path, state: path.write_bytes(
        pickle.dumps({"image_encoder.pos_embed": Trace(path.parent / "trace")}, protocol=2)
    ),
    "no pickle": lambda path, state: path.write_bytes(b"not a checkpoint"),
    "truncated": lambda path, state: path.write_bytes(path.read_bytes()[:3000]),
    "a list": lambda path, state: torch.save([1, 2], path),
    "nested": lambda path, state: torch.save({"model": state, "epoch": 3}, path),
    "another network": lambda path, state: torch.save({"fc.weight": torch.zeros(2, 2)}, path),
    "a weight is missing": lambda path, state: torch.save(
        {name: value for name, value in state.items() if "upscaling.0.bias" not in name}, path
    ),
    "a weight too many": lambda path, state: torch.save(
        state | {"mask_decoder.hf_token.weight": torch.zeros(1, 32)}, path
    ),
    "a weight of another size": lambda path, state: torch.save(
        state | {"mask_decoder.iou_prediction_head.layers.2.bias": torch.zeros(9)}, path
    ),
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_file_that_is_no_sam_is_refused_by_name(original, checkpoint, how):
    SPOILT[how](checkpoint, original.state_dict())
    with pytest.raises(CheckpointError, match=r"sam_tiny\.pth: .*; "):
        load_sam(checkpoint)
    assert not (checkpoint.parent / "trace").exists()
