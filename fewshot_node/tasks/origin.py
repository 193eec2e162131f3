"""Where a template came from: who added it, when, from which file and instances, and how."""

import getpass
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from fewshot_node import __version__
from fewshot_node.errors import TaskError
from fewshot_node.tasks.storage import read_json, write_json

_FILE = "provenance.json"
_UNKNOWN_USER = "unknown"


@dataclass(frozen=True, slots=True)
class TemplateOrigin:
    """The history of a template; it names no patient, and a label file by its content and not by its name.

    Attributes
    ----------
    by, at
        Who added it, and when (ISO 8601, UTC).
    tool
        Program and version that read the files.
    images
        How the images came: a folder, the spool, or the PACS and the service.
    format, file_digest
        Of the label file: what it is, and the SHA-256 of its bytes; empty for a series without any label.
    chosen
        How its slices were chosen.
    notes
        What else was done: resampled, labels that reach beyond the series, de-identified.
    study_instance_uid
        Study of the images; empty in a de-identified template.
    """

    by: str = ""
    at: str = ""
    tool: str = ""
    images: str = ""
    format: str = ""
    file_digest: str = ""
    chosen: str = ""
    notes: tuple[str, ...] = ()
    study_instance_uid: str = ""


class _Provenance(BaseModel):
    """The file; drafts of an older version have the times alone."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    templates_added: dict[str, str] = {}
    origins: dict[str, TemplateOrigin] = {}


def read_origins(folder: Path) -> dict[str, TemplateOrigin]:
    """Return the origins of the templates of a draft or a revision, by name.

    Raises
    ------
    TaskError
        Their file was damaged.
    """
    path = folder / _FILE
    if not path.is_file():
        return {}
    try:
        found = _Provenance.model_validate(read_json(path))
    except ValidationError as error:
        raise TaskError(
            f"{path} was damaged: restore it from a backup, or remove it and add the templates again"
        ) from error
    return {name: TemplateOrigin(at=at) for name, at in found.templates_added.items()} | found.origins


def write_origins(folder: Path, origins: Mapping[str, TemplateOrigin]) -> None:
    """Keep the origins of a draft's templates."""
    added = {name: origin.at for name, origin in origins.items()}
    document = _Provenance(templates_added=added, origins=dict(origins))
    write_json(folder / _FILE, document.model_dump(mode="json"))


def tool_version() -> str:
    """Return what made a template."""
    return f"fewshot-node {__version__}"


def now() -> str:
    """Return the present moment, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def operating_user() -> str:
    """Return the account that runs the program."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container may run as a number that no account has
        return f"uid {os.getuid()}" if hasattr(os, "getuid") else _UNKNOWN_USER
