"""The data set of a C-STORE request on its way from the network to a file in the spool."""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from fewshot_node.dicom.spool import Spool
from fewshot_node.errors import DiskFullError, FewshotNodeError, NotDicomError


@dataclass(frozen=True, slots=True)
class ReceivedFile:
    """A received data set as a synced file that still lies in `incoming`."""

    path: Path
    dataset_offset: int
    size: int


class IncomingInstance:
    """Sink that writes one data set to a file of the spool.

    The file is opened, and its File Meta written, with the first bytes. After a failure the rest of the
    data set is read from the network and dropped, so that the association lives on and the request gets
    its status from `finish`.

    Parameters
    ----------
    describe
        Gives the File Meta Information; it may raise NotDicomError.
    """

    def __init__(self, spool: Spool, min_free_bytes: int, describe: Callable[[], bytes]) -> None:
        self._spool = spool
        self._min_free_bytes = min_free_bytes
        self._describe = describe
        self._file: BinaryIO | None = None
        self._path: Path | None = None
        self._offset = 0
        self._problem: FewshotNodeError | None = None

    def write(self, data: memoryview) -> None:
        """Take the next bytes; never raises."""
        if self._problem is not None:
            return
        try:
            with self._spool.writing():
                self._opened().write(data)
        except FewshotNodeError as error:
            self._problem = error
            self.close()  # what is left of a large data set must not keep a full disk full

    def finish(self) -> ReceivedFile:
        """Sync the file to the disk.

        Raises
        ------
        NotDicomError
            There was no data set, or the command's UIDs are none.
        RefusedError
            The disk did not take it; DiskFullError when there is too little room.
        """
        if self._problem is not None:
            raise self._problem
        if self._file is None or self._path is None:
            raise NotDicomError("request without a data set")
        with self._spool.writing():
            self._file.flush()
            os.fsync(self._file.fileno())
            size = self._file.tell()
        self._file.close()
        return ReceivedFile(self._path, self._offset, size)

    def close(self) -> None:
        """Close the file and remove it unless it was moved away."""
        if self._file is not None:
            with suppress(OSError):  # a full disk does not take what is still in the buffer
                self._file.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _opened(self) -> BinaryIO:
        if self._file is None:
            meta = self._describe()
            if self._spool.free_bytes() < self._min_free_bytes:
                raise DiskFullError("less space is free than `min_free_mb`: free some or move `home`")
            self._file, self._path = self._spool.open_incoming()
            self._file.write(meta)
            self._offset = len(meta)
        return self._file
