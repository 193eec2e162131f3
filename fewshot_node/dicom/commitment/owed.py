"""Which storage commitment results are owed to whom."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from fewshot_node.dicom.commitment.journal import CommitmentJournal
from fewshot_node.dicom.commitment.peer import Report
from fewshot_node.dicom.commitment.request import CommitmentRequest
from fewshot_node.errors import PermanentError, RefusedError

_MOST_TO_ONE = 1_000
_MOST = 10_000
_MOST_REFERENCES = 2_000_000
"""About 250 MB of files."""


@dataclass(frozen=True, slots=True, eq=False)
class Owed:
    """A result that is to be told; which instances it is about is in the journal."""

    calling_ae_title: str
    transaction_uid: str
    references: int
    taken: datetime
    report: Report | None = None
    """Over the association that asked; None once that did not work."""

    @property
    def key(self) -> tuple[str, str]:
        """What the journal knows the request by."""
        return self.calling_ae_title, self.transaction_uid


class OwedResults:
    """The journal's requests, with the associations over which they came; for many threads.

    A request that is repeated while its result is being told is another `Owed`: what is done to the old
    one then does nothing, and the result is told again.
    """

    def __init__(self, journal: CommitmentJournal) -> None:
        self._journal = journal
        self._lock = threading.Lock()
        self._owed: dict[tuple[str, str], Owed] = {}

    def recover(self) -> None:
        """Take up the requests that an earlier run left."""
        with self._lock:
            for request in self._journal.recover():
                self._add(request, None)

    def enter(self, request: CommitmentRequest, report: Report) -> None:
        """Take a request durably.

        Raises
        ------
        PermanentError
            Its Transaction UID is in use with other references.
        RefusedError
            The disk does not take it, or too many results are owed.
        """
        with self._lock:
            known = self._owed.get((request.calling_ae_title, request.transaction_uid))
            kept = None if known is None else self._journal.find(*known.key)
            if known is None or kept is None:
                self._check_room(request)
                self._journal.keep(request)
                self._add(request, report)
            elif kept.references == request.references:
                self._owed[known.key] = replace(known, report=report)
            else:
                raise PermanentError("Transaction UID is in use with other references")

    def all(self) -> Sequence[Owed]:
        """Return what is owed, the oldest first."""
        with self._lock:
            return sorted(self._owed.values(), key=lambda owed: owed.taken)

    def find(self, owed: Owed) -> CommitmentRequest | None:
        """Return the request of an owed result; None when its file is lost, and nothing is owed any more."""
        with self._lock:
            request = self._journal.find(*owed.key)
            if request is None:
                self._owed.pop(owed.key, None)
            return request

    def settle(self, owed: Owed) -> None:
        """Forget a result that was told or given up."""
        with self._lock:
            if self._owed.get(owed.key) is owed:
                del self._owed[owed.key]
                self._journal.forget(*owed.key)

    def drop_report(self, owed: Owed) -> None:
        """Note that a result cannot be told over the association that asked."""
        with self._lock:
            if self._owed.get(owed.key) is owed:
                self._owed[owed.key] = replace(owed, report=None)

    def _add(self, request: CommitmentRequest, report: Report | None) -> None:
        key = (request.calling_ae_title, request.transaction_uid)
        self._owed[key] = Owed(*key, len(request.references), request.taken, report)

    def _check_room(self, request: CommitmentRequest) -> None:
        owed = self._owed.values()
        peer = request.calling_ae_title
        if sum(one.calling_ae_title == peer for one in owed) >= _MOST_TO_ONE:
            message = f"{_MOST_TO_ONE} results are owed to {peer}: check commitment.peers.{peer} and its log"
            raise RefusedError(message)
        references = sum(one.references for one in owed) + len(request.references)
        if len(owed) >= _MOST or references > _MOST_REFERENCES:
            raise RefusedError("too many results are owed: check commitment.peers and the logs of those peers")
