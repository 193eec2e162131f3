"""What a peer asks storage commitment for: the Action Information of its N-ACTION (PS3.4 J.3.2)."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from fewshot_node.dicom.identity import decode_uid, is_uid
from fewshot_node.errors import PermanentError

MOST_REFERENCES = 20_000
"""In one request: decoding one takes 2.5 KB of memory each, and studies beyond that are asked for by series."""
_MOST_BYTES = 256 * MOST_REFERENCES


class SopReference(NamedTuple):
    """One instance that a request names (PS3.3 Table 10-11)."""

    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class CommitmentRequest:
    """One storage commitment transaction.

    Transaction UIDs are the peers' own: only together with the calling AE title do they name a request, or
    one peer could put its own in the place of another's.
    """

    calling_ae_title: str
    transaction_uid: str
    references: tuple[SopReference, ...]
    taken: datetime
    """When it was taken (UTC)."""


def read_request(action_information: Dataset | None, calling_ae_title: str, now: datetime) -> CommitmentRequest:
    """Read the Action Information of an N-ACTION request (PS3.4 Table J.3-1).

    Media and other optional attributes are not looked at: instances come to this node by C-STORE only.

    Raises
    ------
    PermanentError
        It is absent, damaged or too long, or lacks a UID; the message is short enough for an Error Comment
        and quotes nothing.
    """
    if action_information is None:
        raise PermanentError("Action Information is absent")
    transaction_uid = _uid(action_information, "TransactionUID")
    references = tuple(_references(_items(action_information)))
    return CommitmentRequest(calling_ae_title.strip(), transaction_uid, references, now)


def _items(action_information: Dataset) -> Sequence:
    """Return the items of the Referenced SOP Sequence, as many as there may be."""
    raw = action_information.get_item("ReferencedSOPSequence", keep_deferred=True)
    if isinstance(raw, RawDataElement) and len(raw.value or b"") > _MOST_BYTES:
        raise PermanentError(f"more than {MOST_REFERENCES} references: ask by series")
    try:
        items = action_information.get("ReferencedSOPSequence")
    except Exception as error:  # hostile bytes raise anything, RecursionError included
        raise PermanentError("ReferencedSOPSequence cannot be parsed") from error
    if not isinstance(items, Sequence) or not items:
        raise PermanentError("ReferencedSOPSequence is absent or empty")
    if len(items) > MOST_REFERENCES:
        raise PermanentError(f"more than {MOST_REFERENCES} references: ask by series")
    return items


def _references(items: Iterable[Dataset]) -> Iterable[SopReference]:
    for item in items:
        yield SopReference(_uid(item, "ReferencedSOPClassUID"), _uid(item, "ReferencedSOPInstanceUID"))


def _uid(dataset: Dataset, keyword: str) -> str:
    element = dataset.get_item(keyword, keep_deferred=True)
    value = None if element is None else element.value
    uid = decode_uid(value) if isinstance(value, bytes) else str(value or "")
    if not is_uid(uid):
        raise PermanentError(f"{keyword} is absent or not a valid UID")
    return uid
