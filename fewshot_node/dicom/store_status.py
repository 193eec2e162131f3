"""What a C-STORE request is answered with."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum


class StoreStatus(IntEnum):
    """C-STORE statuses that the receiver answers with (PS3.4 Table B.2-1, PS3.7 Annex C)."""

    SUCCESS = 0x0000
    PROCESSING_FAILURE = 0x0110
    OUT_OF_RESOURCES = 0xA700
    MISMATCH = 0xA900
    COERCION = 0xB000
    CANNOT_UNDERSTAND = 0xC000


@dataclass(frozen=True, slots=True)
class StatusMeaning:
    """What a status says to the sender.

    Attributes
    ----------
    service_status, further_meaning
        In the words of PS3.4 Table B.2-1.
    condition
        When the receiver answers so.
    remedy
        What the sender should do then.
    """

    service_status: str
    further_meaning: str
    condition: str
    remedy: str


MEANINGS: Mapping[StoreStatus, StatusMeaning] = {
    StoreStatus.SUCCESS: StatusMeaning(
        "Success", "Success", "the instance is on the disk, or was there before with the same data set", "nothing"
    ),
    StoreStatus.COERCION: StatusMeaning(
        "Warning",
        "Coercion of Data Elements",
        "another data set with this SOP Instance UID is stored already and stays in use; this one is kept aside",
        "give changed instances new UIDs",
    ),
    StoreStatus.OUT_OF_RESOURCES: StatusMeaning(
        "Failure",
        "Refused: Out of Resources",
        "less space is free than `receive.min_free_mb`, or the disk does not take the file",
        "send again later",
    ),
    StoreStatus.MISMATCH: StatusMeaning(
        "Failure",
        "Error: Data Set does not match SOP Class",
        "SOP Class UID or SOP Instance UID of command and data set differ",
        "correct the instance",
    ),
    StoreStatus.CANNOT_UNDERSTAND: StatusMeaning(
        "Failure",
        "Error: Cannot understand",
        "the data set cannot be parsed or is absent, a UID is absent or not valid, or the SOP Class UID of the command "
        "is not that of the presentation context",
        "correct the instance",
    ),
    StoreStatus.PROCESSING_FAILURE: StatusMeaning(
        "Failure", "Processing failure", "a fault of the receiver, which its log names", "send again; report it"
    ),
}
