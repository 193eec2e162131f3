"""Sending to a DICOM peer: C-ECHO and C-STORE (PS3.4 A, B)."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydicom.uid import UID
from pynetdicom import build_context
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext

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
from fewshot_node.errors import DeliveryError, PeerTroubleError, UnsupportedError

__all__ = [
    "InstanceReference",
    "RemoteSeries",
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
_OUT_OF_RESOURCES = 0xA7
"""Statuses A7xx (PS3.4 Table B.2-1)."""


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
        The PACS does not answer, or rejects the association; PeerTroubleError when it aborts it, or is full.
    DeliveryError
        It refuses an object; UnsupportedError when it does not accept its SOP class or transfer syntax.
    """
    references = {path: read_reference(path) for path in paths}
    with associate(pacs, _storage_contexts(references.values())) as association:
        for path, reference in references.items():
            _store_one(association, path, reference, pacs)


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
        raise UnsupportedError(message) from error
    except RuntimeError as error:
        raise PeerTroubleError(f"{peer_name(pacs)} ended the association before {uid}: try again") from error
    status = read_status(answer, pacs)
    if status >> 12 == _WARNING_CLASS:
        logger.warning("%s stored %s with warning 0x%04X", peer_name(pacs), uid, status)
    elif status >> 8 == _OUT_OF_RESOURCES:
        raise PeerTroubleError(f"{peer_name(pacs)} has no room for {uid} (0x{status:04X}): free space there")
    elif status != SUCCESS:
        message = f"{peer_name(pacs)} refuses instance {uid} with status 0x{status:04X}: look at its log"
        raise DeliveryError(message)
