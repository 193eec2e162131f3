"""Features kept by what they were made from, so that the same pixels are encoded once.

`diskcache` was considered and not taken: it pickles what it stores, which lets whoever writes into the folder
run code here (CVE-2025-69872, unmended), it is no longer maintained, and it gives values as bytes, where the
features of a volume should be mapped.
"""

import logging
import os
import threading
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fewshot_node.errors import ConfigurationError
from fewshot_node.vision.feature_store import Shape, map_new_file

logger = logging.getLogger(__name__)

Fill = Callable[[NDArray[np.float16]], None]
"""Writes all features into an array of the shape asked for."""

_CHECKSUM_BYTES = 4
_PART = ".part-"
# A process that encodes touches its file all the time; what has lain so long belongs to none.
_ABANDONED_AFTER_S = 3600.0


class FeatureCache(Protocol):
    """Something that keeps features."""

    def fetch(self, key: str, shape: Shape, fill: Fill) -> NDArray[np.float16]:
        """Return the features under a key, made by `fill` where there are none."""
        ...


class MemoryCache:
    """Features in this process's memory; what was asked for longest ago goes first. Safe with threads."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = _checked(limit_bytes)
        self._kept: OrderedDict[str, NDArray[np.float16]] = OrderedDict()
        self._lock = threading.Lock()

    def fetch(self, key: str, shape: Shape, fill: Fill) -> NDArray[np.float16]:
        """See `FeatureCache`; the array is the kept one, read-only."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        features = np.empty(shape, dtype=np.float16)
        fill(features)
        features.flags.writeable = False
        with self._lock:
            self._kept[key] = features
            while sum(one.nbytes for one in self._kept.values()) > self._limit:
                self._kept.popitem(last=False)
        return features


@dataclass(frozen=True, slots=True)
class FolderCache:
    """Features as .npy files of a folder; what was asked for longest ago goes first.

    Several processes may share the folder: a file gets its name when it is complete, and one that goes stays
    readable for who has it mapped. A checksum follows the array in the file; what does not fit it is discarded.

    Attributes
    ----------
    limit_bytes
        Files together take at most this much, once a fetch is over.
    """

    folder: Path
    limit_bytes: int

    def __post_init__(self) -> None:
        _checked(self.limit_bytes)

    def fetch(self, key: str, shape: Shape, fill: Fill) -> NDArray[np.float16]:
        """See `FeatureCache`; the array is mapped, and what one writes into it stays private.

        Raises
        ------
        DiskFullError
            The folder's file system has no room.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        kept = self._read(key, shape)
        return self._make(key, shape, fill) if kept is None else kept

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.npy"

    def _read(self, key: str, shape: Shape) -> NDArray[np.float16] | None:
        path = self._path(key)
        try:
            features = _checked_array(path, shape)
            os.utime(path)  # asked for just now; access times are kept by hardly any file system
        except FileNotFoundError:
            return None
        except (OSError, ValueError, EOFError):
            logger.warning("discarded damaged features %s", path.name)
            path.unlink(missing_ok=True)
            return None
        return features

    def _make(self, key: str, shape: Shape, fill: Fill) -> NDArray[np.float16]:
        part, features = map_new_file(shape, self.folder, _PART)
        try:
            fill(features)
            with part.open("ab") as file:
                file.write(_checksum(features))
            # Mapped before others can remove it, and so that the caller's changes stay the caller's.
            mapped: NDArray[np.float16] = np.load(part, mmap_mode="c", allow_pickle=False)
            part.replace(self._path(key))
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        self._shrink()
        return mapped

    def _shrink(self) -> None:
        """Remove what was used longest ago, and what a killed process left."""
        found: list[tuple[float, int, Path]] = []
        for path in self.folder.glob("*.npy"):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue  # another process has just removed it
            found.append((status.st_mtime, status.st_size, path))
        total = sum(size for _, size, _ in found)
        for used, size, path in sorted(found):
            is_part = path.name.startswith(_PART)
            if is_part and used > time.time() - _ABANDONED_AFTER_S:
                continue  # another process is filling it
            if is_part or total > self.limit_bytes:
                path.unlink(missing_ok=True)
                total -= size


def _checked(limit_bytes: int) -> int:
    if limit_bytes < 1:
        raise ConfigurationError(f"a feature cache of {limit_bytes} bytes holds nothing; give a size above 0")
    return limit_bytes


def _checksum(features: NDArray[np.float16]) -> bytes:
    total = 0
    for one in features:
        total = zlib.crc32(np.ascontiguousarray(one).data, total)
    return total.to_bytes(_CHECKSUM_BYTES, "big")


def _checked_array(path: Path, shape: Shape) -> NDArray[np.float16]:
    """Map a file of the cache.

    Raises
    ------
    ValueError
        It holds no such array, or the array's checksum is another.
    """
    features = np.load(path, mmap_mode="c", allow_pickle=False)
    if features.shape != shape or features.dtype != np.float16:
        raise ValueError("another array than was asked for")
    with path.open("rb") as file:
        file.seek(-_CHECKSUM_BYTES, os.SEEK_END)
        if file.read() != _checksum(features):
            raise ValueError("another checksum")
    mapped: NDArray[np.float16] = features
    return mapped
