"""The Storage service as SCP (PS3.4 B): one received instance becomes a file of the spool and a status.

Success is answered only after the file is synced and renamed into the spool. Anything that goes wrong
with one instance becomes a status (PS3.4 B.2.3), and the association goes on.
"""

import logging
from collections.abc import Callable
from typing import cast

from fewshot_node.config import ReceiveSettings
from fewshot_node.dicom.identity import InstanceIdentity, encode_file_meta, is_uid, read_identity
from fewshot_node.dicom.receive.incoming import IncomingInstance
from fewshot_node.dicom.receive.notes import IntakeNotes
from fewshot_node.dicom.spool import Placement, Spool
from fewshot_node.dicom.store_status import StoreStatus
from fewshot_node.dicom.upper_layer.message import IncomingMessage
from fewshot_node.errors import ConfigurationError, FewshotNodeError, NotDicomError, RefusedError, RetryableError

logger = logging.getLogger(__name__)
_MEGABYTE = 2**20

Feeding = Callable[[str], None]
"""Is told the Series Instance UID of an instance before that is stored."""


class StoreService:
    """Takes C-STORE requests into a spool, and notes them for the ledger."""

    def __init__(self, settings: ReceiveSettings, spool: Spool, notes: IntakeNotes) -> None:
        self._settings = settings
        self._spool = spool
        self._notes = notes

    def sink(self, message: IncomingMessage, calling_ae_title: str) -> IncomingInstance:
        """Return the file that the data set of a request goes to."""
        min_free_bytes = self._settings.min_free_mb * _MEGABYTE
        return IncomingInstance(self._spool, min_free_bytes, lambda: self._file_meta(message, calling_ae_title))

    def perform(
        self, message: IncomingMessage, calling_ae_title: str, feeding: Feeding
    ) -> tuple[StoreStatus, str, int]:
        """Store the instance of a whole request; return status, error comment and the bytes stored."""
        try:
            return self._store(message, calling_ae_title, feeding)
        except (RefusedError, RetryableError, ConfigurationError) as error:
            return StoreStatus.OUT_OF_RESOURCES, _refusal(error), 0
        except NotDicomError as error:
            return StoreStatus.CANNOT_UNDERSTAND, str(error), 0
        except Exception as error:  # noqa: BLE001  the peer needs a status, whatever happened
            # Only the kind: the text of a foreign exception can hold values of the data set.
            return StoreStatus.PROCESSING_FAILURE, f"internal error {type(error).__name__}", 0

    def _store(self, message: IncomingMessage, calling_ae_title: str, feeding: Feeding) -> tuple[StoreStatus, str, int]:
        if message.sink is None:
            raise NotDicomError("request without a data set")
        received = cast("IncomingInstance", message.sink).finish()
        identity = read_identity(
            received.path, received.dataset_offset, message.context.transfer_syntax, self._settings.stated_counts
        )
        named = (message.command.sop_class_uid, message.command.sop_instance_uid)
        if named != (identity.sop_class_uid, identity.sop_instance_uid):
            return StoreStatus.MISMATCH, "SOP UIDs of command and data set differ", 0
        feeding(identity.series_instance_uid)
        placement = self._spool.place(received.path, received.dataset_offset, identity)
        if placement == Placement.STORED:
            self._notes.instance(identity, calling_ae_title, received.size)
            return StoreStatus.SUCCESS, "", received.size
        if placement == Placement.IDENTICAL:
            return StoreStatus.SUCCESS, "", 0
        return *self._conflict(identity), 0

    def _conflict(self, identity: InstanceIdentity) -> tuple[StoreStatus, str]:
        """Answer for a changed data set under a known UID.

        The warning is B000: what this node goes on to use under the UID differs from what was sent. B007
        would say that the data set does not fit its SOP Class, and a failure would make a sender try again
        for ever.
        """
        text = f"instance {identity.sop_instance_uid} came again with other content; the first one is used"
        self._notes.warning(identity.series_instance_uid, text)
        logger.warning("series %s: %s", identity.series_instance_uid, text)
        return StoreStatus.COERCION, "another object has this SOP Instance UID; the first is used"

    def _file_meta(self, message: IncomingMessage, calling_ae_title: str) -> bytes:
        identity = (message.command.sop_class_uid, message.command.sop_instance_uid)
        if not all(is_uid(uid) for uid in identity):
            raise NotDicomError("command holds a UID that is not valid")
        if identity[0] != message.context.abstract_syntax:
            raise NotDicomError("SOP Class UID is not that of the presentation context")
        return encode_file_meta(identity, message.context.transfer_syntax, calling_ae_title, self._settings.ae_title)


def _refusal(error: FewshotNodeError) -> str:
    """Say to the peer what to do; paths are for the log of this node."""
    logger.error("instance refused: %s", error)
    return "node is out of resources; send again later"
