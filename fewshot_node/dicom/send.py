"""Sending results to the PACS and making sure that they are there: C-ECHO and C-STORE (PS3.4 A, B)."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydicom.uid import UID
from pynetdicom import build_context
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)

from fewshot_node.config import PacsSettings
from fewshot_node.dicom.association import SUCCESS, associate, peer_name, read_status
from fewshot_node.dicom.query import (
    InstanceReference,
    RemoteSeries,
    fetch_series,
    list_series,
    missing_instances,
    read_reference,
)
from fewshot_node.dicom.services import NATIVE_TRANSFER_SYNTAXES
from fewshot_node.errors import DeliveryError, PeerUnavailableError, RetryableError

__all__ = [
    "InstanceReference",
    "RemoteSeries",
    "deliver",
    "echo",
    "fetch_series",
    "list_series",
    "missing_instances",
    "read_reference",
    "store",
]

logger = logging.getLogger(__name__)

_VERIFICATION = UID("1.2.840.10008.1.1")
_WARNING_CLASS = 0xB
_LONGEST_WAIT_S = 60.0


def echo(pacs: PacsSettings) -> None:
    """Verify that the PACS answers (C-ECHO).

    Raises
    ------
    PeerUnavailableError
        It does not answer, or rejects the association.
    DeliveryError
        It answers with a failure.
    """
    with associate(pacs, [build_context(_VERIFICATION)]) as association:
        status = read_status(association.send_c_echo(), pacs)
    if status != SUCCESS:
        raise DeliveryError(f"{peer_name(pacs)} answers C-ECHO with status 0x{status:04X}: look at its log")


def store(paths: Sequence[Path], pacs: PacsSettings) -> None:
    """Store files over one association (C-STORE); a warning status counts as stored and is logged.

    Raises
    ------
    NotDicomError
        A file is no DICOM file.
    PeerUnavailableError
        The PACS does not answer, or rejects or aborts the association.
    DeliveryError
        It does not accept an object's SOP class or transfer syntax, or refuses the object.
    """
    references = {path: read_reference(path) for path in paths}
    with associate(pacs, _storage_contexts(references.values())) as association:
        for path, reference in references.items():
            _store_one(association, path, reference, pacs)


def deliver(paths: Sequence[Path], pacs: PacsSettings) -> None:
    """Store files and confirm that the PACS lists them; try again while that may help.

    Instances that are there already are not sent again: their UIDs are derived from their content.

    Raises
    ------
    NotDicomError
        A file is no DICOM file.
    PeerUnavailableError, DeliveryError
        The last of `pacs.attempts` attempts failed.
    """
    retrying = Retrying(
        retry=retry_if_exception_type(RetryableError),
        stop=stop_after_attempt(pacs.attempts),
        wait=wait_exponential(multiplier=pacs.backoff_s, max=_LONGEST_WAIT_S) + wait_random(0, pacs.backoff_s),
        before_sleep=_log_attempt,
        reraise=True,
    )
    retrying(_deliver_once, {read_reference(path): path for path in paths}, pacs)


def _log_attempt(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome is not None else None
    logger.warning("delivery attempt %d failed: %s", state.attempt_number, error)


def _deliver_once(files: dict[InstanceReference, Path], pacs: PacsSettings) -> None:
    absent = missing_instances(list(files), pacs)
    if absent:
        store([path for reference, path in files.items() if reference.sop_instance_uid in absent], pacs)
    still_absent = missing_instances(list(files), pacs) if absent else ()
    if still_absent:
        message = f"{peer_name(pacs)} took instance {still_absent[0]} and does not list it"
        raise DeliveryError(f"{message} ({len(still_absent)} in all): look at its log")


def _storage_contexts(references: Iterable[InstanceReference]) -> list[PresentationContext]:
    """Propose each SOP class in the transfer syntax of its files, native ones also in the other native."""
    wanted: set[tuple[str, str]] = set()
    for reference in references:
        syntax = reference.transfer_syntax_uid
        syntaxes = NATIVE_TRANSFER_SYNTAXES if syntax in NATIVE_TRANSFER_SYNTAXES else (syntax,)
        wanted |= {(reference.sop_class_uid, proposed) for proposed in syntaxes}
    return [build_context(sop_class, [syntax]) for sop_class, syntax in sorted(wanted)]


def _store_one(association: Association, path: Path, reference: InstanceReference, pacs: PacsSettings) -> None:
    uid = reference.sop_instance_uid
    try:
        answer = association.send_c_store(path)
    except ValueError as error:
        message = (
            f"{peer_name(pacs)} does not accept {UID(reference.sop_class_uid).name} in "
            f"{UID(reference.transfer_syntax_uid).name}, instance {uid}: enable it there"
        )
        raise DeliveryError(message) from error
    except RuntimeError as error:
        raise PeerUnavailableError(f"{peer_name(pacs)} ended the association before {uid}: try again") from error
    status = read_status(answer, pacs)
    if status >> 12 == _WARNING_CLASS:
        logger.warning("%s stored %s with warning 0x%04X", peer_name(pacs), uid, status)
    elif status != SUCCESS:
        message = f"{peer_name(pacs)} refuses instance {uid} with status 0x{status:04X}: look at its log"
        raise DeliveryError(message)
