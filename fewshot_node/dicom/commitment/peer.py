"""Telling storage commitment results to a peer over an association of our own (PS3.4 J.3.3)."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import build_context
from pynetdicom.association import Association

from fewshot_node.config import PacsSettings, PeerAddress
from fewshot_node.dicom.association import SUCCESS, associate, peer_name, read_status
from fewshot_node.dicom.services import NATIVE_TRANSFER_SYNTAXES, STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE
from fewshot_node.errors import PeerUnavailableError

Report = Callable[[int, Dataset], bool]
"""Sends an N-EVENT-REPORT with this Event Type ID and Event Information; True once the peer has confirmed it."""

logger = logging.getLogger(__name__)
_TIMEOUT_S = 15.0


@contextmanager
def reporting(calling_ae_title: str, called_ae_title: str, address: PeerAddress) -> Iterator[Report]:
    """Open an association to a peer, in which this side is the SCP, and give a way to report over it.

    Raises
    ------
    PeerUnavailableError
        Nobody listens, or the peer rejects or aborts the association, does not know storage commitment or
        gives no answer.
    """
    peer = PacsSettings(
        ae_title=called_ae_title,
        host=address.host,
        port=address.port,
        calling_ae_title=calling_ae_title,
        timeout_s=_TIMEOUT_S,
    )
    contexts = [build_context(STORAGE_COMMITMENT, list(NATIVE_TRANSFER_SYNTAXES))]
    with associate(peer, contexts, retrieved_classes=(STORAGE_COMMITMENT,)) as association:
        yield lambda event_type_id, information: _report(association, peer, event_type_id, information)


def _report(association: Association, peer: PacsSettings, event_type_id: int, information: Dataset) -> bool:
    """Send one N-EVENT-REPORT; a peer that refuses one may take the next."""
    sop_class, instance = UID(STORAGE_COMMITMENT), UID(STORAGE_COMMITMENT_INSTANCE)
    try:
        answer, _ = association.send_n_event_report(information, event_type_id, sop_class, instance)
    except RuntimeError as error:
        raise PeerUnavailableError(f"{peer_name(peer)} ended the association: look at its log") from error
    status = read_status(answer, peer)
    if status != SUCCESS:
        logger.warning("%s answers N-EVENT-REPORT with status 0x%04X: look at its log", peer_name(peer), status)
    return status == SUCCESS
