"""Published revisions: written once as a whole folder, verified whenever they are read."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from fewshot_node.disk import whole_folder
from fewshot_node.errors import TaskError
from fewshot_node.tasks.codes import with_standard_category
from fewshot_node.tasks.storage import file_digest, folder_digests, read_json, write_json
from fewshot_node.tasks.task import PublishedTask, definition_from_data
from fewshot_node.uids import digest_parts
from fewshot_node.vision.adapters import load_adapter

_MANIFEST = "manifest.json"
_PROVENANCE = "provenance.json"
_TEMPLATES = "templates/"
IMPORTED = "imported.json"
"""Beside a revision that came from another site: from where, when, and whether its templates came too."""
_COPIED = ("definition.json", "fit.json", "adapter.safetensors", "templates")


class _Manifest(BaseModel):
    """What a revision consists of; `digest` covers all files but the time stamps of the provenance."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1]
    task: str
    revision: int
    encoder_digest: str
    refiner_digest: str | None
    files: dict[str, str]
    digest: str

    def computed_digest(self) -> str:
        counted = sorted((name, digest) for name, digest in self.files.items() if name != _PROVENANCE)
        facts = (self.task, self.revision, self.encoder_digest, self.refiner_digest, counted)
        return digest_parts((repr(facts).encode(),))


def write_revision(
    draft: Path, folder: Path, refiner_digest: str | None, noted: Mapping[str, Any] | None = None
) -> str:
    """Copy a fitted draft into a new revision and return its digest; `noted` goes into its provenance.

    Raises
    ------
    FileExistsError
        `folder` exists.
    """
    with whole_folder(folder) as temporary:
        for name in _COPIED:
            source = draft / name
            if source.is_dir():
                shutil.copytree(source, temporary / name, ignore=shutil.ignore_patterns(".*"))
            else:
                shutil.copy(source, temporary / name)
        added = {**read_json(draft / _PROVENANCE), **(noted or {})}
        write_json(temporary / _PROVENANCE, {**added, "published": datetime.now(UTC).isoformat(timespec="seconds")})
        manifest = _Manifest(
            schema_version=1,
            task=draft.parent.name,
            revision=int(folder.name),
            encoder_digest=str(read_json(draft / "fit.json")["encoder_digest"]),
            refiner_digest=refiner_digest,
            files=folder_digests(temporary),
            digest="",
        )
        sealed = manifest.model_copy(update={"digest": manifest.computed_digest()})
        write_json(temporary / _MANIFEST, sealed.model_dump(mode="json"))
        _protect(temporary)
    return sealed.digest


def copy_revision(source: Path, folder: Path) -> str:
    """Copy a revision to another place below the same task, whose number it gets; return its digest there.

    Raises
    ------
    FileExistsError
        `folder` exists.
    """
    with whole_folder(folder) as temporary:
        shutil.copytree(source, temporary, dirs_exist_ok=True)
        return reseal_revision(temporary, folder.parent.parent.name, int(folder.name))


def load_revision(folder: Path) -> PublishedTask:
    """Read a revision and compare every file with the manifest.

    Raises
    ------
    TaskError
        A file was altered, added or removed, or cannot be read.
    """
    try:
        manifest = _Manifest.model_validate(read_json(folder / _MANIFEST))
    except ValidationError as error:
        raise TaskError(f"{folder / _MANIFEST} is no manifest of this version: {_REMEDY}") from error
    _verify(manifest, folder)
    source = folder / "definition.json"
    definition = definition_from_data(read_json(source), str(source))
    return PublishedTask(
        # The file stays as it was sealed; what is written from now on has the category of the standard.
        definition=replace(definition, labels=tuple(with_standard_category(label) for label in definition.labels)),
        revision=manifest.revision,
        digest=manifest.digest,
        adapter=load_adapter(folder / "adapter.safetensors"),
        encoder_digest=manifest.encoder_digest,
        refiner_digest=manifest.refiner_digest,
        folder=folder,
    )


def reseal_revision(folder: Path, task: str, revision: int) -> str:
    """Give a revision that nobody uses yet the name and number that it has here, and let nobody write to it.

    Returns its digest, which stays as it is where both do: the revision then is the same one as at its origin.
    """
    manifest = _Manifest.model_validate(read_json(folder / _MANIFEST))
    if (manifest.task, manifest.revision) != (task, revision):
        manifest = _renamed(manifest, folder, task, revision)
    _protect(folder)
    return manifest.digest


def _renamed(manifest: _Manifest, folder: Path, task: str, revision: int) -> _Manifest:
    definition = read_json(folder / "definition.json")
    write_json(folder / "definition.json", {**definition, "name": task})
    files = {**manifest.files, "definition.json": file_digest(folder / "definition.json")}
    renamed = manifest.model_copy(update={"task": task, "revision": revision, "files": files})
    sealed = renamed.model_copy(update={"digest": renamed.computed_digest()})
    write_json(folder / _MANIFEST, sealed.model_dump(mode="json"))
    return sealed


def _protect(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(0o444)


_REMEDY = "restore the revision from a backup, or publish the task again"


def _verify(manifest: _Manifest, folder: Path) -> None:
    found = folder_digests(folder)
    found.pop(_MANIFEST)
    found.pop(IMPORTED, None)
    stated = manifest.files
    if _came_without_templates(folder):
        stated = {name: digest for name, digest in stated.items() if not name.startswith(_TEMPLATES)}
    differing = sorted(name for name in {*found, *stated} if found.get(name) != stated.get(name))
    if differing:
        raise TaskError(f"{folder} was altered after it was published ({', '.join(differing)}): {_REMEDY}")
    placed = (manifest.task, manifest.revision) == (folder.parent.parent.name, int(folder.name))
    if not placed or manifest.computed_digest() != manifest.digest:
        raise TaskError(f"{folder / _MANIFEST} was altered after it was published: {_REMEDY}")


def _came_without_templates(folder: Path) -> bool:
    """Tell whether a revision is complete without its templates: the adapter's weights are enough to run it."""
    note = folder / IMPORTED
    return note.is_file() and read_json(note).get("templates") is False
