"""A frozen SAM-style model, loaded from a folder without pickle and prompted with points."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor
from torch.nn import functional
from transformers import SamConfig, SamModel

from fewshot_node.errors import CheckpointError
from fewshot_node.vision.encode import autocast, best_device
from fewshot_node.vision.hub import hub_snapshot, quiet_transformers, read_json_object

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_WEIGHTS = "model.safetensors"


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedImage:
    """One slice as SAM has seen it.

    `image_shape` is (rows, columns) of the slice, `resized` the same on the model's square input.
    """

    embedding: Tensor
    image_shape: tuple[int, int]
    resized: tuple[int, int]


class SamEngine:
    """SAM's image encoder and mask decoder, with the image handling that belongs to them.

    The image handling is our own: `transformers`' fast image processor needs torchvision, which has no
    place beside a CPU-only torch.

    Attributes
    ----------
    weights_digest
        SHA-256 over the weight files' bytes.
    """

    def __init__(self, model: SamModel, mean: tuple[float, ...], std: tuple[float, ...], weights_digest: str) -> None:
        self.device = best_device()
        loaded: Any = model
        self.model = loaded.eval().requires_grad_(False).to(self.device)
        self.weights_digest = weights_digest
        self._mean, self._std = (torch.tensor(values, device=self.device)[:, None, None] for values in (mean, std))
        self._side = int(loaded.config.vision_config.image_size)

    def embed(self, image: NDArray[np.float32]) -> EmbeddedImage:
        """Encode one slice.

        Parameters
        ----------
        image
            float32 CHW, three channels on 0..1.
        """
        rows, columns = image.shape[1:]
        scale = self._side / max(rows, columns)
        resized = (max(1, round(rows * scale)), max(1, round(columns * scale)))
        with torch.inference_mode(), autocast(self.device):
            pixels = torch.from_numpy(np.ascontiguousarray(image)).to(self.device)[None]
            pixels = functional.interpolate(pixels, resized, mode="bilinear", align_corners=False, antialias=True)
            pixels = (pixels - self._mean) / self._std
            pixels = functional.pad(pixels, (0, self._side - resized[1], 0, self._side - resized[0]))
            embedding = self.model.get_image_embeddings(pixels).float()
        return EmbeddedImage(embedding, (rows, columns), resized)

    def segment(
        self,
        image: EmbeddedImage,
        points_xy: NDArray[np.float32],
        positive: NDArray[np.bool_],
        *,
        multimask: bool = True,
    ) -> NDArray[np.bool_]:
        """Answer several prompts on one slice.

        Parameters
        ----------
        points_xy
            float32 (prompts, points, 2): indices of pixel centres (column, row) of the slice.
        positive
            bool (prompts, points).

        Returns
        -------
        NDArray
            bool (prompts, masks, rows, columns).
        """
        rows, columns = image.image_shape
        scale_xy = np.array([image.resized[1] / columns, image.resized[0] / rows])
        # The prompt encoder adds half a pixel itself.
        points = torch.from_numpy(((points_xy + 0.5) * scale_xy - 0.5).astype(np.float32))
        with torch.inference_mode():
            answer = self.model(
                image_embeddings=image.embedding,
                input_points=points[None].to(self.device),
                input_labels=torch.from_numpy(positive.astype(np.int64))[None].to(self.device),
                multimask_output=multimask,
            )
            logits = functional.interpolate(
                answer.pred_masks[0].float(), (self._side, self._side), mode="bilinear", align_corners=False
            )
            logits = logits[..., : image.resized[0], : image.resized[1]]
            logits = functional.interpolate(logits, image.image_shape, mode="bilinear", align_corners=False)
        masks: NDArray[np.bool_] = (logits > 0).cpu().numpy()
        return masks


def load_sam(source: str | Path, offline: bool = True) -> SamEngine:
    """Load a SAM checkpoint in `transformers`' format.

    Parameters
    ----------
    source
        A folder, or a hub name.
    offline
        Whether a hub name may be looked up in the local cache only.

    Raises
    ------
    CheckpointError
        Nothing is there, or what is there is no SAM checkpoint.
    """
    folder = _resolve(source, offline)
    config = read_json_object(folder / "config.json")
    if config.get("model_type") != "sam":
        raise CheckpointError(
            f"{folder}: model type {config.get('model_type')!r} is not 'sam'; "
            "give a folder that SamModel.save_pretrained wrote"
        )
    if not (folder / _WEIGHTS).is_file():
        raise CheckpointError(
            f"{folder}: no {_WEIGHTS}; convert the checkpoint to safetensors, pickles are never loaded"
        )
    model = _load_model(folder)
    processor = folder / "preprocessor_config.json"
    stated = read_json_object(processor) if processor.is_file() else {}
    mean = tuple(float(value) for value in stated.get("image_mean", _IMAGENET_MEAN))
    std = tuple(float(value) for value in stated.get("image_std", _IMAGENET_STD))
    with (folder / _WEIGHTS).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return SamEngine(model, mean, std, digest)


def _load_model(folder: Path) -> SamModel:
    kind: Any = SamModel
    try:
        with quiet_transformers():
            config = SamConfig.from_pretrained(folder, local_files_only=True)
            loaded: tuple[SamModel, dict[str, Any]] = kind.from_pretrained(
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
    model, report = loaded
    if report["missing_keys"]:
        first = sorted(report["missing_keys"])[0]
        raise CheckpointError(
            f"{folder}: {_WEIGHTS} lacks {len(report['missing_keys'])} weights, first {first}; copy it again"
        )
    return model


def _resolve(source: str | Path, offline: bool) -> Path:
    folder = Path(source)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise CheckpointError(f"{folder}: no config.json; give a folder that SamModel.save_pretrained wrote")
        return folder
    if folder.is_absolute() or len(folder.parts) != 2:
        raise CheckpointError(f"{folder}: no such SAM folder; give an existing folder or a hub name")
    return hub_snapshot(str(source), offline=offline)
