"""How many instances a series has, as the PACS knows (C-FIND, PS3.4 C.6.2; NumberOfSeriesRelatedInstances)."""

import logging
import threading
import time
from types import TracebackType

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import build_context

from fewshot_node.config import PacsSettings
from fewshot_node.dicom.association import associate, read_answers
from fewshot_node.dicom.identity import MOST_INSTANCES
from fewshot_node.dicom.ledger import Ledger, SeriesEntry, SeriesState
from fewshot_node.errors import FewshotNodeError

_LOGGER = logging.getLogger(__name__)
_STUDY_ROOT_FIND = UID("1.2.840.10008.5.1.4.1.2.2.1")
_ASK_AGAIN_S = 5.0
_STOP_S = 1.0


def count_at_pacs(entry: SeriesEntry, pacs: PacsSettings) -> int | None:
    """Ask the PACS how many instances a series has; None when it does not say.

    Raises
    ------
    PeerUnavailableError, DeliveryError
        The PACS cannot be asked.
    """
    query = Dataset()
    query.QueryRetrieveLevel = "SERIES"
    query.StudyInstanceUID = entry.study_instance_uid
    query.SeriesInstanceUID = entry.key.series_instance_uid
    query.NumberOfSeriesRelatedInstances = None
    with associate(pacs, [build_context(_STUDY_ROOT_FIND)]) as association:
        answers = list(read_answers(association.send_c_find(query, _STUDY_ROOT_FIND), pacs, "C-FIND"))
    # Some archives answer with more than was asked for.
    asked = [answer for answer in answers if str(answer.get("SeriesInstanceUID")) == entry.key.series_instance_uid]
    return max((count for count in map(_count, asked) if 0 < count <= MOST_INSTANCES), default=None)


def _count(answer: Dataset) -> int:
    """Return what an answer says; 0 when that is no number."""
    try:
        return int(str(answer.NumberOfSeriesRelatedInstances))
    except (AttributeError, TypeError, ValueError, OverflowError):
        return 0


class ExpectedCounts:
    """Thread that asks the PACS about the series that are being received, while the context is entered."""

    def __init__(self, ledger: Ledger, pacs: PacsSettings, ask_again_s: float = _ASK_AGAIN_S) -> None:
        self._ledger = ledger
        self._pacs = pacs
        self._ask_again_s = ask_again_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="expected", daemon=True)

    def __enter__(self) -> "ExpectedCounts":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join(_STOP_S)  # a PACS that hangs must not keep the receiver from stopping

    def ask_once(self) -> None:
        """Ask about every series that is being received, and note the answers.

        Raises
        ------
        PeerUnavailableError, DeliveryError
            The PACS cannot be asked.
        RetryableError
            The ledger is busy.
        """
        for entry in self._ledger.series(SeriesState.RECEIVING):
            count = count_at_pacs(entry, self._pacs)
            if count is not None and count > (entry.expected or 0):
                self._ledger.note_expected(entry.key, count)
            if self._stopping.is_set():
                return

    def _run(self) -> None:
        is_away = False
        while not self._stopping.wait(self._ask_again_s):
            started = time.monotonic()
            try:
                self.ask_once()
                is_away = False
            except FewshotNodeError as error:
                if not is_away:  # series wait for their quiet period meanwhile
                    _LOGGER.warning("number of instances not known: %s", error)
                is_away = True
            self._stopping.wait(time.monotonic() - started)  # a slow PACS is asked less often
