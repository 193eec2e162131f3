"""What a peer reports of a storage commitment: the Event Information of its N-EVENT-REPORT (PS3.4 J.3.3)."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from fewshot_node.dicom.identity import is_uid
from fewshot_node.errors import DeliveryError, PermanentError

_EVENTS = {1, 2}


@dataclass(frozen=True, slots=True)
class CommitmentReport:
    """What a peer has committed itself to, and what not.

    Attributes
    ----------
    committed
        SOP Instance UIDs.
    failed
        SOP Instance UID -> Failure Reason (PS3.3 C.14.1.1); -1 where the peer gives none.
    """

    transaction_uid: str
    committed: frozenset[str]
    failed: Mapping[str, int]

    def check(self, instances: Collection[str]) -> None:
        """Refuse a report that does not commit the peer to all of these.

        Raises
        ------
        DeliveryError
            An instance has failed, or is not in the report.
        """
        for uid in instances:
            if uid in self.failed:
                message = f"storage commitment failed for instance {uid} with reason 0x{self.failed[uid] & 0xFFFF:04X}"
                raise DeliveryError(f"{message}: look at the log of the archive")
            if uid not in self.committed:
                raise DeliveryError(f"storage commitment is silent on instance {uid}: look at the log of the archive")


def read_report(event_type_id: int | None, information: Dataset | None) -> CommitmentReport:
    """Read a report.

    Raises
    ------
    PermanentError
        It is none; the message quotes nothing of it.
    """
    if event_type_id not in _EVENTS or information is None:
        raise PermanentError("it has no event of storage commitment")
    try:
        transaction_uid = str(information.TransactionUID)
        committed = frozenset(_instance(item) for item in _items(information, "ReferencedSOPSequence"))
        failed = {
            _instance(item): int(item.get("FailureReason", -1)) for item in _items(information, "FailedSOPSequence")
        }
    except PermanentError:
        raise
    except Exception as error:  # noqa: BLE001  hostile bytes raise anything, RecursionError included
        raise PermanentError(f"it cannot be decoded ({type(error).__name__})") from None
    if not is_uid(transaction_uid):
        raise PermanentError("its Transaction UID is none")
    return CommitmentReport(transaction_uid, committed - failed.keys(), failed)


def _items(information: Dataset, keyword: str) -> Sequence:
    items = information.get(keyword)
    if items is not None and not isinstance(items, Sequence):
        raise PermanentError(f"its {keyword} is no sequence")
    return items or Sequence()


def _instance(item: Dataset) -> str:
    uid = str(item.get("ReferencedSOPInstanceUID", ""))
    if not is_uid(uid):
        raise PermanentError("an instance has no UID")
    return uid
