"""The ledger: every revision of every received series, and what state it is in.

It is an index. The spool holds the truth about what was received, and `Ledger.rebuild` makes the one from
the other. Several processes and threads use one ledger at once: every transition names the state that it
starts from, in the same statement that makes it (compare and set), so of two that try, one wins.
"""

from fewshot_node.dicom.ledger.delivery_records import Confirmation, Delivery, DeliveryState, Parcel, TryEnd
from fewshot_node.dicom.ledger.reading import utc_now
from fewshot_node.dicom.ledger.records import (
    CorrectionLink,
    ExpiredClaim,
    LostShadow,
    SeriesEntry,
    SeriesNote,
    SeriesState,
    SeriesWarning,
    ShadowOutcome,
    ShadowState,
    TaskOutcome,
    TrackedResult,
)
from fewshot_node.dicom.ledger.work import Ledger

__all__ = [
    "Confirmation",
    "CorrectionLink",
    "Delivery",
    "DeliveryState",
    "ExpiredClaim",
    "Ledger",
    "LostShadow",
    "Parcel",
    "SeriesEntry",
    "SeriesNote",
    "SeriesState",
    "SeriesWarning",
    "ShadowOutcome",
    "ShadowState",
    "TaskOutcome",
    "TrackedResult",
    "TryEnd",
    "utc_now",
]
