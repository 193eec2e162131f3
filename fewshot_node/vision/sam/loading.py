"""Loading a SAM checkpoint without running what is in it."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from fewshot_node.disk import sha256_of
from fewshot_node.errors import CheckpointError
from fewshot_node.vision.hub import model_folder, quiet_transformers, read_json_object
from fewshot_node.vision.sam.engine import SamEngine
from fewshot_node.vision.sam.families import FAMILIES, Family
from fewshot_node.vision.sam.released import read_released
from fewshot_node.vision.sam.transformers_engine import TransformersSam

EMBEDDED = "embedded"
EMBEDDED_SAM = Path(__file__).parents[1] / "weights" / "sam"

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_WEIGHTS = "model.safetensors"
_RELEASED_SUFFIXES = (".pth", ".pt")


def load_sam(source: str | Path, offline: bool = True) -> SamEngine:
    """Load SAM, SAM-HQ or SAM 2; which one it is, the checkpoint itself says.

    Parameters
    ----------
    source
        ``"embedded"``; a folder in `transformers`' format; a ``.pth`` file as `segment-anything` releases them
        (SAM's own, MedSAM); or a hub name.
    offline
        Whether a hub name may be looked up in the local cache only.

    Raises
    ------
    CheckpointError
        Nothing is there, or what is there is no SAM checkpoint.
    """
    path = Path(source)
    if path.suffix in _RELEASED_SUFFIXES and not path.is_dir():
        return _load_released(path)
    folder = _resolve(source, offline)
    family = _family(folder)
    if not (folder / _WEIGHTS).is_file():
        raise CheckpointError(
            f"{folder}: no {_WEIGHTS}; convert the checkpoint to safetensors, pickles are never loaded"
        )
    model = _load_model(folder, family)
    return TransformersSam(model, family, _stated_scale(folder), sha256_of(folder / _WEIGHTS))


def _load_released(path: Path) -> SamEngine:
    family = FAMILIES["sam"]
    config, tensors = read_released(path)
    model = family.model_class(config)
    model.load_state_dict(tensors)
    return TransformersSam(model, family, _scale(_IMAGENET_MEAN, _IMAGENET_STD), sha256_of(path))


def _family(folder: Path) -> Family:
    kind = read_json_object(folder / "config.json").get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise CheckpointError(
            f"{folder}: model type {kind!r} is none of {', '.join(FAMILIES)}; "
            "give a folder that save_pretrained of SamModel, SamHQModel or Sam2Model wrote"
        )
    return FAMILIES[kind]


def _load_model(folder: Path, family: Family) -> Any:
    try:
        with quiet_transformers():
            config = family.config_class.from_pretrained(folder, local_files_only=True)
            model, report = family.model_class.from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
            )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{folder}: cannot be loaded as SAM ({reason}); copy the folder again") from error
    if report["missing_keys"]:
        first = sorted(report["missing_keys"])[0]
        raise CheckpointError(
            f"{folder}: {_WEIGHTS} lacks {len(report['missing_keys'])} weights, first {first}; copy it again"
        )
    return model


def _stated_scale(folder: Path) -> tuple[Tensor, Tensor]:
    path = folder / "preprocessor_config.json"
    stated = read_json_object(path) if path.is_file() else {}
    return _scale(stated.get("image_mean", _IMAGENET_MEAN), stated.get("image_std", _IMAGENET_STD))


def _scale(mean: Any, std: Any) -> tuple[Tensor, Tensor]:
    return torch.tensor([float(value) for value in mean]), torch.tensor([float(value) for value in std])


def _resolve(source: str | Path, offline: bool) -> Path:
    if str(source) == EMBEDDED:
        if not EMBEDDED_SAM.is_dir():
            raise CheckpointError(
                f"{EMBEDDED_SAM}: this installation holds no embedded SAM; give the folder of a SAM checkpoint, "
                "or install fewshot-node again"
            )
        return EMBEDDED_SAM
    folder = model_folder(source, "SAM", offline=offline)
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder}: no config.json; give a folder that SamModel.save_pretrained wrote")
    return folder
