"""One association with the PACS: opening, reading its answers, naming it in errors (PS3.8, PS3.7)."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from pynetdicom.pdu import A_ASSOCIATE_RJ
from pynetdicom.presentation import PresentationContext

from fewshot_node.config import PacsSettings
from fewshot_node.dicom.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from fewshot_node.dicom.tls import client_context
from fewshot_node.errors import DeliveryError, PeerTroubleError, PeerUnavailableError, UnsupportedError

EventHandler = tuple[evt.EventType, Callable[[evt.Event], Any]]
"""One of pynetdicom's events, and what to call when it occurs."""

SUCCESS = 0x0000
OPTIONAL_KEYS_IGNORED = 0xFF01
_PENDING = {0xFF00, OPTIONAL_KEYS_IGNORED}
_REMEDIES = {0xA700: "it is out of resources, ask for less", 0xB001: "it gives only some of the matches, ask for less"}


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
    return (identifier for _, identifier in read_matches(responses, pacs, service))


def read_matches(
    responses: Iterator[tuple[Dataset, Dataset | None]], pacs: PacsSettings, service: str
) -> Iterator[tuple[int, Dataset]]:
    """Give status and identifier of each pending answer, as `read_answers` does.

    `OPTIONAL_KEYS_IGNORED` says that not all keys were matched (PS3.4 C.4.1.1.4).

    Raises
    ------
    DeliveryError, PeerUnavailableError
        As `read_answers` does.
    """
    try:
        for answer, identifier in responses:
            status = read_status(answer, pacs)
            if status in _PENDING:
                if identifier is not None:
                    yield status, identifier
            elif status != SUCCESS:
                remedy = _REMEDIES.get(status, "look at its log")
                message = f"{peer_name(pacs)} answers {service} with status 0x{status:04X}: {remedy}"
                raise DeliveryError(message)
    except ValueError as error:
        raise UnsupportedError(f"{peer_name(pacs)} does not accept {service}: enable it there") from error
    except RuntimeError as error:
        raise PeerTroubleError(f"{peer_name(pacs)} ended the association: try again") from error


def read_status(answer: Dataset, pacs: PacsSettings) -> int:
    """Return the status of an answer (PS3.7 C).

    Raises
    ------
    PeerUnavailableError
        It is empty: the peer went away.
    """
    if "Status" not in answer:
        message = f"{peer_name(pacs)} gave no answer within {pacs.timeout_s:g} s or aborted: try again"
        raise PeerTroubleError(message)
    return int(answer.Status)


@contextmanager
def associate(
    pacs: PacsSettings,
    contexts: list[PresentationContext],
    retrieved_classes: Sequence[str] = (),
    handlers: Sequence[EventHandler] = (),
) -> Iterator[Association]:
    """Open an association and release it at the end, or abort it when the user breaks off.

    Parameters
    ----------
    retrieved_classes
        SOP classes that this side takes as SCP during a C-GET (PS3.7 D.3.3.4).
    handlers
        What happens on pynetdicom's events, for example on ``evt.EVT_C_STORE`` during a C-GET.

    Raises
    ------
    PeerUnavailableError
        Nobody listens, or the peer rejects or aborts the association.
    UnsupportedError
        It accepts nothing of what is proposed.
    ConfigurationError
        A TLS file cannot be used.
    """
    # Noted here: of a peer that rejects at once pynetdicom may see no more than a closed connection.
    noted: set[str] = set()
    noting: list[EventHandler] = [
        (evt.EVT_CONN_OPEN, lambda _event: noted.add("connected")),
        (evt.EVT_PDU_RECV, lambda event: noted.add(type(event.pdu).__name__)),
    ]
    entity = AE(ae_title=pacs.calling_ae_title)
    entity.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    entity.acse_timeout = entity.dimse_timeout = pacs.timeout_s
    entity.network_timeout = entity.connection_timeout = pacs.timeout_s
    association = entity.associate(
        pacs.host,
        pacs.port,
        contexts=contexts,
        ae_title=pacs.ae_title,
        ext_neg=[build_role(sop_class, scp_role=True) for sop_class in retrieved_classes],
        evt_handlers=cast("Any", [*noting, *handlers]),
        tls_args=None if pacs.tls is None else (client_context(pacs.tls), pacs.host),
    )
    if not association.is_established:
        raise _refusal(association, pacs, noted)
    try:
        yield association
    except KeyboardInterrupt:
        association.abort()  # a release would wait for the answers that are still on their way
        raise
    finally:
        if association.is_established:
            association.release()


def _refusal(
    association: Association, pacs: PacsSettings, noted: Collection[str]
) -> PeerUnavailableError | UnsupportedError:
    name = peer_name(pacs)
    if "connected" not in noted:
        return PeerUnavailableError(f"{name} does not answer: check that it runs, and pacs.host and pacs.port")
    if association.is_rejected or A_ASSOCIATE_RJ.__name__ in noted:
        titles = "pacs.ae_title and pacs.calling_ae_title"
        return PeerUnavailableError(f"{name} rejects the association: check the AE titles on both sides ({titles})")
    if association.rejected_contexts:
        return UnsupportedError(f"{name} supports nothing of what was proposed: enable the service there")
    return PeerUnavailableError(f"{name} ends the association at once: check that a DICOM service listens there")


def peer_name(pacs: PacsSettings) -> str:
    """Name the PACS in a message: AE titles, host and port."""
    return f"PACS {pacs.ae_title} at {pacs.host}:{pacs.port} (called from {pacs.calling_ae_title})"
