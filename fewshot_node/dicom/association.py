"""One association with the PACS: opening, reading its answers, naming it in errors (PS3.8, PS3.7)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext

from fewshot_node.config import PacsSettings
from fewshot_node.errors import DeliveryError, PeerUnavailableError

SUCCESS = 0x0000
_PENDING = {0xFF00, 0xFF01}


def read_answers(
    responses: Iterator[tuple[Dataset, Dataset | None]], pacs: PacsSettings, service: str
) -> Iterator[Dataset]:
    """Give the identifiers of the pending answers to a C-FIND or C-GET, until the final one.

    Raises
    ------
    DeliveryError
        The service is not accepted, or ends with a failure.
    PeerUnavailableError
        The peer went away.
    """
    try:
        for answer, identifier in responses:
            status = read_status(answer, pacs)
            if status in _PENDING:
                if identifier is not None:
                    yield identifier
            elif status != SUCCESS:
                message = f"{peer_name(pacs)} answers {service} with status 0x{status:04X}: look at its log"
                raise DeliveryError(message)
    except ValueError as error:
        raise DeliveryError(f"{peer_name(pacs)} does not accept {service}: enable it there") from error
    except RuntimeError as error:
        raise PeerUnavailableError(f"{peer_name(pacs)} ended the association: try again") from error


def read_status(answer: Dataset, pacs: PacsSettings) -> int:
    """Return the status of an answer; an empty one means that the peer went away (PS3.7 C)."""
    if "Status" not in answer:
        message = f"{peer_name(pacs)} gave no answer within {pacs.timeout_s:g} s or aborted: try again"
        raise PeerUnavailableError(message)
    return int(answer.Status)


@contextmanager
def associate(
    pacs: PacsSettings,
    contexts: list[PresentationContext],
    retrieved_classes: Sequence[str] = (),
    on_store: Callable[[evt.Event], int] | None = None,
) -> Iterator[Association]:
    """Open an association and release it at the end.

    Parameters
    ----------
    retrieved_classes
        SOP classes that this side takes as SCP during a C-GET (PS3.7 D.3.3.4), handled by `on_store`.

    Raises
    ------
    PeerUnavailableError
        Nobody listens, or the peer rejects or aborts the association, or accepts nothing of it.
    """
    connected: list[bool] = []
    handlers: list[Any] = [(evt.EVT_CONN_OPEN, lambda _event: connected.append(True))]
    if on_store is not None:
        handlers.append((evt.EVT_C_STORE, on_store))
    entity = AE(ae_title=pacs.calling_ae_title)
    entity.acse_timeout = entity.dimse_timeout = pacs.timeout_s
    entity.network_timeout = entity.connection_timeout = pacs.timeout_s
    association = entity.associate(
        pacs.host,
        pacs.port,
        contexts=contexts,
        ae_title=pacs.ae_title,
        ext_neg=[build_role(sop_class, scp_role=True) for sop_class in retrieved_classes],
        evt_handlers=handlers,
    )
    if not association.is_established:
        raise PeerUnavailableError(_describe_refusal(association, pacs, bool(connected)))
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def _describe_refusal(association: Association, pacs: PacsSettings, connected: bool) -> str:
    if not connected:
        return f"{peer_name(pacs)} does not answer: check that it runs and that host and port are right"
    if association.is_rejected:
        return f"{peer_name(pacs)} rejects the association: check the AE titles on both sides"
    if association.rejected_contexts:
        return f"{peer_name(pacs)} supports nothing of what was proposed: enable the service there"
    return f"{peer_name(pacs)} ends the association at once: check that a DICOM service listens there"


def peer_name(pacs: PacsSettings) -> str:
    """Name the PACS in a message: AE titles, host and port."""
    return f"PACS {pacs.ae_title} at {pacs.host}:{pacs.port} (called from {pacs.calling_ae_title})"
