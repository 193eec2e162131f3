"""The data set of a C-STORE request on its way from the network to a file in the spool.

pynetdicom can stream data sets to files itself (``_config.STORE_RECV_CHUNKED_DATASET``). That switch, and the
folder of its temporary files (``tempfile.tempdir``), hold for the whole process; its File Meta names no AE
titles; and a full disk or a malformed UID raises inside its state machine, where the association dies
without a status. So each association of the receiver gets a DIMSE provider that puts its own file object
where pynetdicom would put a temporary one. Nothing outside the association is changed, memory stays bounded,
and what goes wrong is remembered until there is a request to answer.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.pdu_primitives import P_DATA

from fewshot_node.dicom.identity import decode_uid, encode_file_meta, is_uid
from fewshot_node.dicom.spool import Spool
from fewshot_node.errors import DiskFullError, FewshotNodeError, NotDicomError

_AFFECTED_SOP_CLASS_UID = 0x00000002
_AFFECTED_SOP_INSTANCE_UID = 0x00001000
_LONGEST_UID = 64


@dataclass(frozen=True, slots=True)
class ReceivedFile:
    """A received data set as a synced file that still lies in `incoming`."""

    path: Path
    dataset_offset: int
    transfer_syntax_uid: str
    size: int


class IncomingInstance:
    """File object that pynetdicom writes the fragments of one data set to.

    The file is opened, and its File Meta written, with the first fragment: by then the command set is
    decoded. After a failure the rest of the data set is read from the network and dropped, so that the
    association lives on and the request gets its status from `finish`.
    """

    def __init__(self, spool: Spool, min_free_bytes: int, describe: Callable[[], bytes]) -> None:
        self._spool = spool
        self._min_free_bytes = min_free_bytes
        self._describe = describe
        self._file: BinaryIO | None = None
        self._path: Path | None = None
        self._offset = 0
        self._problem: FewshotNodeError | None = None

    @property
    def file(self) -> "IncomingInstance":
        """The object that pynetdicom flushes after each fragment."""
        return self

    @property
    def name(self) -> str:
        """The path that pynetdicom removes after the request, if it is still there."""
        return str(self._path or "")

    def flush(self) -> None:
        """Leave the buffer alone: only the whole file is of use, and `finish` syncs it."""

    def write(self, data: bytes) -> None:
        """Take one fragment; never raises."""
        if self._problem is not None:
            return
        try:
            with self._spool.writing():
                self._opened().write(data)
        except FewshotNodeError as error:
            self._problem = error
            self.close()  # what is left of a large data set must not keep a full disk full

    def finish(self, transfer_syntax_uid: str) -> ReceivedFile:
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
        return ReceivedFile(self._path, self._offset, transfer_syntax_uid, size)

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


class StreamingDimse(DIMSEServiceProvider):
    """DIMSE provider of one association, whose C-STORE data sets go to files of the spool."""

    def __init__(self, association: Association, spool: Spool, min_free_bytes: int, ae_title: str) -> None:
        super().__init__(association)
        self._spool = spool
        self._min_free_bytes = min_free_bytes
        self._ae_title = ae_title
        self._incoming: IncomingInstance | None = None

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take a P-DATA primitive; the first of a message prepares the file for its data set."""
        if self.message is None:
            message = DIMSEMessage()
            self._incoming = IncomingInstance(self._spool, self._min_free_bytes, lambda: self._file_meta(message))
            message._data_set_file = cast("Any", self._incoming)
            self.message = message
        super().receive_primitive(primitive)

    def drop_unfinished(self) -> None:
        """Remove what an association that ended in mid-transfer left behind."""
        if self.message is not None and self._incoming is not None:
            self._incoming.close()

    def _file_meta(self, message: DIMSEMessage) -> bytes:
        sop_class_uid = _take_uid(message.command_set, _AFFECTED_SOP_CLASS_UID)
        sop_instance_uid = _take_uid(message.command_set, _AFFECTED_SOP_INSTANCE_UID)
        if not is_uid(sop_class_uid) or not is_uid(sop_instance_uid):
            raise NotDicomError("command holds a UID that is not valid")
        context = self.assoc._accepted_cx.get(message.context_id or 0)
        if context is None or not context.transfer_syntax:
            raise NotDicomError("data set came under a presentation context that was not accepted")
        calling_ae_title = str(self.assoc.requestor.ae_title).strip()
        identity = (sop_class_uid, sop_instance_uid)
        return encode_file_meta(identity, context.transfer_syntax[0], calling_ae_title, self._ae_title)


def _take_uid(command_set: Dataset, tag: int) -> str:
    """Read a UID of a command; a longer one than may be is cut in the command.

    pynetdicom aborts the association over a UID of more than 64 characters; cut, the request can be
    answered with a failure and the association goes on.
    """
    element = command_set.get_item(tag) if tag in command_set else None
    if not isinstance(element, RawDataElement) or not isinstance(element.value, bytes):
        return ""
    if len(element.value) > _LONGEST_UID:
        command_set[tag] = element._replace(value=element.value[:_LONGEST_UID])
    return decode_uid(element.value)
