"""What the ledger says about a delivery."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from fewshot_node.records import SeriesKey


class DeliveryState(StrEnum):
    """Where the delivery of one task's results to one destination stands.

    ``waiting -> sent -> confirmed | dead letter``; it is *sent* while a storage commitment is awaited, and
    an operator's retry leads from *dead letter* back to *waiting*.
    """

    WAITING = "waiting"
    SENT = "sent"
    CONFIRMED = "confirmed"
    DEAD = "dead letter"


OPEN_DELIVERIES = frozenset({DeliveryState.WAITING, DeliveryState.SENT})
"""The states that a delivery does not stay in."""


class Confirmation(StrEnum):
    """By what it is known that a destination has the results."""

    COMMITMENT = "storage commitment"
    FIND = "C-FIND"
    QIDO = "QIDO-RS"
    READ_BACK = "read back"
    STATUS = "C-STORE status"
    """The peer offers neither storage commitment nor C-FIND: its word at the time is all there is."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """Results of one task for one destination: the SOP Instance UIDs of what lies in the outbox."""

    task_name: str
    destination: str
    instances: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Delivery:
    """A parcel on its way; times are UTC.

    Attributes
    ----------
    tries
        How often it was tried.
    refusals
        How many of these the destination answered with a refusal.
    out_of_reach
        Whether the destination could not be reached last time.
    queued, next_try
        Since when it is on its way, and when it is tried next.
    transaction_uid
        The newest storage commitment that was asked for.
    """

    key: SeriesKey
    task_name: str
    destination: str
    instances: tuple[str, ...]
    state: DeliveryState
    reason: str
    tries: int
    refusals: int
    out_of_reach: bool
    queued: datetime
    next_try: datetime
    updated: datetime
    confirmed_by: Confirmation | None = None
    transaction_uid: str | None = None

    def __str__(self) -> str:
        return f"{self.key} {self.task_name} to {self.destination}"


@dataclass(frozen=True, slots=True)
class TryEnd:
    """How one try at a delivery ended.

    Attributes
    ----------
    next_try
        When a delivery that stays open is looked at again.
    refused, out_of_reach
        What the destination did, if the try failed.
    seconds
        How long the try took.
    """

    state: DeliveryState
    next_try: datetime
    reason: str = ""
    confirmed_by: Confirmation | None = None
    refused: bool = False
    out_of_reach: bool = False
    seconds: float = 0.0
