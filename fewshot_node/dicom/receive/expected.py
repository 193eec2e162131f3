"""How many instances a series has, as the PACS knows (C-FIND, PS3.4 C.6.2; NumberOfSeriesRelatedInstances)."""

from pydicom.dataset import Dataset
from pynetdicom import build_context

from fewshot_node.config import PacsSettings
from fewshot_node.dicom.association import associate, read_answers
from fewshot_node.dicom.identity import MOST_INSTANCES
from fewshot_node.dicom.ledger import Ledger, SeriesEntry, SeriesState
from fewshot_node.dicom.periodic import Periodic
from fewshot_node.dicom.query import FIND
from fewshot_node.errors import DeliveryError

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
    with associate(pacs, [build_context(FIND)]) as association:
        answers = read_answers(association.send_c_find(query, FIND), pacs, "C-FIND")
        # Some archives answer with more than was asked for: one answer at a time is held.
        counts = (_count(answer, entry.key.series_instance_uid) for answer in answers)
        return max((count for count in counts if 0 < count <= MOST_INSTANCES), default=None)


def _count(answer: Dataset, series_instance_uid: str) -> int:
    """Return what an answer says; 0 when that is no number, or about another series."""
    if str(answer.get("SeriesInstanceUID")) != series_instance_uid:
        return 0
    try:
        return int(str(answer.NumberOfSeriesRelatedInstances))
    except (AttributeError, TypeError, ValueError, OverflowError):
        return 0


class ExpectedCounts(Periodic):
    """Thread that asks the PACS about the series that are being received.

    Where it has no answer they wait for their quiet period.
    """

    def __init__(self, ledger: Ledger, pacs: PacsSettings, ask_again_s: float = _ASK_AGAIN_S) -> None:
        # Stopped soon: a PACS that hangs must not keep the receiver from stopping.
        super().__init__("expected", self.ask_once, ask_again_s, "number of instances not known", stop_s=_STOP_S)
        self._ledger = ledger
        self._pacs = pacs

    def ask_once(self) -> None:
        """Ask about every series that is being received, and note the answers.

        Raises
        ------
        PeerUnavailableError
            The PACS is not there.
        DeliveryError
            It cannot say of a series; the others were asked about first.
        RetryableError
            The ledger is busy.
        """
        refusal: DeliveryError | None = None
        for entry in self._ledger.series(SeriesState.RECEIVING):
            if self.is_stopping:
                return
            try:
                count = count_at_pacs(entry, self._pacs)
            except DeliveryError as error:
                refusal = error
                continue
            if count is not None and count > (entry.expected or 0):
                self._ledger.note_expected(entry.key, count)
        if refusal is not None:
            raise refusal
