"""Fitted adapters as safetensors files: tensors, and settings as JSON in the file's metadata."""

import json
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fewshot_node.errors import CheckpointError, TaskError
from fewshot_node.uids import digest_parts
from fewshot_node.vision.adapters.basic import BasicAdapter
from fewshot_node.vision.adapters.contrastive import ContrastiveAdapter
from fewshot_node.vision.adapters.support import Adapter, AdapterSettings

FORMAT = "fewshot-adapter/1"

_KINDS: dict[str, type[BasicAdapter] | type[ContrastiveAdapter]] = {
    "basic": BasicAdapter,
    "contrastive": ContrastiveAdapter,
}
_REMEDY = "publish the task again, or restore the file from a backup"


def save_adapter(adapter: Adapter, path: Path) -> None:
    """Write an adapter; nothing in the file is executable."""
    metadata = {
        "format": FORMAT,
        "settings": json.dumps(asdict(adapter.settings), sort_keys=True),
        "label_values": json.dumps(list(adapter.label_values)),
    }
    save_file({name: value.contiguous() for name, value in adapter.tensors().items()}, path, metadata)


def load_adapter(path: Path) -> Adapter:
    """Read an adapter that `save_adapter` wrote.

    Raises
    ------
    CheckpointError
        The file is absent, truncated, changed, or something else.
    """
    metadata, tensors = _read(path)
    if metadata.get("format") != FORMAT:
        raise CheckpointError(f"{path}: format {metadata.get('format')!r}, expected {FORMAT!r}; {_REMEDY}")
    try:
        settings = TypeAdapter(AdapterSettings).validate_json(metadata["settings"])
        label_values = TypeAdapter(tuple[int, ...]).validate_json(metadata["label_values"])
        return _KINDS[settings.name].from_tensors(settings, label_values, tensors)
    except (KeyError, RuntimeError, ValidationError, TaskError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(f"{path}: its metadata and tensors disagree ({reason}); {_REMEDY}") from error


def adapter_digest(adapter: Adapter) -> str:
    """Digest of everything that decides an adapter's scores; the same on every machine that loads it."""
    parts = [json.dumps(asdict(adapter.settings), sort_keys=True).encode(), repr(adapter.label_values).encode()]
    for name, value in sorted(adapter.tensors().items()):
        parts += [name.encode(), str(value.dtype).encode(), repr(tuple(value.shape)).encode()]
        parts.append(value.contiguous().numpy().tobytes())
    return digest_parts(parts)


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: not readable as an adapter ({error}); {_REMEDY}") from error
