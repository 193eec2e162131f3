"""Fitted adapters as safetensors files: tensors, and settings as JSON in the file's metadata."""

import json
import struct
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fewshot_node.errors import CheckpointError, TaskError
from fewshot_node.uids import digest_parts
from fewshot_node.vision.adapters.kinds import rebuild_adapter
from fewshot_node.vision.adapters.settings import AdapterSettings
from fewshot_node.vision.adapters.support import Adapter

FORMAT = "fewshot-adapter/1"

_LENGTH = struct.Struct("<Q")
_REMEDY = "publish the task again, or restore the file from a backup"


def save_adapter(adapter: Adapter, path: Path) -> None:
    """Write an adapter; nothing in the file is executable."""
    metadata = {
        "format": FORMAT,
        "settings": json.dumps(asdict(adapter.settings), sort_keys=True),
        "label_values": json.dumps(list(adapter.label_values)),
    }
    content = save({name: value.contiguous() for name, value in adapter.tensors().items()}, metadata)
    path.write_bytes(_in_order(content))


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
        return rebuild_adapter(settings, label_values, tensors)
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


def _in_order(content: bytes) -> bytes:
    """Sort the metadata in a safetensors file: the library writes it in another order each time.

    The file starts with the length of its header, uint64, and the header as JSON; blanks behind that keep the
    tensors aligned to 8 bytes (safetensors, "Format").
    """
    end = _LENGTH.size + _LENGTH.unpack_from(content)[0]
    header = json.loads(content[_LENGTH.size : end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _LENGTH.size)
    return _LENGTH.pack(len(text)) + text + content[end:]


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: not readable as an adapter ({error}); {_REMEDY}") from error
