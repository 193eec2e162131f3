"""Results into a folder: a share, or what another program watches."""

import filecmp
import shutil
from collections.abc import Sequence
from pathlib import Path

from fewshot_node.dicom.deliver.carrier import Receipt
from fewshot_node.dicom.ledger import Confirmation
from fewshot_node.dicom.query import read_reference
from fewshot_node.disk import is_full, whole_file
from fewshot_node.errors import DeliveryError, PeerTroubleError, PeerUnavailableError


class FolderCarrier:
    """Copies files to a folder, each whole or not at all, under its SOP Instance UID.

    The folder itself is not made: an absent one may be a share that is not mounted.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def carry(self, paths: Sequence[Path], transaction_uid: str | None) -> Receipt:
        """Copy what is not there yet with these bytes, and read it back; see `Carrier`."""
        del transaction_uid
        if not self._folder.is_dir():
            raise PeerUnavailableError(f"folder {self._folder} is not there: mount or make it")
        for path in paths:
            self._copy(path, self._folder / f"{read_reference(path).sop_instance_uid}.dcm")
        return Receipt(Confirmation.READ_BACK)

    def _copy(self, path: Path, target: Path) -> None:
        try:
            if _is_copy(path, target):
                return
            with whole_file(target) as temporary:
                shutil.copyfile(path, temporary)
            arrived = _is_copy(path, target)
        except OSError as error:
            what = f"{target} cannot be written ({error.strerror})"
            remedy = "free space there" if is_full(error) else "let the node write there"
            raise PeerTroubleError(f"{what}: {remedy}") from error
        if not arrived:
            raise DeliveryError(f"{target} does not read back as it was written: check that disk")


def _is_copy(path: Path, target: Path) -> bool:
    return target.is_file() and filecmp.cmp(path, target, shallow=False)
