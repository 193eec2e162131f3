"""Storage commitment as SCP of the Push Model SOP Class (PS3.4 Annex J).

A request is accepted once it is on the disk. Its result is looked up when it can be told, so that what a
peer hears is true at that moment: instances that came after the request count, removed ones do not.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from enum import IntEnum
from pathlib import Path

from pydicom.dataset import Dataset

from fewshot_node.config import CommitmentSettings
from fewshot_node.dicom.commitment.journal import CommitmentJournal
from fewshot_node.dicom.commitment.owed import Owed, OwedResults
from fewshot_node.dicom.commitment.peer import Report
from fewshot_node.dicom.commitment.request import read_request
from fewshot_node.dicom.commitment.teller import ResultTeller
from fewshot_node.dicom.ledger import utc_now
from fewshot_node.dicom.periodic import Periodic
from fewshot_node.dicom.running import Running
from fewshot_node.dicom.spool import Spool
from fewshot_node.errors import PermanentError, RefusedError

logger = logging.getLogger(__name__)
_REQUEST_STORAGE_COMMITMENT = 1


class ActionStatus(IntEnum):
    """N-ACTION statuses that requests are answered with (PS3.7 10.1.4.1.10)."""

    SUCCESS = 0x0000
    PROCESSING_FAILURE = 0x0110
    INVALID_ARGUMENT_VALUE = 0x0115
    NO_SUCH_ACTION = 0x0123
    RESOURCE_LIMITATION = 0x0213


class CommitmentDesk(Running):
    """Takes storage commitment requests and tells their results, in threads of its own.

    Each peer that is owed something has a thread while it is told, so that one that hangs keeps no other
    waiting. End the desk after the receiver: what is being told over its associations then ends at once.

    Parameters
    ----------
    folder
        Where requests lie until their results are told (`NodeSettings.commitments`).
    ae_title
        What this node calls itself when it opens an association to tell a result.

    Raises
    ------
    ConfigurationError
        The folder cannot be made.
    """

    def __init__(
        self,
        folder: Path,
        spool: Spool,
        settings: CommitmentSettings,
        ae_title: str,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._owed = OwedResults(CommitmentJournal(folder))
        self._teller = ResultTeller(self._owed, spool, settings, ae_title)
        self._settings = settings
        self._clock = clock
        self._reading = threading.Lock()
        self._retries = Periodic("commitment", self._retry, settings.retry_s, "commitment results wait")
        self._stopping = threading.Event()
        self._stopping.set()  # until `start`
        self._rounds: dict[str, threading.Thread] = {}
        self._rounds_lock = threading.Lock()

    def take(
        self, action_type_id: int, action_information: Dataset | None, calling_ae_title: str, report: Report
    ) -> tuple[int, str]:
        """Take an N-ACTION request; return its status and an error comment (PS3.4 J.3.2).

        A transaction that its sender repeats is accepted again, and its result told again.

        Parameters
        ----------
        report
            Tells the result over the association that asked, from another thread, and not before this
            request has been answered there.
        """
        if action_type_id != _REQUEST_STORAGE_COMMITMENT:
            return ActionStatus.NO_SUCH_ACTION, "the only action is 1, request storage commitment"
        try:
            with self._reading:  # one at a time: a long one takes much memory
                request = read_request(action_information, calling_ae_title, self._clock())
            self._owed.enter(request, report)
        except PermanentError as error:
            logger.warning("storage commitment for %s not taken: %s", calling_ae_title, error)
            return ActionStatus.INVALID_ARGUMENT_VALUE, str(error)
        except RefusedError as error:
            logger.error("storage commitment for %s refused: %s", calling_ae_title, error)
            return ActionStatus.RESOURCE_LIMITATION, "node is out of resources; ask again later"
        except Exception as error:  # noqa: BLE001  the peer needs a status, whatever happened
            # Only the kind: the text of a foreign exception can hold values of the data set.
            kind = type(error).__name__
            logger.error("storage commitment for %s failed: internal error %s", calling_ae_title, kind)
            return ActionStatus.PROCESSING_FAILURE, f"internal error {kind}"
        self._tell_news()
        return ActionStatus.SUCCESS, ""

    def start(self) -> None:
        """Take up what an earlier run left, and start telling results.

        Raises
        ------
        ConfigurationError
            The folder cannot be read.
        """
        self._owed.recover()
        self._teller.warn_of_unknown()
        self._stopping.clear()
        self._retries.start()

    def stop(self) -> None:
        """Stop, after the reports that are under way; the others are told after the next start."""
        with self._rounds_lock:  # no round begins after this
            self._stopping.set()
            threads = list(self._rounds.values())
        self._retries.stop()
        for thread in threads:
            thread.join()

    def _retry(self) -> None:
        """Tell what can be told now, also what could not be told before."""
        owed = self._owed.all()
        self._give_up_overdue(owed)
        self._start_rounds(one.calling_ae_title for one in owed if self._may_be_told(one))

    def _tell_news(self) -> None:
        """Tell over the associations that asked."""
        self._start_rounds(one.calling_ae_title for one in self._owed.all() if one.report is not None)

    def _may_be_told(self, one: Owed) -> bool:
        return one.report is not None or one.calling_ae_title in self._settings.peers

    def _give_up_overdue(self, owed: Sequence[Owed]) -> None:
        overdue = self._clock() - timedelta(hours=self._settings.give_up_after_h)
        for one in owed:
            if one.taken < overdue:
                self._owed.settle(one)
                logger.error(
                    "commitment %s: %s could not be told its result for %g h, given up: it has to ask again",
                    *(one.transaction_uid, one.calling_ae_title, self._settings.give_up_after_h),
                )

    def _start_rounds(self, peers: Iterable[str]) -> None:
        """Start a thread for each peer that has none."""
        with self._rounds_lock:
            for peer in set(peers) - self._rounds.keys():
                if self._stopping.is_set():
                    return
                thread = threading.Thread(target=self._tell, args=(peer,), name=f"commitment {peer}", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    logger.warning("no thread to tell %s its commitment results: told later", peer)
                    return
                self._rounds[peer] = thread

    def _tell(self, peer: str) -> None:
        try:
            self._teller.tell(peer, self._stopping)
        finally:
            with self._rounds_lock:
                del self._rounds[peer]
            self._tell_news()  # of what came meanwhile
