"""Storage commitment requests on disk, from their acceptance until their result is told."""

import hashlib
import itertools
import json
import logging
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from fewshot_node.dicom.commitment.request import CommitmentRequest, SopReference
from fewshot_node.dicom.identity import is_uid
from fewshot_node.disk import TEMPORARY_PREFIX, is_full, make_folder, whole_file
from fewshot_node.errors import ConfigurationError, DiskFullError, RefusedError

logger = logging.getLogger(__name__)
_DAMAGED_SUFFIX = ".damaged"


class CommitmentJournal:
    """Folder of requests, one file each, named by transaction and calling AE.

    Raises
    ------
    ConfigurationError
        The folder cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            make_folder(folder)
        except OSError as error:
            message = f"folder {folder} cannot be made ({error.strerror}): choose a writable `home`"
            raise ConfigurationError(message) from error

    def keep(self, request: CommitmentRequest) -> None:
        """Write a request; it is durable on return.

        Raises
        ------
        RefusedError
            The file system does not take it; DiskFullError when it is full.
        """
        document = {
            "calling_ae_title": request.calling_ae_title,
            "transaction_uid": request.transaction_uid,
            "taken": request.taken.isoformat(),
            "references": request.references,
        }
        try:
            with whole_file(self._path(request.calling_ae_title, request.transaction_uid)) as temporary:
                temporary.write_text(json.dumps(document), encoding="utf-8")
        except OSError as error:
            if is_full(error):
                raise DiskFullError(f"folder {self._folder}: no space left; free some or move `home`") from error
            message = f"folder {self._folder} cannot be written ({error.strerror}): check the disk"
            raise RefusedError(message) from error

    def find(self, calling_ae_title: str, transaction_uid: str) -> CommitmentRequest | None:
        """Return a request; None when there is none, or when its file was damaged and is set aside now."""
        return self._read(self._path(calling_ae_title, transaction_uid))

    def forget(self, calling_ae_title: str, transaction_uid: str) -> None:
        """Remove a request; after a power cut it may be back, and its result is told once more."""
        path = self._path(calling_ae_title, transaction_uid)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            logger.warning(
                "%s cannot be removed (%s): its result is told again at the next start", path, error.strerror
            )

    def recover(self) -> Iterator[CommitmentRequest]:
        """Give what an earlier run left, and remove what it left unfinished.

        Raises
        ------
        ConfigurationError
            The folder, or a file in it, cannot be read.
        """
        try:
            for path in sorted(self._folder.iterdir()):
                if path.name.startswith(TEMPORARY_PREFIX):
                    path.unlink(missing_ok=True)
                elif path.suffix == ".json":
                    request = self._read(path)
                    if request is not None:
                        yield request
        except OSError as error:
            message = f"folder {self._folder} cannot be read ({error.strerror}): let the node read and write there"
            raise ConfigurationError(message) from error

    def _path(self, calling_ae_title: str, transaction_uid: str) -> Path:
        """Return the path of a request; an AE title may hold a slash, so it stands there as a digest."""
        digest = hashlib.sha256(calling_ae_title.encode()).hexdigest()[:16]
        return self._folder / f"{transaction_uid}.{digest}.json"

    def _read(self, path: Path) -> CommitmentRequest | None:
        try:
            request = _parse(path.read_bytes())
            if path == self._path(request.calling_ae_title, request.transaction_uid):
                return request
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            pass  # not what `keep` writes
        aside = path.with_name(path.name + _DAMAGED_SUFFIX)
        path.replace(aside)
        logger.error("%s is damaged and set aside as %s: its sender has to ask again", path, aside.name)
        return None


def _parse(encoded: bytes) -> CommitmentRequest:
    document = json.loads(encoded)
    references = tuple(SopReference(*reference) for reference in document["references"])
    transaction_uid, taken = document["transaction_uid"], datetime.fromisoformat(document["taken"])
    uids = itertools.chain([transaction_uid], *references)
    if not references or taken.tzinfo is None or not all(is_uid(uid) for uid in uids):
        raise ValueError("not what was written")
    return CommitmentRequest(document["calling_ae_title"], transaction_uid, references, taken)
