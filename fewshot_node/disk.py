"""Files and folders that are either whole or not there, and that stay when the power fails."""

import errno
import filecmp
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_FULL = {errno.ENOSPC, errno.EDQUOT}
_OCCUPIED = {errno.ENOTEMPTY, errno.EEXIST}


TEMPORARY_PREFIX = ".tmp-"
"""Of names that hold what is not whole yet; a crash may leave them."""


def is_full(error: OSError) -> bool:
    """Tell whether an error says that a file system, or a quota on it, has no room."""
    return error.errno in _FULL


def sync(path: Path) -> None:
    """Bring a file or a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, each of them durably; one that exists is left as it is."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(exist_ok=True)
    try:
        sync(path.parent)
    except OSError:
        with suppress(OSError):
            path.rmdir()  # else the next call would take it for durable
        raise


def sha256_of(path: Path, offset: int = 0) -> str:
    """Return the SHA-256 hex digest of a file's bytes from an offset on."""
    with path.open("rb") as file:
        file.seek(offset)
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; what is written there replaces `path` when the block ends well."""
    make_folder(path.parent)
    temporary = _beside(path)
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Give an empty folder that becomes `path` when the block ends well.

    Parameters
    ----------
    replace
        Take the place of an existing folder, unless that holds the same bytes. Several processes may do so
        at a time: each of their folders is whole, and the last one stays.

    Raises
    ------
    FileExistsError
        `path` exists and is not to be replaced; it is left as it is.
    """
    make_folder(path.parent)
    temporary = _beside(path)
    temporary.mkdir()
    try:
        yield temporary
        for inside in (*temporary.rglob("*"), temporary):
            sync(inside)
        if replace:
            _swap(temporary, path)
        elif path.exists():
            raise FileExistsError(path)
        else:
            temporary.rename(path)
        sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_folder(path: Path) -> None:
    """Remove a folder so that it is whole or not there at any moment.

    Raises
    ------
    FileNotFoundError
        It is not there.
    """
    aside = _beside(path)
    path.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def _beside(path: Path) -> Path:
    """Return a path on the same file system that no other call has."""
    return path.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}{path.suffix}")


def _swap(new: Path, path: Path) -> None:
    """Put `new` at `path`; what was there is moved aside whole, then removed."""
    while not _same_files(new, path):
        try:
            new.rename(path)
            return
        except OSError as error:
            if error.errno not in _OCCUPIED:
                raise
        with suppress(FileNotFoundError):  # another process was faster
            remove_folder(path)


def _same_files(one: Path, other: Path) -> bool:
    names = _names_inside(one)
    try:
        if not other.is_dir() or _names_inside(other) != names:
            return False
    except FileNotFoundError:  # another process has just moved it aside
        return False
    files = [name for name in names if (one / name).is_file()]
    same, _, _ = filecmp.cmpfiles(one, other, files, shallow=False)
    return len(same) == len(files)


def _names_inside(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))
