"""What a C-STORE request is answered with."""

from enum import IntEnum

from pydicom.dataset import Dataset

_ERROR_COMMENT_CHARACTERS = 64


class StoreStatus(IntEnum):
    """C-STORE statuses that the receiver answers with (PS3.4 Table B.2-1, PS3.7 Annex C)."""

    SUCCESS = 0x0000
    PROCESSING_FAILURE = 0x0110
    OUT_OF_RESOURCES = 0xA700
    MISMATCH = 0xA900
    COERCION = 0xB000
    CANNOT_UNDERSTAND = 0xC000


def answer(status: StoreStatus, comment: str) -> Dataset:
    """Return a C-STORE response's status elements; the comment is cut to what an LO holds."""
    response = Dataset()
    response.Status = int(status)
    if comment:
        response.ErrorComment = comment[:_ERROR_COMMENT_CHARACTERS]
    return response
