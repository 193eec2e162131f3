"""Frozen networks that turn images into dense features, loaded from folders without pickle."""

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_BACKBONE_MAPPING

from fewshot_node.errors import CheckpointError, ConfigurationError
from fewshot_node.uids import digest_parts
from fewshot_node.vision.hub import model_folder, quiet_transformers, read_json_object
from fewshot_node.vision.layers import LayerJoin, last_layers
from fewshot_node.vision.pyramid import PyramidProjection

EMBEDDED = "embedded"
EMBEDDED_DIRECTORY = Path(__file__).parent / "weights" / "encoder"
FORMAT = "fewshot-encoder/1"

_DESCRIPTION_FILE = "encoder.json"
_PROJECTION_FILE = "projection.safetensors"
# A ConvNeXt checkpoint without its backbone head lacks them; they start as the plain normalisation.
_HARMLESS_WHEN_MISSING = ("hidden_states_norms.",)


@dataclass(frozen=True, slots=True)
class InputScale:
    """What a channel is normalised with: ``(image - mean) / std``, images on 0..1."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def usual(cls, channels: int) -> "InputScale":
        """Return ImageNet's for three channels, -1..1 for any other number."""
        if channels == 3:
            return cls((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        return cls((0.5,) * channels, (0.5,) * channels)


class DenseEncoder(nn.Module):
    """A backbone with dense, L2-normalised features.

    Attributes
    ----------
    in_channels
        Channels of the input image.
    embedding_dim
        Length of a feature vector, D.
    multiple
        Height and width of the input must be multiples of this many pixels.
    image_mean, image_std
        One value a channel, for images on 0..1.
    weights_digest
        SHA-256 over the weight files' bytes; empty for an encoder that was never stored.
    """

    def __init__(
        self,
        backbone: PreTrainedModel,
        scale: InputScale,
        projection: PyramidProjection | LayerJoin | None = None,
        weights_digest: str = "",
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.projection = projection
        self.in_channels = int(backbone.config.num_channels)
        if len(scale.mean) != self.in_channels or len(scale.std) != self.in_channels:
            raise CheckpointError(
                f"{len(scale.mean)} mean and {len(scale.std)} std values for {self.in_channels} channels; "
                "give one of each a channel"
            )
        self.image_mean, self.image_std = scale.mean, scale.std
        channels = _stage_channels(backbone)
        self.embedding_dim = channels[-1] if projection is None else projection.embedding_dim
        patch_size: Any = getattr(backbone.config, "patch_size", None)
        # ConvNeXt's patch is its stem's stride, not the total one.
        is_transformer = patch_size is not None and hasattr(backbone.config, "num_attention_heads")
        self.multiple = patch_size if is_transformer else 32
        self.weights_digest = weights_digest

    @property
    def features_digest(self) -> str:
        """Digest of all that decides the features of an input; empty for an encoder that was never stored."""
        if not self.weights_digest:
            return ""
        config = self.backbone.config.to_json_string(use_diff=False)
        parts = (self.weights_digest, config, repr(self.image_mean), repr(self.image_std), repr(self.projection))
        return digest_parts(part.encode() for part in parts)

    def reading(self, layers: int, join: str = "concatenate") -> "DenseEncoder":
        """Return an encoder of the same weights that reads several of the backbone's last layers.

        Parameters
        ----------
        layers
            Of a transformer its blocks, each after the final norm; of a ResNet or ConvNeXt its stages.
        join
            One of `layers.JOINS`.

        Raises
        ------
        ConfigurationError
            The backbone has fewer, they cannot be joined so, or the encoder mixes its stages itself.
        """
        if isinstance(self.projection, PyramidProjection):
            raise ConfigurationError("encode.layers: this encoder mixes its stages itself; leave it at 1")
        backbone = last_layers(self.backbone, layers)
        scale = InputScale(self.image_mean, self.image_std)
        return DenseEncoder(backbone, scale, LayerJoin(_stage_channels(backbone), join), self.weights_digest).eval()

    def forward(self, images: Tensor) -> Tensor:
        """Encode normalised images.

        Parameters
        ----------
        images
            Float BCHW, already normalised with ``image_mean`` and ``image_std``.

        Returns
        -------
        Tensor
            BDhw, of unit length over D.

        Raises
        ------
        ValueError
            Another number of channels, or a side that is no multiple of `multiple`.
        """
        fits = images.ndim == 4 and images.shape[1] == self.in_channels
        if not fits or any(side % self.multiple for side in images.shape[-2:]):
            raise ValueError(
                f"images must be (B, {self.in_channels}, H, W) with H and W multiples of {self.multiple}, "
                f"not {tuple(images.shape)}"
            )
        maps = self.backbone(images).feature_maps
        features = maps[-1] if self.projection is None else self.projection(maps)
        return functional.normalize(features, dim=1)


def load_encoder(source: str | Path, *, offline: bool = True) -> DenseEncoder:
    """Load a frozen encoder in evaluation mode, float32.

    Parameters
    ----------
    source
        A folder, ``"embedded"`` for the packaged default, or a hub name.
    offline
        Whether a hub name may be looked up in the local cache only.

    Raises
    ------
    CheckpointError
        The folder holds no usable checkpoint, or the name cannot be resolved.
    """
    named = EMBEDDED_DIRECTORY if str(source) == EMBEDDED else source
    folder = model_folder(named, "model", offline=offline)
    _require_checkpoint(folder)
    described = (folder / _DESCRIPTION_FILE).is_file()
    encoder = _load_described(folder) if described else _load_plain(folder)
    return encoder.eval().requires_grad_(False)


def save_encoder(encoder: DenseEncoder, directory: Path, *, half_precision: bool = False) -> None:
    """Write an encoder as a folder that `load_encoder` and, for its backbone, ``AutoBackbone`` can read.

    Half precision halves the files; loading returns to float32.
    """
    directory.mkdir(parents=True, exist_ok=True)
    dtype = torch.float16 if half_precision else torch.float32
    with quiet_transformers():
        # A copy: the caller's encoder keeps its precision.
        stored: Any = copy.deepcopy(encoder.backbone)
        stored.to(dtype).save_pretrained(directory)
    if not isinstance(encoder.projection, PyramidProjection):
        scale = {"image_mean": list(encoder.image_mean), "image_std": list(encoder.image_std)}
        (directory / "preprocessor_config.json").write_text(json.dumps(scale, indent=2) + "\n")
        return
    tensors = {name: value.to(dtype).contiguous() for name, value in encoder.projection.state_dict().items()}
    save_file(tensors, directory / _PROJECTION_FILE)
    description = {
        "format": FORMAT,
        "stride": 4,
        "stages": _stages(encoder.backbone),
        "embedding_dim": encoder.embedding_dim,
        "input": {
            "channels": encoder.in_channels,
            "range": [0.0, 1.0],
            "mean": list(encoder.image_mean),
            "std": list(encoder.image_std),
        },
    }
    (directory / _DESCRIPTION_FILE).write_text(json.dumps(description, indent=2) + "\n")


def _stage_channels(backbone: PreTrainedModel) -> list[int]:
    return [int(count) for count in cast(Any, backbone).channels]


def _stages(backbone: PreTrainedModel) -> list[str]:
    return [str(name) for name in cast(Any, backbone).out_features]


def _require_checkpoint(folder: Path) -> None:
    missing = [] if (folder / "config.json").is_file() else ["config.json"]
    if not (folder / "model.safetensors").is_file() and not (folder / "model.safetensors.index.json").is_file():
        missing.append("model.safetensors")
    if not missing:
        return
    pickled = sorted(path.name for path in folder.glob("*.bin")) + sorted(path.name for path in folder.glob("*.pt*"))
    remedy = "give a folder written by transformers' save_pretrained"
    if pickled and missing == ["model.safetensors"]:
        remedy = f"it holds {', '.join(pickled)}, a pickle, which is never loaded: convert it to safetensors"
    raise CheckpointError(f"{folder}: no {' and no '.join(missing)}; {remedy}")


def _digest(folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        total.update(path.read_bytes())
    return total.hexdigest()


def _load_backbone(folder: Path, stages: Sequence[str] | None) -> PreTrainedModel:
    """Load a backbone that gives these stages; None is all of them but what enters the first."""
    with quiet_transformers():
        try:
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
            if type(config) not in MODEL_FOR_BACKBONE_MAPPING:
                raise CheckpointError(f"{folder}: {config.model_type} is no backbone; give a DINOv2, ResNet or alike")
            # What AutoBackbone does, without its question to the hub whether a local path is a repository.
            model_class: Any = MODEL_FOR_BACKBONE_MAPPING[type(config)]
            backbone, report = model_class.from_pretrained(
                folder,
                out_features=list(stages or config.stage_names[1:]),
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
            )
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise CheckpointError(f"{folder}: not loadable as a backbone ({reason}); copy it again") from error
    lost = sorted(key for key in report["missing_keys"] if not key.startswith(_HARMLESS_WHEN_MISSING))
    if lost:
        raise CheckpointError(f"{folder}: the weights lack {lost[0]} and {len(lost) - 1} others; copy it again")
    return cast(PreTrainedModel, backbone)


def _load_plain(folder: Path) -> DenseEncoder:
    # Loaded with all its stages, for a ConvNeXt makes its norms then, and read at the last.
    backbone = last_layers(_load_backbone(folder, None), 1)
    path = folder / "preprocessor_config.json"
    stated = read_json_object(path) if path.is_file() else {}
    usual = InputScale.usual(int(backbone.config.num_channels))
    mean, std = stated.get("image_mean", usual.mean), stated.get("image_std", usual.std)
    scale = InputScale(tuple(float(value) for value in mean), tuple(float(value) for value in std))
    return DenseEncoder(backbone, scale, weights_digest=_digest(folder))


def _load_described(folder: Path) -> DenseEncoder:
    path = folder / _DESCRIPTION_FILE
    description = read_json_object(path)
    if description.get("format") != FORMAT:
        stated = description.get("format")
        raise CheckpointError(f"{path}: format {stated!r}, expected {FORMAT!r}; update fewshot-node")
    if not (folder / _PROJECTION_FILE).is_file():
        raise CheckpointError(f"{folder}: no {_PROJECTION_FILE}, which {path.name} calls for; copy the folder again")
    try:
        backbone = _load_backbone(folder, description["stages"])
        projection = PyramidProjection(_stage_channels(backbone), int(description["embedding_dim"]))
        tensors = load_file(folder / _PROJECTION_FILE)
        projection.load_state_dict({name: value.float() for name, value in tensors.items()})
        scale = InputScale(tuple(description["input"]["mean"]), tuple(description["input"]["std"]))
    except (KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"{path}: disagrees with the weights beside it ({error}); copy the folder again"
        ) from error
    return DenseEncoder(backbone, scale, projection, _digest(folder))
