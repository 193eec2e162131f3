"""Where the features of a volume lie: in memory, or mapped from a file of their own."""

import math
import os
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fewshot_node.errors import DiskFullError

Shape = tuple[int, int, int, int]
"""(slices, h, w, channels)."""


def size_in_bytes(shape: Shape) -> int:
    """Return what float16 features of a shape take."""
    return math.prod(shape) * np.dtype(np.float16).itemsize


def allocate(shape: Shape, scratch: Path | None) -> NDArray[np.float16]:
    """Make room for features, in memory without a folder; the caller removes what stands in the folder.

    Raises
    ------
    DiskFullError
        The folder's file system has no room.
    """
    return np.empty(shape, dtype=np.float16) if scratch is None else map_new_file(shape, scratch, "features-")[1]


def map_new_file(shape: Shape, folder: Path, prefix: str) -> tuple[Path, NDArray[np.float16]]:
    """Map a new .npy file of a name that no other process has.

    Raises
    ------
    DiskFullError
        The file system has no room; no file is left.
    """
    with tempfile.NamedTemporaryFile(dir=folder, prefix=prefix, suffix=".npy", delete=False) as file:
        path = Path(file.name)
        try:
            # Now: a mapped file that finds the disk full later kills the process.
            os.posix_fallocate(file.fileno(), 0, size_in_bytes(shape))
        except OSError as error:
            path.unlink()
            message = f"{size_in_bytes(shape) // 2**20} MB of features do not fit into {folder} ({error.strerror})"
            raise DiskFullError(f"{message}: free space there") from error
    return path, np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
