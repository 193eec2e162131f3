"""Back-processing an archive: series after series from the PACS to our own receiver, at a bearable pace.

What the ledger holds already is skipped, so the same pull started again goes on where it was broken off.
"""

import socket
from collections.abc import Sequence
from time import monotonic, sleep

from pynetdicom import build_context
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from fewshot_node.config import NodeSettings
from fewshot_node.dicom.association import associate, peer_name
from fewshot_node.dicom.ledger import Ledger
from fewshot_node.dicom.pull.forward import reachable_host
from fewshot_node.dicom.pull.gate import Gate
from fewshot_node.dicom.pull.plan import PlannedSeries
from fewshot_node.dicom.pull.progress import PullOutcome, PullView, Tally
from fewshot_node.dicom.pull.retrieve import Retrieval, get, move
from fewshot_node.dicom.query import FIND, list_instances
from fewshot_node.dicom.spool import Spool
from fewshot_node.errors import (
    ConfigurationError,
    DeliveryError,
    RefusedError,
    RetryableError,
)

_ATTEMPTS = 3
_HOPELESS_IN_A_ROW = 10
_LONGEST_WAIT_S = 60.0
_POLL_S = 0.25
_SETTLED_WITHIN_S = 10.0


def require_receiver(settings: NodeSettings) -> None:
    """Make sure that what is fetched has somewhere to go.

    Raises
    ------
    ConfigurationError
        The receiver speaks TLS only, which a pull by C-GET does not.
    RefusedError
        Nobody listens at the receiver's address.
    """
    receive = settings.receive
    if settings.pull.by == "get" and receive.tls is not None:
        raise ConfigurationError(
            "with receive.tls the receiver takes TLS clients only, and a C-GET is handed to it without: use --by move"
        )
    host = reachable_host(receive)
    try:
        socket.create_connection((host, receive.port), timeout=settings.pacs.timeout_s).close()
    except OSError as error:
        where = f"our receiver does not listen at {host}:{receive.port} ({error.strerror or 'no answer'})"
        raise RefusedError(f"{where}: start it with `fewshot-node serve`, in another window") from error


def held_instances(ledger: Ledger, series_instance_uid: str) -> int:
    """Return how many instances of a series the node has: none once retention has removed them."""
    entry = ledger.get(series_instance_uid)
    return entry.instances if entry is not None and entry.removed_at is None else 0


class Pull:
    """Fetches planned series one after the other; `tally` says at any time what has come of it."""

    def __init__(self, settings: NodeSettings, ledger: Ledger, spool: Spool, view: PullView) -> None:
        self._settings = settings
        self._ledger = ledger
        self._view = view
        self._gate = Gate(settings, ledger, spool, view)
        self._retrieve = move if settings.pull.by == "move" else get
        self._retrieval = Retrieval(settings.pacs, settings.receive, spool.root, self._held, view.arrived)
        self.tally = Tally(0)

    def run(self, plan: Sequence[PlannedSeries]) -> Tally:
        """Fetch every series that is not here yet; a series that cannot be fetched does not stop the others.

        Raises
        ------
        PeerUnavailableError
            The PACS is not there any more.
        DeliveryError
            Many series in a row failed.
        RefusedError
            Our own receiver cannot take more, or does not run.
        PermanentError
            The PACS cannot do this with any series, for example because it does not know our AE title.
        """
        self.tally = Tally(len(plan))
        self._view.starts(len(plan))
        in_a_row = 0
        for series in plan:
            self._view.began(series)
            try:
                outcome, reason = self._persist(series), ""
            except RetryableError as error:
                outcome, reason = PullOutcome.FAILED, str(error)
            self._count(series, outcome, reason)
            in_a_row = in_a_row + 1 if outcome == PullOutcome.FAILED else 0
            if in_a_row:
                self._require_pacs()
            if in_a_row == _HOPELESS_IN_A_ROW:
                raise DeliveryError(f"{in_a_row} series in a row failed, the last because {reason}")
        return self.tally

    def is_held(self, series: PlannedSeries) -> bool:
        """Tell whether the ledger has at least as many instances of a series as the PACS."""
        held = self._held(series.series_instance_uid)
        if not held:
            return False
        uids = (series.study_instance_uid, series.series_instance_uid)
        return held >= (series.instances or len(list_instances(*uids, self._settings.pacs)))

    def _persist(self, series: PlannedSeries) -> PullOutcome:
        retrying = Retrying(
            retry=retry_if_exception_type((RetryableError, RefusedError)),
            stop=stop_after_attempt(_ATTEMPTS),
            wait=wait_exponential(multiplier=self._settings.pacs.backoff_s, max=_LONGEST_WAIT_S),
            reraise=True,
        )
        return retrying(self._attempt, series)

    def _attempt(self, series: PlannedSeries) -> PullOutcome:
        if self.is_held(series):
            return PullOutcome.SKIPPED
        self._gate.wait()
        sent = self._retrieve(series, self._retrieval)
        self._settle(series.series_instance_uid, series.instances or sent or 1)
        return PullOutcome.RETRIEVED

    def _settle(self, series_uid: str, expected: int) -> None:
        """Wait until the ledger counts what the PACS says it has sent: it may be a moment behind."""
        deadline = monotonic() + _SETTLED_WITHIN_S
        while (held := self._held(series_uid)) < expected and monotonic() < deadline:
            sleep(_POLL_S)
        if held < expected:
            message = f"{peer_name(self._settings.pacs)} ended {series_uid} with success, and {held} of {expected}"
            raise DeliveryError(f"{message} instances are here: {self._remedy()}")
        self._view.arrived(held)

    def _remedy(self) -> str:
        receive = self._settings.receive
        if self._settings.pull.by == "get":
            return "look at both logs"
        return f"check which host and port it has for AE title {receive.ae_title} (ours listens on {receive.port})"

    def _held(self, series_uid: str) -> int:
        return held_instances(self._ledger, series_uid)

    def _count(self, series: PlannedSeries, outcome: PullOutcome, reason: str) -> None:
        self.tally.retrieved += outcome == PullOutcome.RETRIEVED
        self.tally.skipped += outcome == PullOutcome.SKIPPED
        if outcome == PullOutcome.FAILED:
            self.tally.failures[series.series_instance_uid] = reason
        self._view.ended(series, outcome, reason)

    def _require_pacs(self) -> None:
        """Stop when a failure was the PACS' end and not the series'."""
        with associate(self._settings.pacs, [build_context(FIND)]):
            pass
