"""What a carrier is: it brings files to one destination and tells by what it knows that they are there."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fewshot_node.dicom.ledger import Confirmation
from fewshot_node.errors import DeliveryError


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a carrier knows after a try; without a confirmation a storage commitment is awaited."""

    confirmed_by: Confirmation | None


class Carrier(Protocol):
    """Brings files to one destination.

    What the destination has already is not sent again: UIDs are derived from content.
    """

    def carry(self, paths: Sequence[Path], transaction_uid: str | None) -> Receipt:
        """Bring what is not there yet, and make sure that everything is.

        Parameters
        ----------
        paths
            The files, what is referenced before what refers to it.
        transaction_uid
            Of the storage commitment to ask for where that is offered; None when it was asked for in vain.

        Raises
        ------
        PeerUnavailableError
            The destination cannot be reached; PeerTroubleError when it broke off or is full.
        DeliveryError
            It answers, and does not take or keep an object.
        NotDicomError, ConfigurationError
            A file or a setting is no good: another try is pointless.
        """
        ...


def not_listed(peer: str, absent: Collection[str]) -> DeliveryError:
    """Return the error of a destination that took instances and does not list them afterwards."""
    return DeliveryError(
        f"{peer} took instance {min(absent)} and does not list it ({len(absent)} in all): look at its log"
    )
