"""The model hub and the transformers library, kept quiet."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers.utils import logging as _untyped_logging
from transformers.utils.hub import cached_file

from fewshot_node.errors import CheckpointError

_logging: Any = _untyped_logging


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' bars and warnings off stderr, and restore its settings afterwards."""
    verbosity, bars = _logging.get_verbosity(), _logging.is_progress_bar_enabled()
    _logging.set_verbosity_error()
    _logging.disable_progress_bar()
    try:
        yield
    finally:
        _logging.set_verbosity(verbosity)
        if bars:
            _logging.enable_progress_bar()


def hub_snapshot(name: str, *, offline: bool) -> Path:
    """Return the local folder of a hub model, downloaded unless ``offline``; it holds safetensors.

    Raises
    ------
    CheckpointError
        Neither the local cache nor, where it may be asked, the hub has such a model.
    """
    try:
        config = cached_file(name, "config.json", local_files_only=offline)
        cached_file(name, "model.safetensors", local_files_only=offline)
        cached_file(
            name,
            "preprocessor_config.json",
            local_files_only=offline,
            _raise_exceptions_for_missing_entries=False,
        )
    except (OSError, ValueError) as error:
        where = "in the local cache" if offline else "on the hub"
        raise CheckpointError(
            f"{name}: no such folder, and no config.json with model.safetensors {where}; "
            "download the model and give its folder, or allow the hub"
        ) from error
    if config is None:
        raise CheckpointError(f"{name}: the hub has no config.json; give a model folder")
    return Path(config).parent


def model_folder(source: str | Path, kind: str, *, offline: bool) -> Path:
    """Return the folder that a path or a hub name stands for; `kind` says in the error what it should hold.

    Raises
    ------
    CheckpointError
        There is no such folder, and the hub has none.
    """
    folder = Path(source)
    if folder.is_dir():
        return folder
    if folder.is_absolute() or len(folder.parts) != 2:
        raise CheckpointError(f"{folder}: no such {kind} folder; give an existing folder or a hub name")
    return hub_snapshot(str(source), offline=offline)


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a model folder's JSON file.

    Raises
    ------
    CheckpointError
        It is absent, not JSON, or not an object.
    """
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not readable as JSON; copy the model folder again") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: not a JSON object; copy the model folder again")
    return content
