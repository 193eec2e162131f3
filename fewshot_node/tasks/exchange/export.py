"""A published revision -> one file."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fewshot_node import __version__
from fewshot_node.disk import whole_file
from fewshot_node.errors import TaskError
from fewshot_node.tasks.exchange.archive import MANIFEST, REVISION, SIGNATURE, is_member, write_archive
from fewshot_node.tasks.exchange.manifest import Manifest, Member
from fewshot_node.tasks.exchange.signature import SigningKey
from fewshot_node.tasks.registry import Registry
from fewshot_node.tasks.revision import IMPORTED

_TEMPLATES = "templates/"


@dataclass(frozen=True, slots=True)
class Exported:
    """A file that was written.

    Attributes
    ----------
    templates
        How many annotated examples, slices of patients' images, are in it.
    sha256
        Of the file.
    signed_by
        Fingerprint of the key; None when it was not signed.
    """

    task: str
    revision: int
    digest: str
    templates: int
    bytes: int
    sha256: str
    signed_by: str | None


def export_task(
    registry: Registry,
    task: str,
    out: Path,
    *,
    revision: int | None = None,
    templates: bool = True,
    key: SigningKey | None = None,
) -> Exported:
    """Write one revision of a task, the live one by default, into a file.

    The same revision gives the same bytes, signed or not.

    Parameters
    ----------
    templates
        Whether the annotated examples go with it. A revision runs without them: the adapter's weights are enough.

    Raises
    ------
    UnknownTaskError
        There is no such task or revision.
    TaskError
        Nothing is published yet, or the revision was altered.
    """
    published = registry.published(task, revision)
    found = _files(published.folder, templates=templates)
    manifest = Manifest(
        task=task,
        revision=published.revision,
        digest=published.digest,
        templates=any(name.startswith(_TEMPLATES) for name in found),
        made_by=f"fewshot-node {__version__}",
        files={REVISION + name: _member(path) for name, path in found.items()},
    ).encode()
    members: dict[str, bytes | Path] = {MANIFEST: manifest}
    if key is not None:
        members[SIGNATURE] = key.sign(manifest)
    members |= {REVISION + name: path for name, path in found.items()}
    with whole_file(out) as path:
        write_archive(path, members)
    return Exported(
        task=task,
        revision=published.revision,
        digest=published.digest,
        templates=sum(name.startswith(_TEMPLATES) and name.endswith(".json") for name in found),
        bytes=out.stat().st_size,
        sha256=_member(out).sha256,
        signed_by=None if key is None else key.fingerprint,
    )


def _files(folder: Path, *, templates: bool) -> dict[str, Path]:
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    wanted = [name for name in names if name != IMPORTED and (templates or not name.startswith(_TEMPLATES))]
    foreign = [name for name in wanted if not is_member(REVISION + name)]
    if foreign:
        raise TaskError(f"{folder / foreign[0]} is no part of a task that can be exported: remove or rename it")
    return {name: folder / name for name in wanted}


def _member(path: Path) -> Member:
    with path.open("rb") as file:
        return Member(bytes=path.stat().st_size, sha256=hashlib.file_digest(file, "sha256").hexdigest())
