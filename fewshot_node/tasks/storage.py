"""JSON files of the tasks, and digests that tell whether files were altered."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fewshot_node.disk import whole_file
from fewshot_node.errors import TaskError
from fewshot_node.uids import digest_parts


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    TaskError
        The file is absent or holds something else.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise TaskError(f"{path} cannot be read as JSON: restore it from a backup, or make the task anew") from error
    if not isinstance(data, dict):
        raise TaskError(f"{path} holds no JSON object: restore it from a backup, or make the task anew")
    return data


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write a JSON object; a reader sees the old file or the new one, never a part."""
    text = json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def file_digest(path: Path) -> str:
    """Return the SHA-256 hex digest of a file's content.

    The order of the keys in a safetensors header is not fixed, so there the header counts by its content.
    """
    content = path.read_bytes()
    if path.suffix != ".safetensors":
        return hashlib.sha256(content).hexdigest()
    end = 8 + int.from_bytes(content[:8], "little")
    try:
        header = json.dumps(json.loads(content[8:end]), sort_keys=True).encode()
    except ValueError:
        header = content[8:end]
    return digest_parts((header, content[end:]))


def folder_digests(folder: Path) -> dict[str, str]:
    """Return the digest of every file in a folder, by its path inside, in a fixed order."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in files}
