"""What became of the instances of a storage commitment request (PS3.4 J.3.3)."""

import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from enum import IntEnum
from pathlib import Path

from pydicom.dataset import Dataset

from fewshot_node.dicom.commitment.request import CommitmentRequest, SopReference
from fewshot_node.dicom.identity import decode_uid, read_file_meta
from fewshot_node.dicom.spool import Spool
from fewshot_node.disk import sync
from fewshot_node.errors import NotDicomError

_MEDIA_STORAGE_SOP_CLASS_UID = 0x00020002


class CommitmentEvent(IntEnum):
    """Event Type IDs of storage commitment (PS3.4 Table J.3-2)."""

    SUCCESSFUL = 1
    FAILURES_EXIST = 2


class FailureReason(IntEnum):
    """Why an instance is not committed (PS3.3 C.14.1.1)."""

    PROCESSING_FAILURE = 0x0110
    NO_SUCH_INSTANCE = 0x0112
    CLASS_INSTANCE_CONFLICT = 0x0119


def read_result(request: CommitmentRequest, spool: Spool) -> tuple[CommitmentEvent, Dataset]:
    """Look up the instances of a request; return Event Type ID and Event Information (PS3.4 Table J.3-2).

    An instance is committed when it is in the spool, on the disk, under the SOP Class that the request
    names. Retrieve AE Title (type 3) is left out: it names an AE that serves retrieval, which this node
    does not.

    Raises
    ------
    OSError
        The spool cannot be listed.
    """
    failures = find_failures(request.references, spool)
    information = Dataset()
    information.TransactionUID = request.transaction_uid
    committed = [_item(reference) for reference in request.references if reference not in failures]
    failed = [_item(reference, failures[reference]) for reference in request.references if reference in failures]
    if committed:
        information.ReferencedSOPSequence = committed
    if failed:
        information.FailedSOPSequence = failed
    return CommitmentEvent.FAILURES_EXIST if failed else CommitmentEvent.SUCCESSFUL, information


def find_failures(references: Collection[SopReference], spool: Spool) -> dict[SopReference, FailureReason]:
    """Return the references that are not safely stored, with the reason of each."""
    files = _find({reference.sop_instance_uid for reference in references}, spool.root / "series")
    unsynced = _sync_folders({path.parent for paths in files.values() for path in paths})
    failures = {}
    for reference in references:
        reason = _judge(reference, files.get(reference.sop_instance_uid, ()), unsynced)
        if reason is not None:
            failures[reference] = reason
    return failures


def _find(sop_instance_uids: set[str], series: Path) -> dict[str, list[Path]]:
    """Find the files of instances whose series are not known, in one pass over the names in the spool."""
    wanted = {f"{uid}.dcm" for uid in sop_instance_uids}
    files: dict[str, list[Path]] = defaultdict(list)
    with os.scandir(series) as folders:
        for folder in folders:
            for name in wanted.intersection(_names(folder.path) if folder.is_dir() else ()):
                path = series / folder.name / name
                files[path.stem].append(path)
    return files


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208  names only: a spool holds millions
    except FileNotFoundError:  # its retention has passed
        return []


def _sync_folders(folders: Iterable[Path]) -> set[Path]:
    """Sync the folders of what was found; return those that failed.

    A file can be seen before the receiver has synced the folder that it was moved to.
    """
    unsynced = set()
    for folder in folders:
        try:
            sync(folder)
        except OSError:
            unsynced.add(folder)
    return unsynced


def _judge(reference: SopReference, paths: Sequence[Path], unsynced: set[Path]) -> FailureReason | None:
    if not paths:
        return FailureReason.NO_SUCH_INSTANCE
    paths = [path for path in paths if path.parent not in unsynced]
    try:
        stored = {_sop_class_uid(path) for path in paths}
    except NotDicomError:
        return FailureReason.PROCESSING_FAILURE
    if reference.sop_class_uid in stored:
        return None
    return FailureReason.CLASS_INSTANCE_CONFLICT if stored else FailureReason.PROCESSING_FAILURE


def _sop_class_uid(path: Path) -> str:
    meta, _ = read_file_meta(path)
    element = meta.get_item(_MEDIA_STORAGE_SOP_CLASS_UID)
    return "" if element is None else decode_uid(element.value)


def _item(reference: SopReference, reason: FailureReason | None = None) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = reference.sop_class_uid
    item.ReferencedSOPInstanceUID = reference.sop_instance_uid
    if reason is not None:
        item.FailureReason = int(reason)
    return item
