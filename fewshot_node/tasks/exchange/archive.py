"""The file itself: a ZIP of stored members with lower-case names from a short list, and nothing else.

Members are not compressed: the bytes then depend on no version of a compressor, and a small file cannot
unpack to a large one. What is read is held against everything that a ZIP can say beyond that.
"""

import hashlib
import re
import stat
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from fewshot_node.errors import ArchiveError

MANIFEST = "manifest.json"
SIGNATURE = "signature.json"
REVISION = "revision/"

MOST_MEMBERS = 4096
MOST_DOCUMENT_BYTES = 8 * 2**20
"""Of a manifest or a signature."""
_CHUNK_BYTES = 2**20

_FILE = r"(definition|provenance|fit|manifest|crossval)\.json|(adapter|crossval)\.safetensors"
_TEMPLATE = r"templates/[a-z0-9][a-z0-9-]{0,31}\.(json|safetensors)"
_MEMBER = re.compile(rf"{re.escape(MANIFEST)}|{re.escape(SIGNATURE)}|{REVISION}({_FILE}|{_TEMPLATE})", re.ASCII)

_EARLIEST = (1980, 1, 1, 0, 0, 0)
_UNIX, _PLAIN_FILE = 3, (stat.S_IFREG | 0o444) << 16
_END = struct.Struct("<4s4H2LH")
_END_MAGIC = b"PK\5\6"
_ENCRYPTED = 0x1
_ADVICE = "import the file as `task export` wrote it"


def is_member(name: str) -> bool:
    """Tell whether a file may be part of an archive."""
    return _MEMBER.fullmatch(name) is not None


def write_archive(path: Path, members: Mapping[str, bytes | Path]) -> None:
    """Write members in the given order; the same members give the same bytes on every machine.

    Parameters
    ----------
    members
        Name -> content, or a file with the content.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name, date_time=_EARLIEST)
            info.create_system, info.external_attr = _UNIX, _PLAIN_FILE
            archive.writestr(info, content if isinstance(content, bytes) else content.read_bytes())


class Archive:
    """An archive that somebody brought; its directory has been checked, its contents not yet.

    Attributes
    ----------
    sizes
        Name -> bytes, as the archive states them; together not more than the file has.
    """

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self._path = path
        self._archive = archive
        self.sizes = _checked_sizes(path, archive.infolist())

    def document(self, name: str) -> bytes:
        """Return a small member whole.

        Raises
        ------
        ArchiveError
            It is absent, too large or damaged.
        """
        size = self.sizes.get(name)
        if size is None:
            raise ArchiveError(f"{self._path} has no {name}, so it is no exported task: {_ADVICE}")
        if size > MOST_DOCUMENT_BYTES:
            raise ArchiveError(f"{self._path}: {name} has {size} bytes, more than any task needs: do not use this file")
        return b"".join(self._chunks(name))

    def unpack(self, name: str, target: Path) -> str:
        """Write a member to a file that is not there yet; return the SHA-256 hex digest of what was in it.

        Raises
        ------
        ArchiveError
            It is damaged.
        """
        digest = hashlib.sha256()
        with target.open("xb") as file:
            for chunk in self._chunks(name):
                digest.update(chunk)
                file.write(chunk)
        return digest.hexdigest()

    def _chunks(self, name: str) -> Iterator[bytes]:
        try:
            with self._archive.open(name) as member:
                while chunk := member.read(_CHUNK_BYTES):
                    yield chunk
        except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError) as error:
            raise ArchiveError(f"{self._path}: member {name} is damaged: copy or export the file again") from error


@contextmanager
def open_archive(path: Path, most_bytes: int) -> Iterator[Archive]:
    """Open an archive and check its directory before anything of it is believed.

    Raises
    ------
    ArchiveError
        It is no ZIP, larger than `most_bytes`, or has a member that no task has: too many, of an unknown
        name, twice, compressed, encrypted, a link, or longer than the file.
    """
    try:
        size = path.stat().st_size
        if size > most_bytes:
            raise ArchiveError(
                f"{path} has {size} bytes, more than {most_bytes} are taken: raise exchange.max_mb if it is meant"
            )
        _check_end(path, size)
        archive = zipfile.ZipFile(path)
    except OSError as error:
        raise ArchiveError(f"{path} cannot be read ({error.strerror}): check the path") from error
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
        raise ArchiveError(f"{path} is no exported task, or is damaged: copy or export it again") from error
    with archive:
        yield Archive(path, archive)


def _check_end(path: Path, size: int) -> None:
    """Count the members before the directory is read: a directory of millions would fill the memory."""
    with path.open("rb") as file:
        file.seek(max(0, size - _END.size))
        magic, _, _, _, members, _, _, comment = _END.unpack(file.read(_END.size))
    if magic != _END_MAGIC or comment:
        raise ArchiveError(f"{path} does not end like an exported task: copy or export it again")
    if members > MOST_MEMBERS:
        raise ArchiveError(f"{path} has {members} members, a task has at most {MOST_MEMBERS}: do not use this file")


def _checked_sizes(path: Path, members: list[zipfile.ZipInfo]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    if len(members) > MOST_MEMBERS:
        raise ArchiveError(
            f"{path} has {len(members)} members, a task has at most {MOST_MEMBERS}: do not use this file"
        )
    for member in members:
        name = member.orig_filename  # `filename` ends at a NUL
        problem = _problem(name, member, sizes)
        if problem:
            raise ArchiveError(f"{path}: member {name!r} {problem}: {_ADVICE}, and do not trust this one")
        sizes[name] = member.file_size
    if sum(sizes.values()) > path.stat().st_size:
        raise ArchiveError(f"{path} states more bytes than it has (its members overlap): do not use this file")
    return sizes


def _problem(name: str, member: zipfile.ZipInfo, before: Mapping[str, int]) -> str:
    kind = stat.S_IFMT(member.external_attr >> 16)
    problems = {
        "is there twice": name in before,
        "is not a file that a task has": not is_member(name),
        "is a link or another special file": kind not in {0, stat.S_IFREG},
        "is encrypted": bool(member.flag_bits & _ENCRYPTED),
        "is compressed, which an export never does": member.compress_type != zipfile.ZIP_STORED,
        "states two lengths": member.file_size != member.compress_size,
    }
    return next((what for what, holds in problems.items() if holds), "")
