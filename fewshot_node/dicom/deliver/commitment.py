"""Asking a peer for storage commitment, as SCU of the Push Model SOP Class (PS3.4 Annex J)."""

import logging
import threading
from collections.abc import Sequence
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import build_context, evt

from fewshot_node.config import PacsSettings
from fewshot_node.dicom.association import SUCCESS, associate, peer_name, read_status
from fewshot_node.dicom.deliver.report import CommitmentReport, read_report
from fewshot_node.dicom.query import InstanceReference
from fewshot_node.dicom.services import NATIVE_TRANSFER_SYNTAXES, STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE
from fewshot_node.errors import PeerTroubleError, PermanentError, UnsupportedError

logger = logging.getLogger(__name__)
_REQUEST_STORAGE_COMMITMENT = 1
_PROCESSING_FAILURE = 0x0110
_SAME_ASSOCIATION_S = 1.0
"""Peers that report over the association that asked do so at once; the others need it closed."""


def request_commitment(
    references: Sequence[InstanceReference], pacs: PacsSettings, transaction_uid: str
) -> CommitmentReport | None:
    """Ask for storage commitment; return the report if it comes over the same association, else None.

    Raises
    ------
    UnsupportedError
        The peer does not offer it, or not to this node: Orthanc aborts where it does not know the caller.
    PeerUnavailableError
        The peer cannot be reached.
    """
    reports: list[CommitmentReport] = []
    came = threading.Event()

    def take(event: evt.Event) -> tuple[int, None]:
        try:
            reports.append(read_report(event.event_type, event.event_information))
        except PermanentError as error:
            logger.warning("%s sends a storage commitment report that is none: %s", peer_name(pacs), error)
            return _PROCESSING_FAILURE, None
        came.set()
        return SUCCESS, None

    contexts = [build_context(STORAGE_COMMITMENT, list(NATIVE_TRANSFER_SYNTAXES))]
    with associate(pacs, contexts, handlers=[(evt.EVT_N_EVENT_REPORT, take)]) as association:
        _ask(association, references, pacs, transaction_uid)
        came.wait(_SAME_ASSOCIATION_S)
    return next((one for one in reports if one.transaction_uid == transaction_uid), None)


def _ask(association: Any, references: Sequence[InstanceReference], pacs: PacsSettings, transaction_uid: str) -> None:
    information = Dataset()
    information.TransactionUID = transaction_uid
    information.ReferencedSOPSequence = [_item(reference) for reference in references]
    sop = (UID(STORAGE_COMMITMENT), UID(STORAGE_COMMITMENT_INSTANCE))
    try:
        answer, _ = association.send_n_action(information, _REQUEST_STORAGE_COMMITMENT, *sop)
        status = read_status(answer, pacs)
    except (RuntimeError, ValueError, PeerTroubleError) as error:
        message = f"{peer_name(pacs)} breaks off when it is asked for storage commitment"
        raise UnsupportedError(f"{message}: let it know this node") from error
    if status != SUCCESS:
        message = f"{peer_name(pacs)} answers the request for storage commitment with status 0x{status:04X}"
        raise UnsupportedError(f"{message}: let it know this node")


def _item(reference: InstanceReference) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = reference.sop_class_uid
    item.ReferencedSOPInstanceUID = reference.sop_instance_uid
    return item
