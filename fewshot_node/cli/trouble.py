"""What the file system refuses, said as one message with its remedy."""

import errno
import os
import re
from pathlib import Path

from safetensors import SafetensorError

_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_FULL = {errno.ENOSPC, errno.EDQUOT}
_OS_ERROR = re.compile(r"\(os error (\d+)\)")


def underlying_os_error(error: OSError | SafetensorError) -> OSError | None:
    """Return what the operating system said; the writer of weights hides it in its text."""
    if isinstance(error, OSError):
        return error
    found = _OS_ERROR.search(str(error))
    return OSError(int(found[1]), os.strerror(int(found[1]))) if found else None


def describe_os_error(error: OSError, home: Path) -> str:
    """Return a message that names the path and the remedy; writing to a full disk gives no path, so `home`."""
    path = error.filename or (home if error.errno in _FORBIDDEN | _FULL else None)
    what = f"{path}: {error.strerror}" if path is not None else str(error)
    if error.errno in _FULL:
        return f"{what}: free space there, or set `home` to a folder on a larger disk"
    if error.errno in _FORBIDDEN:
        return f"{what}: give this user access to it, or set `home` to a folder that this user can write to"
    if path is not None:
        return f"{what}: check that path, and `home` ({home})"
    return f"{what}: try again; --verbose shows where it happened"
