"""Loading UniverSeg without running what is in a file."""

import json
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from fewshot_node.errors import CheckpointError
from fewshot_node.vision.hub import read_json_object
from fewshot_node.vision.universeg.network import UniverSeg

EMBEDDED = "embedded"
EMBEDDED_UNIVERSEG = Path(__file__).parents[1] / "weights" / "universeg"
PUBLISHED_PX = 128
"""Side of the images that the published network was trained on."""

_WEIGHTS, _DESCRIPTION = "model.safetensors", "universeg.json"
_FIRST_OF_LEVEL = re.compile(r"enc_blocks\.(\d+)\.cross\.cross_conv\.bias")
_REMEDY = "give the published checkpoint (universeg_v1_nf64_ss64_STA.pt) or a folder that `pretrain universeg` wrote"


@dataclass(frozen=True, slots=True, eq=False)
class UniverSegModel:
    """A frozen network, and the side in pixels of the images that it was trained on."""

    network: UniverSeg
    image_px: int


def load_universeg(source: str | Path) -> UniverSegModel:
    """Load UniverSeg.

    Parameters
    ----------
    source
        ``"embedded"``, a folder that `save_universeg` wrote, or the published ``.pt`` file.

    Raises
    ------
    CheckpointError
        Nothing is there, or what is there is no UniverSeg checkpoint.
    """
    path = EMBEDDED_UNIVERSEG if str(source) == EMBEDDED else Path(source)
    if not path.is_dir():
        return UniverSegModel(_build(path, _read_published(path)), PUBLISHED_PX)
    image_px = read_json_object(path / _DESCRIPTION).get("image_px")
    if not isinstance(image_px, int) or image_px < 1:
        raise CheckpointError(f"{path / _DESCRIPTION}: image_px is {image_px!r}; {_REMEDY}")
    try:
        tensors = load_file(path / _WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path / _WEIGHTS}: cannot be read; {_REMEDY}") from error
    return UniverSegModel(_build(path, tensors), image_px)


def save_universeg(model: UniverSegModel, folder: Path) -> None:
    """Write a folder that `load_universeg` reads; weights in float16."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.to(torch.float16).contiguous() for name, value in model.network.state_dict().items()}
    save_file(state, folder / _WEIGHTS)
    (folder / _DESCRIPTION).write_text(json.dumps({"image_px": model.image_px}) + "\n")


def _read_published(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such UniverSeg checkpoint; {_REMEDY}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, OSError, EOFError, RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path}: not readable as weights alone; copy it again from its publisher") from error
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError(f"{path}: not a plain mapping of names to weights; {_REMEDY}")
    return content


def _build(path: Path, tensors: Mapping[str, Tensor]) -> UniverSeg:
    """Return a frozen network of the size that the weights' shapes tell."""
    levels = {int(match[1]): len(tensors[match[0]]) for match in map(_FIRST_OF_LEVEL.fullmatch, tensors) if match}
    if len(levels) < 2 or sorted(levels) != list(range(len(levels))):
        raise CheckpointError(f"{path}: no UniverSeg checkpoint, it lacks enc_blocks.*.cross.cross_conv; {_REMEDY}")
    network = UniverSeg([levels[level] for level in sorted(levels)])
    expected = {name: value.shape for name, value in network.state_dict().items()}
    given = {name: value.shape for name, value in tensors.items()}
    wrong = sorted(name for name in expected.keys() | given.keys() if expected.get(name) != given.get(name))
    if wrong:
        raise CheckpointError(f"{path}: {len(wrong)} weights do not fit UniverSeg, first {wrong[0]}; {_REMEDY}")
    network.load_state_dict({name: value.float() for name, value in tensors.items()})
    return network.eval().requires_grad_(False)
