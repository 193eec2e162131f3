"""A file with a revision -> a revision of this site's registry, whole or not at all, and never live by itself."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fewshot_node.config import ExchangeSettings
from fewshot_node.disk import TEMPORARY_PREFIX, make_folder, whole_folder
from fewshot_node.errors import ArchiveError, PermanentError, TaskError
from fewshot_node.tasks.exchange.archive import MANIFEST, REVISION, SIGNATURE, Archive, open_archive
from fewshot_node.tasks.exchange.manifest import Manifest, decode_manifest
from fewshot_node.tasks.exchange.signature import fingerprint, read_trusted, same_key, signer
from fewshot_node.tasks.exchange.waiting import import_folder, revision_folders
from fewshot_node.tasks.origin import now, operating_user
from fewshot_node.tasks.registry import Registry
from fewshot_node.tasks.revision import IMPORTED, load_revision, reseal_revision
from fewshot_node.tasks.storage import read_json, write_json
from fewshot_node.tasks.task import TaskDefinition, check_name
from fewshot_node.tasks.template_store import load_template, template_names

_DRAFT_FILES = ("provenance.json", "fit.json", "adapter.safetensors")


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import came to.

    Attributes
    ----------
    task, revision
        Where the revision is now.
    digest
        Of the revision as it is here; another one than at its origin where name or number had to change.
    was_here
        Nothing was imported: this revision is here already.
    signed_by, trusted
        Fingerprint of the key that signed it, if any, and whether it is one of `exchange.trusted_keys`.
    """

    task: str
    revision: int
    digest: str
    templates: bool
    was_here: bool
    signed_by: str | None
    trusted: bool


def import_task(registry: Registry, path: Path, settings: ExchangeSettings, name: str | None = None) -> Imported:
    """Bring in a revision that `export_task` wrote; it takes no series until somebody adopts it (`adopt`).

    A task that is new here gets a draft too, to teach it further.

    Parameters
    ----------
    name
        Name of the task here, if not the one that it has at its origin.

    Raises
    ------
    ArchiveError
        The file is damaged, altered, hostile, of another version, or not signed as the settings ask.
    TaskError
        A task of that name is here that learns something else, or its name is not acceptable.
    """
    if name is not None:
        check_name(name, "task")
    make_folder(registry.root)
    with (
        open_archive(path, settings.max_mb * 2**20) as archive,
        TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=registry.root) as staging,
    ):
        manifest, note = _checked(archive, path, settings)
        target = name or manifest.task
        here = _here_already(registry, target, manifest.digest)
        if here is None:
            staged = _unpacked(archive, manifest, note, Path(staging))
            here = _placed(registry, staged, target)
        revision, digest, was_here = here
    return Imported(target, revision, digest, manifest.templates, was_here, note["signed_by"], note["trusted"])


def _checked(archive: Archive, path: Path, settings: ExchangeSettings) -> tuple[Manifest, dict[str, Any]]:
    """Check manifest and signature; return the manifest, and what is kept of the import."""
    content = archive.document(MANIFEST)
    manifest = decode_manifest(content, str(path))
    _check_members(archive, manifest, path)
    signed_by, trusted = _check_signature(archive, content, path, settings)
    note = {
        "schema_version": 1,
        "imported": now(),
        "imported_by": operating_user(),
        "made_by": manifest.made_by,
        "task": manifest.task,
        "revision": manifest.revision,
        "digest": manifest.digest,
        "templates": manifest.templates,
        "signed_by": signed_by,
        "trusted": trusted,
    }
    return manifest, note


def _check_members(archive: Archive, manifest: Manifest, path: Path) -> None:
    there = {name: size for name, size in archive.sizes.items() if name not in {MANIFEST, SIGNATURE}}
    differing = sorted({*there} ^ {*manifest.files})
    if differing:
        what = "is not in the manifest" if differing[0] in there else "is missing"
        raise ArchiveError(f"{path}: member {differing[0]} {what}: the file was altered; ask the sender for it again")
    for name, member in manifest.files.items():
        if member.bytes != there[name]:
            raise ArchiveError(
                f"{path}: member {name} has {there[name]} bytes, its manifest says {member.bytes}: "
                "the file was altered or cut off; ask the sender for it again"
            )


def _check_signature(
    archive: Archive, manifest: bytes, path: Path, settings: ExchangeSettings
) -> tuple[str | None, bool]:
    """Return the fingerprint of who signed, and whether that key is trusted."""
    trusted = read_trusted(settings.trusted_keys)
    if SIGNATURE not in archive.sizes:
        if settings.require_signature:
            raise ArchiveError(
                f"{path} is not signed, and exchange.require_signature asks for it: "
                "ask the sender to export it with --sign KEY"
            )
        return None, False
    key = signer(manifest, archive.document(SIGNATURE), str(path))
    is_trusted = any(same_key(key, one) for one in trusted)
    if trusted and not is_trusted:
        raise ArchiveError(
            f"{path} is signed with key {fingerprint(key)}, which is none of exchange.trusted_keys: "
            "compare that with the sender on the telephone, and add the sender's public key if it is the same"
        )
    return fingerprint(key), is_trusted


def _unpacked(archive: Archive, manifest: Manifest, note: Mapping[str, Any], staging: Path) -> Path:
    """Unpack a revision where `load_revision` believes it, and read all of it once; return its folder."""
    folder = staging / manifest.task / "revisions" / f"{manifest.revision:04d}"
    (folder / "templates").mkdir(parents=True)
    for name, member in manifest.files.items():
        if archive.unpack(name, folder / name.removeprefix(REVISION)) != member.sha256:
            raise ArchiveError(
                f"member {name} is not what its manifest says: it was altered; ask the sender for it again"
            )
    write_json(folder / IMPORTED, note)
    try:
        revision = load_revision(folder)
        for template in template_names(folder / "templates"):
            load_template(folder / "templates", template)
    except PermanentError as error:
        raise ArchiveError(f"the revision in it cannot be used: {_without(staging, error)}") from error
    if revision.digest != manifest.digest:
        raise ArchiveError("the revision in it has another digest than its manifest says: ask the sender for it again")
    return folder


def _without(staging: Path, error: PermanentError) -> str:
    return str(error).replace(f"{staging}/", "")


def _here_already(registry: Registry, target: str, digest: str) -> tuple[int, str, bool] | None:
    """Return the revision of a task that has this digest, or came from one that has it."""
    for folder in revision_folders(registry.root / target):
        notes = [read_json(path) for path in (folder / "manifest.json", folder / IMPORTED) if path.is_file()]
        if digest in {note.get("digest") for note in notes}:
            return int(folder.name), str(notes[0].get("digest")), True
    return None


def _placed(registry: Registry, staged: Path, target: str) -> tuple[int, str, bool]:
    """Move an unpacked revision to its place; return its number and digest there."""
    task, number = registry.root / target, int(staged.name)
    is_new = target not in registry.names()
    if not is_new:
        _require_same_task(registry.definition(target), load_revision(staged).definition)
        number = max([number, *(int(folder.name) + 1 for folder in revision_folders(task))])
    digest = reseal_revision(staged, target, number)
    try:
        with whole_folder(task if is_new else import_folder(task, number)) as folder:
            if is_new:
                _make_draft(staged, folder / "draft")
            inside = import_folder(folder, number) if is_new else folder
            inside.mkdir(parents=True, exist_ok=True)
            for path in staged.iterdir():
                path.rename(inside / path.name)
    except FileExistsError as error:
        raise TaskError(f"{task} was changed by somebody else meanwhile: import the file again") from error
    return number, digest, False


def _make_draft(revision: Path, draft: Path) -> None:
    """Give a task that is new here a draft: as it was published, or without templates what it learns only."""
    draft.mkdir()
    shutil.copyfile(revision / "definition.json", draft / "definition.json")
    if template_names(revision / "templates"):
        shutil.copytree(revision / "templates", draft / "templates", copy_function=shutil.copyfile)
        for name in _DRAFT_FILES:
            shutil.copyfile(revision / name, draft / name)


def _require_same_task(here: TaskDefinition, there: TaskDefinition) -> None:
    """A revision of a task must give what the task gives."""
    ours = {label.value: label.name for label in here.labels}
    theirs = {label.value: label.name for label in there.labels}
    if (here.kind, ours) != (there.kind, theirs):
        raise TaskError(
            f"a task {here.name} is here already and learns {here.kind} of {_listed(ours)}, the file {there.kind} of "
            f"{_listed(theirs)}: import it under another name (--as NAME)"
        )


def _listed(labels: Mapping[int, str]) -> str:
    return ", ".join(f"{value}={name}" for value, name in labels.items())
