"""Templates on disk: arrays as safetensors, everything else as JSON beside them."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from fewshot_node.disk import whole_file
from fewshot_node.errors import TaskError
from fewshot_node.tasks.points import LandmarkPoint
from fewshot_node.tasks.storage import read_json, write_json
from fewshot_node.tasks.templates import Template

_ARRAYS = ("array", "label_map", "intensity_sample")


class _TemplateDocument(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1]
    name: str
    series_instance_uid: str
    modality: str
    points: tuple[LandmarkPoint, ...]
    spacing_mm: tuple[float, float, float]
    orientation: str | None
    slice_indices: tuple[int, ...]
    instance_uids: tuple[str, ...]
    digest: str


def save_template(template: Template, folder: Path) -> None:
    """Write ``NAME.safetensors``, then ``NAME.json``, which makes the template exist."""
    facts = asdict(template)
    del facts["origin"]  # it is no part of what is learnt from: the registry keeps it with the task
    arrays = {key: facts.pop(key) for key in _ARRAYS}
    with whole_file(folder / f"{template.name}.safetensors") as path:
        save_file(arrays, path)
    document = _TemplateDocument(schema_version=1, digest=template.digest(), **facts)
    write_json(folder / f"{template.name}.json", document.model_dump(mode="json"))


def load_template(folder: Path, name: str) -> Template:
    """Read a template and compare it with its digest.

    Raises
    ------
    TaskError
        A file is absent, unreadable or altered.
    """
    try:
        document = _TemplateDocument.model_validate(read_json(folder / f"{name}.json"))
        arrays = load_file(folder / f"{name}.safetensors")
        facts: dict[str, Any] = {key: getattr(document, key) for key in _TemplateDocument.model_fields}
        facts |= {key: arrays[key] for key in _ARRAYS}
        stated = facts.pop("digest")
        del facts["schema_version"]
        template = Template(**facts)
    except (OSError, SafetensorError, ValidationError, KeyError, ValueError) as error:
        raise TaskError(f"template {name} in {folder} cannot be read: remove it and add it again") from error
    if template.digest() != stated:
        raise TaskError(f"template {name} in {folder} was altered after it was added: remove it and add it again")
    return template


def template_names(folder: Path) -> tuple[str, ...]:
    """Return the names of the templates in a folder, sorted."""
    return tuple(sorted(path.stem for path in folder.glob("*.json") if not path.name.startswith(".")))


def remove_template(folder: Path, name: str) -> None:
    """Delete a template's files."""
    for suffix in (".json", ".safetensors"):
        (folder / f"{name}{suffix}").unlink(missing_ok=True)
