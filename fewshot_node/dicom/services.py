"""What the receiver offers: SOP classes, transfer syntaxes, and why it rejects an association.

These tables are what the receiver negotiates by, and what the conformance statement is printed from.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from pynetdicom import ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts

VERIFICATION = "1.2.840.10008.1.1"
STORAGE_COMMITMENT = "1.2.840.10008.1.20.1"
STORAGE_COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1.1"
"""The well-known SOP Instance of storage commitment (PS3.4 J.3.5)."""

IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
NATIVE_TRANSFER_SYNTAXES = ("1.2.840.10008.1.2.1", IMPLICIT_VR_LITTLE_ENDIAN)
"""Explicit and implicit VR little endian."""
TRANSFER_SYNTAXES = tuple(str(syntax) for syntax in ALL_TRANSFER_SYNTAXES)
"""Transfer syntaxes of stored instances; the data set is kept as it came, never decoded."""
STORAGE_SOP_CLASSES = tuple(sorted(str(context.abstract_syntax) for context in AllStoragePresentationContexts))
"""The standard storage SOP classes (PS3.4 B.5)."""


def offered(extra_sop_classes: tuple[str, ...] = ()) -> Mapping[str, tuple[str, ...]]:
    """Return the transfer syntaxes that are accepted for each abstract syntax.

    Parameters
    ----------
    extra_sop_classes
        Storage SOP classes beyond the standard ones, private ones for example.
    """
    services = dict.fromkeys((VERIFICATION, STORAGE_COMMITMENT), NATIVE_TRANSFER_SYNTAXES)
    return services | dict.fromkeys((*STORAGE_SOP_CLASSES, *extra_sop_classes), TRANSFER_SYNTAXES)


@dataclass(frozen=True, slots=True)
class RejectionCode:
    """Result, source and reason/diagnostic of an A-ASSOCIATE-RJ PDU (PS3.8 Table 9-21), and what they mean here."""

    result: int
    source: int
    reason: int
    meaning: str


class Rejection(Enum):
    """Why an association is rejected; the name is the label in logs and metrics."""

    PROTOCOL_VERSION = RejectionCode(1, 2, 2, "the protocol version is not 1")
    APPLICATION_CONTEXT = RejectionCode(1, 1, 2, "the application context is not that of DICOM")
    CALLED_AE_TITLE = RejectionCode(1, 1, 7, "the called AE title is not ours")
    CALLING_AE_TITLE = RejectionCode(1, 1, 3, "the calling AE title is not on the list")
    LOW_SPACE = RejectionCode(2, 3, 1, "the spool's file system is nearly full; passes by itself")
    TOO_MANY = RejectionCode(2, 3, 2, "as many associations as are allowed are open")
    TOO_MANY_OF_PEER = RejectionCode(2, 3, 2, "the peer has as many associations open as one peer may")
