"""The spool: received instances as files, and the only truth about what was received.

::

    root/incoming/                                              being received; swept at start
    root/series/<Series Instance UID>/<SOP Instance UID>.dcm    stored, File Meta names the calling AE
    root/conflicts/<Series Instance UID>/<SOP Instance UID>.<digest>.dcm

All three lie on one file system, so that a rename is atomic.
"""

import fcntl
import os
import shutil
import tempfile
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

from fewshot_node.dicom.identity import InstanceIdentity, is_uid, read_file_meta, read_identity
from fewshot_node.disk import is_full, make_folder, sha256_of, sync
from fewshot_node.errors import ConfigurationError, DiskFullError, NotDicomError, RefusedError

_CHUNK_BYTES = 2**20


class Placement(StrEnum):
    """What became of a received instance."""

    STORED = "stored"
    IDENTICAL = "identical"
    """Its data set was stored before; nothing is kept twice."""
    CONFLICT = "conflict"
    """Another data set has its SOP Instance UID; this one is kept aside."""


@dataclass(frozen=True, slots=True)
class SpooledSeries:
    """What the spool holds of one series; times are UTC."""

    series_instance_uid: str
    instances: int
    bytes: int
    first_received: datetime
    last_received: datetime


@dataclass(frozen=True, slots=True)
class SeriesOrigin:
    """Where a spooled series came from, as its files say."""

    study_instance_uid: str
    calling_ae_title: str


class Spool:
    """Folder of received instances; one process receives into it, any number read it.

    Raises
    ------
    ConfigurationError
        The folder cannot be made.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._incoming = root / "incoming"
        self._series = root / "series"
        self._conflicts = root / "conflicts"
        self._placing = threading.Lock()
        try:
            for folder in (self._incoming, self._series, self._conflicts):
                make_folder(folder)
        except OSError as error:
            message = f"spool {root} cannot be made ({error.strerror}): choose a writable `home`"
            raise ConfigurationError(message) from error

    @contextmanager
    def receiving(self) -> Iterator[None]:
        """Hold the right to receive into this spool; one process at a time has it.

        Without it a second receiver's sweep would remove what the first is writing.

        Raises
        ------
        ConfigurationError
            Another receiver has it.
        """
        with (self.root / "receiver.lock").open("wb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                message = f"spool {self.root} is used by another receiver: stop it or set another `home`"
                raise ConfigurationError(message) from error
            yield

    def sweep(self) -> int:
        """Remove what an earlier run left unfinished; return how many files and folders.

        None of the files was ever answered with success, so their senders still have them; a folder is a
        series that was being removed, or what conflicted with one that was removed.
        """
        leftovers = [*self._incoming.iterdir(), *self._orphaned_conflicts()]
        for path in leftovers:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        return len(leftovers)

    def free_bytes(self) -> int:
        """Return the room that is left on the spool's file system."""
        return shutil.disk_usage(self.root).free

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Turn the errors of a disk that does not take something into refusals.

        Raises
        ------
        RefusedError
            The file system does not take it; DiskFullError when it is full.
        """
        try:
            yield
        except OSError as error:
            if is_full(error):
                raise DiskFullError(f"spool {self.root}: no space left; free some or move `home`") from error
            message = f"spool {self.root} cannot be written ({error.strerror}): check the disk"
            raise RefusedError(message) from error

    def open_incoming(self) -> tuple[BinaryIO, Path]:
        """Open a new file to receive into."""
        with self.writing():
            descriptor, name = tempfile.mkstemp(suffix=".part", dir=self._incoming)
            return os.fdopen(descriptor, "wb"), Path(name)

    def place(self, incoming: Path, dataset_offset: int, identity: InstanceIdentity) -> Placement:
        """Move a synced incoming file to where it belongs; the move itself is durable on return.

        Raises
        ------
        NotDicomError
            A UID cannot be a path.
        RefusedError
            The file system does not take it; DiskFullError when it is full.
        """
        folder = self._folder(identity.series_instance_uid)
        target = folder / f"{_checked(identity.sop_instance_uid)}.dcm"
        with self.writing():
            placement = None
            while placement is None:  # retention may remove the series between two steps
                placement = self._try_place(incoming, dataset_offset, target)
        return placement

    def series_files(self, series_instance_uid: str) -> tuple[Path, ...]:
        """Return the stored files of a series in the order of their names; none for an unknown series."""
        return tuple(sorted(self._folder(series_instance_uid).glob("*.dcm")))

    def series_instance_uids(self) -> tuple[str, ...]:
        """Return the Series Instance UIDs of everything stored."""
        return tuple(sorted(folder.name for folder in self._series.iterdir() if is_uid(folder.name)))

    def remove_series(self, series_instance_uid: str, instances: int) -> bool:
        """Remove a series that has this many instances, and what conflicted with it; False when it has others.

        It disappears as a whole: what an interrupted removal leaves is swept with what was being received.

        Raises
        ------
        RefusedError
            The file system does not let go of it.
        """
        folder = self._folder(series_instance_uid)
        aside = [self._incoming / f"{uuid.uuid4().hex}.removed" for _ in range(2)]
        with self.writing():
            with self._placing:  # an instance comes either before the count or into a new folder
                if len(self.series_files(series_instance_uid)) != instances:
                    return False
                folder.rename(aside[0])
                # In this order: of a crash in between the next sweep finds a conflict without a series.
                if (self._conflicts / series_instance_uid).is_dir():
                    (self._conflicts / series_instance_uid).rename(aside[1])
            sync(self._series)
            for path in aside:
                shutil.rmtree(path, ignore_errors=True)
        return True

    def series(self, series_instance_uid: str) -> SpooledSeries | None:
        """Return what is stored of a series; None when nothing is."""
        files = [path.stat() for path in self.series_files(series_instance_uid)]
        if not files:
            return None
        times = sorted(datetime.fromtimestamp(file.st_mtime, UTC) for file in files)
        size = sum(file.st_size for file in files)
        return SpooledSeries(series_instance_uid, len(files), size, times[0], times[-1])

    def scan(self) -> Iterator[SpooledSeries]:
        """Yield every stored series."""
        for folder in sorted(self._series.iterdir()):
            spooled = self.series(folder.name) if is_uid(folder.name) else None
            if spooled is not None:
                yield spooled

    def origin(self, series_instance_uid: str) -> SeriesOrigin:
        """Read from a stored file which study a series belongs to and which AE sent it.

        Raises
        ------
        NotDicomError
            The series has no file, or its first file was not written by this node.
        """
        path = next(iter(self.series_files(series_instance_uid)), None)
        if path is None:
            raise NotDicomError(f"series {series_instance_uid} is not in the spool {self.root}")
        meta, dataset_offset = read_file_meta(path)
        identity = read_identity(path, dataset_offset, str(meta.get("TransferSyntaxUID", "")))
        calling_ae_title = str(meta.get("SourceApplicationEntityTitle", "")).strip()
        return SeriesOrigin(identity.study_instance_uid, calling_ae_title)

    def _folder(self, series_instance_uid: str) -> Path:
        return self._series / _checked(series_instance_uid)

    def _orphaned_conflicts(self) -> list[Path]:
        """Return what conflicted with series that are gone: their removal was interrupted."""
        return [folder for folder in self._conflicts.iterdir() if not (self._series / folder.name).exists()]

    def _try_place(self, incoming: Path, dataset_offset: int, target: Path) -> Placement | None:
        """Place a file; None when what it was compared with has gone meanwhile."""
        with self._placing:
            stored_before = target.exists()
            if not stored_before:
                _move(incoming, target)
        if not stored_before:
            sync(target.parent)
            return Placement.STORED
        try:
            is_same = _same_dataset(incoming, dataset_offset, target)
            if is_same:
                sync(target.parent)  # the first one's sync may have failed, or not be done yet
        except (FileNotFoundError, NotDicomError):
            if target.exists():
                raise
            return None
        if is_same:
            return Placement.IDENTICAL
        return Placement.CONFLICT if self._keep_aside(incoming, dataset_offset, target) else None

    def _keep_aside(self, incoming: Path, dataset_offset: int, target: Path) -> bool:
        """Keep a conflicting data set; False when there is nothing any more that it conflicts with.

        Its digest in the name keeps a repeated one from piling up.
        """
        folder = self._conflicts / target.parent.name
        name = f"{target.stem}.{sha256_of(incoming, dataset_offset)[:16]}.dcm"
        with self._placing:
            if not target.exists():
                return False
            _move(incoming, folder / name)
        sync(folder)
        return True


def _checked(uid: str) -> str:
    if not is_uid(uid):
        raise NotDicomError("a UID that is not digits and dots cannot be stored: correct it at the sender")
    return uid


def _move(source: Path, target: Path) -> None:
    make_folder(target.parent)
    source.replace(target)


def _same_dataset(incoming: Path, dataset_offset: int, stored: Path) -> bool:
    _, stored_offset = read_file_meta(stored)
    if incoming.stat().st_size - dataset_offset != stored.stat().st_size - stored_offset:
        return False
    with incoming.open("rb") as new, stored.open("rb") as old:
        new.seek(dataset_offset)
        old.seek(stored_offset)
        while chunk := new.read(_CHUNK_BYTES):
            if chunk != old.read(_CHUNK_BYTES):
                return False
    return True
