"""Telling storage commitment results: over the association that asked, else over one of our own (PS3.4 J.3.3)."""

import logging
import threading
from collections import Counter
from collections.abc import Sequence

from fewshot_node.config import CommitmentSettings
from fewshot_node.dicom.commitment.owed import Owed, OwedResults
from fewshot_node.dicom.commitment.peer import Report, reporting
from fewshot_node.dicom.commitment.result import read_result
from fewshot_node.dicom.spool import Spool
from fewshot_node.errors import PeerUnavailableError

logger = logging.getLogger(__name__)


class ResultTeller:
    """Looks up what is owed and reports it; what cannot be told stays owed."""

    def __init__(self, owed: OwedResults, spool: Spool, settings: CommitmentSettings, ae_title: str) -> None:
        self._owed = owed
        self._spool = spool
        self._settings = settings
        self._ae_title = ae_title

    def tell(self, peer: str, stopping: threading.Event) -> None:
        """Tell a peer what it is owed, as far as that works now."""
        for one in self._owed_to(peer):
            if one.report is not None and not stopping.is_set():
                try:
                    self._tell_one(one, one.report)
                except PeerUnavailableError:
                    logger.info("%s has left before it was told; its results go over another association", peer)
                finally:
                    self._owed.drop_report(one)
        rest = [one for one in self._owed_to(peer) if one.report is None]
        if rest and not stopping.is_set():
            self._tell_anew(peer, rest, stopping)

    def warn_of_unknown(self) -> None:
        """Log which of those that are owed something have no address."""
        counts = Counter(one.calling_ae_title for one in self._owed.all())
        for peer in sorted(counts.keys() - self._settings.peers.keys()):
            _warn_of_unknown(peer, counts[peer])

    def _owed_to(self, peer: str) -> list[Owed]:
        return [one for one in self._owed.all() if one.calling_ae_title == peer]

    def _tell_anew(self, peer: str, rest: Sequence[Owed], stopping: threading.Event) -> None:
        """Tell results over one association of our own."""
        address = self._settings.peers.get(peer)
        if address is None:
            _warn_of_unknown(peer, len(rest))
            return
        try:
            with reporting(self._ae_title, peer, address) as report:
                for one in rest:
                    if not stopping.is_set():
                        self._tell_one(one, report)
        except PeerUnavailableError as error:
            logger.warning("%s; results are told again in %g s", error, self._settings.retry_s)
        except Exception as error:  # noqa: BLE001  they are still owed
            kind = type(error).__name__
            logger.error("results of %s are told again in %g s: error %s", peer, self._settings.retry_s, kind)

    def _tell_one(self, one: Owed, report: Report) -> None:
        try:
            request = self._owed.find(one)
            if request is None:
                return
            event_type_id, information = read_result(request, self._spool)
            told = report(event_type_id, information)
        except PeerUnavailableError:
            raise
        except Exception as error:  # noqa: BLE001  other results are still owed
            # Only the kind: the text of a foreign exception can hold values of data sets.
            kind = type(error).__name__
            logger.error(
                "commitment %s for %s: result not told, error %s", one.transaction_uid, one.calling_ae_title, kind
            )
            return
        if told:
            self._owed.settle(one)
            failed = len(information.get("FailedSOPSequence", ()))
            logger.info(
                "commitment %s: %s was told of %d instances, %d of them not here",
                *(one.transaction_uid, one.calling_ae_title, one.references, failed),
            )


def _warn_of_unknown(peer: str, results: int) -> None:
    remedy = f"add its address as commitment.peers.{peer}, or let it ask again"
    logger.warning("%d storage commitment results wait for %s: %s", results, peer, remedy)
