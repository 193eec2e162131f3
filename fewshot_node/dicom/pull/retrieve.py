"""Retrieving one series from the PACS into our own receiver: C-MOVE, or C-GET and C-STORE (PS3.4 C.4.2, C.4.3)."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from time import monotonic

from pydicom.dataset import Dataset
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from pynetdicom import build_context
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext

from fewshot_node.config import PacsSettings, ReceiveSettings
from fewshot_node.dicom.association import SUCCESS, associate, peer_name, read_status
from fewshot_node.dicom.pull.forward import Forwarder
from fewshot_node.dicom.pull.plan import PlannedSeries
from fewshot_node.dicom.pull.query_keys import identifier
from fewshot_node.dicom.query import GET, classes_of, list_instances
from fewshot_node.errors import DeliveryError, PeerUnavailableError, PermanentError

logger = logging.getLogger(__name__)
MOVE = UID("1.2.840.10008.5.1.4.1.2.2.2")
RETRIEVED_SYNTAXES = [
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    JPEGLossless,
    JPEG2000,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
    HTJ2KLossless,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
]
"""What instances are stored as, the usual first: a request names at most 128 presentation contexts."""
_MOST_CONTEXTS = 128
_PENDING = {0xFF00, 0xFF01}
_SOME_FAILED = 0xB000
_UNKNOWN_DESTINATION = 0xA801
_POLL_S = 0.25
_CANCELLED_WITHIN_S = 5.0
_PATIENCE = 10
"""How many times `pacs.timeout_s` nothing may come: an archive may have to fetch a study from a tape first."""


@dataclass(frozen=True, slots=True)
class Retrieval:
    """How one series is retrieved, and who is told.

    Attributes
    ----------
    holding
        Folder for instances on their way through a C-GET.
    arrived
        How many instances of a series our receiver has taken so far.
    on_arrival
        Called with that number when it has grown.
    """

    pacs: PacsSettings
    receive: ReceiveSettings
    holding: Path
    arrived: Callable[[str], int]
    on_arrival: Callable[[int], None]


def move(series: PlannedSeries, retrieval: Retrieval) -> int:
    """Let the PACS send a series to our receiver (C-MOVE); return how many instances it says it has sent.

    Raises
    ------
    PermanentError
        The PACS does not know our AE title as a destination.
    PeerUnavailableError, DeliveryError
        The PACS went away, refused, or did not send all.
    """
    destination = retrieval.receive.ae_title
    with associate(retrieval.pacs, [build_context(MOVE)]) as association:
        responses = association.send_c_move(_identify(series), destination, MOVE)
        try:
            final = _Conversation(association, MOVE, series, retrieval).listen(responses)
        except PeerUnavailableError as error:
            hint = "some PACS do so to a destination that they do not know"
            raise PeerUnavailableError(f"{error}; {hint}: {_introduction(retrieval)}") from error
    return _sent(final, series, "C-MOVE", retrieval)


def get(series: PlannedSeries, retrieval: Retrieval) -> int:
    """Fetch a series (C-GET), each instance handed to our receiver; return how many it has taken.

    Raises
    ------
    RefusedError
        Our receiver cannot take more now, or does not run.
    PeerUnavailableError, DeliveryError
        The PACS went away, refused, or did not send all.
    """
    uid = series.series_instance_uid
    wanted = classes_of(list_instances(series.study_instance_uid, uid, retrieval.pacs))[: _MOST_CONTEXTS - 1]
    contexts = [build_context(GET), *_storage_contexts(wanted)]
    forwarder = Forwarder(retrieval.receive, retrieval.pacs, retrieval.holding)
    with closing(forwarder), associate(retrieval.pacs, contexts, wanted, forwarder.handlers) as association:
        try:
            responses = association.send_c_get(_identify(series), GET)
        except ValueError as error:
            message = f"{peer_name(retrieval.pacs)} does not accept C-GET: enable it there, or use --by move"
            raise PermanentError(message) from error
        final = _Conversation(association, GET, series, retrieval, forwarder).listen(responses)
    if forwarder.problem is not None:
        raise forwarder.problem
    if forwarder.refused:
        receiver = f"our receiver {retrieval.receive.ae_title}"
        raise DeliveryError(f"{receiver} refuses {forwarder.refused} instances of {uid}: look at its log")
    return max(forwarder.forwarded, _sent(final, series, "C-GET", retrieval))


def _identify(series: PlannedSeries) -> Dataset:
    uids = {"StudyInstanceUID": series.study_instance_uid, "SeriesInstanceUID": series.series_instance_uid}
    return identifier("SERIES", (), uids)


def _storage_contexts(classes: Sequence[str]) -> list[PresentationContext]:
    """Propose each SOP class in as many transfer syntaxes as there is room for.

    Each stands in a context of its own, so that the PACS may send every instance as it is stored.
    """
    room = max(1, (_MOST_CONTEXTS - 1) // len(classes))
    return [build_context(sop_class, syntax) for sop_class in classes for syntax in RETRIEVED_SYNTAXES[:room]]


def _sent(final: Dataset, series: PlannedSeries, service: str, retrieval: Retrieval) -> int:
    """Return how many instances were sent, from the final answer (PS3.4 C.4.2.1.5 and C.4.2.1.6)."""
    status = read_status(final, retrieval.pacs)
    peer = peer_name(retrieval.pacs)
    failed = int(final.get("NumberOfFailedSuboperations") or 0)
    sent = sum(int(final.get(f"NumberOf{kind}Suboperations") or 0) for kind in ("Completed", "Warning"))
    if status == _UNKNOWN_DESTINATION:
        raise PermanentError(f"{peer} does not know the move destination: {_introduction(retrieval)}")
    if failed or status == _SOME_FAILED:
        remedy = "look at the logs of both" if service == "C-GET" else f"look at both logs; {_introduction(retrieval)}"
        raise DeliveryError(f"{peer} failed to send {failed} instances of {series.series_instance_uid}: {remedy}")
    if status != SUCCESS:
        remedy = "look at its log" if service == "C-GET" else f"look at its log; {_introduction(retrieval)}"
        raise DeliveryError(f"{peer} answers {service} with status 0x{status:04X}: {remedy}")
    return sent


def _introduction(retrieval: Retrieval) -> str:
    """Say how the PACS gets to know this node as a move destination."""
    receive = retrieval.receive
    where = f"AE title {receive.ae_title}, host of this machine, port {receive.port}"
    return f"add {where} to its known nodes, or use --by get"


class _Conversation:
    """The answers to one C-MOVE or C-GET, read by a thread so that the user and a full disk can break it off."""

    def __init__(
        self,
        association: Association,
        model: UID,
        series: PlannedSeries,
        retrieval: Retrieval,
        forwarder: Forwarder | None = None,
    ) -> None:
        self._association = association
        self._model = model
        self._uid = series.series_instance_uid
        self._retrieval = retrieval
        self._forwarder = forwarder
        self._answers: SimpleQueue[Dataset | None] = SimpleQueue()  # None: there will be no more
        self._seen = (0, 0)

    def listen(self, responses: Iterator[tuple[Dataset, Dataset | None]]) -> Dataset:
        """Return the final answer.

        Raises
        ------
        PeerUnavailableError
            Neither an answer nor an instance came for long, or the association ended.
        """
        self._association.dimse_timeout = None  # the patience is in `_final`
        reader = threading.Thread(target=self._read, args=(responses,), name="retrieval", daemon=True)
        reader.start()
        try:
            return self._final()
        except BaseException:
            self._cancel(reader)
            raise

    def _read(self, responses: Iterator[tuple[Dataset, Dataset | None]]) -> None:
        try:
            for answer, _ in responses:
                self._answers.put(answer)
        except Exception as error:  # noqa: BLE001  whatever pynetdicom makes of hostile bytes; `_final` reports it
            logger.warning("answers of %s end with %s", peer_name(self._retrieval.pacs), type(error).__name__)
        finally:
            self._answers.put(None)

    def _final(self) -> Dataset:
        peer, patience_s = peer_name(self._retrieval.pacs), _PATIENCE * self._retrieval.pacs.timeout_s
        deadline = monotonic() + patience_s
        while monotonic() < deadline:
            has_answered = False
            with suppress(Empty):
                answer = self._answers.get(timeout=_POLL_S)
                if answer is None:
                    raise PeerUnavailableError(f"{peer} gave no final answer for {self._uid}: look at its log")
                if read_status(answer, self._retrieval.pacs) not in _PENDING:
                    return answer
                has_answered = True
            if self._forwarder is not None and self._forwarder.problem is not None:
                raise self._forwarder.problem
            if self._has_grown() or has_answered:
                deadline = monotonic() + patience_s
        raise PeerUnavailableError(f"{peer} sent nothing of {self._uid} for {patience_s:g} s: look at its log")

    def _has_grown(self) -> bool:
        """Tell whether an instance came, by what our receiver counts: a PACS need not send pending answers."""
        forwarded = self._forwarder.forwarded if self._forwarder is not None else 0
        seen, self._seen = self._seen, (self._retrieval.arrived(self._uid), forwarded)
        if self._seen == seen:
            return False
        self._retrieval.on_arrival(max(self._seen))
        return True

    def _cancel(self, reader: threading.Thread) -> None:
        """Ask the PACS to stop (C-CANCEL), and abort when it does not soon."""
        with suppress(RuntimeError, ValueError):  # it has ended; that must not hide why this one breaks off
            self._association.send_c_cancel(1, query_model=self._model)
            reader.join(_CANCELLED_WITHIN_S)
        if reader.is_alive():
            self._association.abort()
            self._association.dimse.msg_queue.put((None, None))  # wakes the thread in any case
            reader.join(_CANCELLED_WITHIN_S)
