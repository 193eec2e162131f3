"""What a pull is to fetch: the studies that are wanted, and their series as the PACS lists them."""

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pydicom.dataset import Dataset
from pynetdicom import build_context
from pynetdicom.association import Association

from fewshot_node.config import PacsSettings
from fewshot_node.dicom.association import OPTIONAL_KEYS_IGNORED, associate, peer_name, read_matches
from fewshot_node.dicom.identity import is_uid
from fewshot_node.dicom.pull.query_keys import QueryKeys, identifier
from fewshot_node.dicom.query import FIND
from fewshot_node.errors import DeliveryError, PermanentError

logger = logging.getLogger(__name__)
_MOST_MATCHES = 200_000
_MOST_PLANNED = 1_000_000
"""Half a gigabyte."""
_MODALITY = re.compile(r"[A-Z0-9_]{1,16}")
_UNIQUE = ("StudyInstanceUID", "SeriesInstanceUID")  # every PACS matches by these
_SERIES = ("StudyInstanceUID", "SeriesInstanceUID", "Modality", "NumberOfSeriesRelatedInstances")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the operator asks for.

    Attributes
    ----------
    study_instance_uids
        These studies; empty: those that `keys` find.
    series_instance_uids, modalities
        Only these of their series; empty: all.
    ignored_keys
        Take what the PACS lists also when it may have ignored a key.
    """

    study_instance_uids: tuple[str, ...] = ()
    series_instance_uids: tuple[str, ...] = ()
    keys: QueryKeys = field(default_factory=QueryKeys)
    modalities: tuple[str, ...] = ()
    ignored_keys: bool = False


@dataclass(frozen=True, slots=True)
class PlannedSeries:
    """A series to fetch; `instances` is None where the PACS does not count them."""

    study_instance_uid: str
    series_instance_uid: str
    modality: str
    instances: int | None


def plan_pull(
    wanted: Wanted, pacs: PacsSettings, on_study: Callable[[int, int], None] = lambda _done, _all: None
) -> tuple[PlannedSeries, ...]:
    """List the wanted series at the PACS (C-FIND at STUDY and SERIES level), each once.

    Parameters
    ----------
    on_study
        Called with how many studies have been asked about, and how many there are.

    Raises
    ------
    PeerUnavailableError, DeliveryError
        The PACS cannot be asked, lists too much, or ignores a key.
    PermanentError
        A wanted series is not listed.
    """
    with associate(pacs, [build_context(FIND)]) as association:
        search = _Search(association, pacs, strict=not wanted.ignored_keys)
        if wanted.series_instance_uids and not wanted.study_instance_uids:
            planned = search.series_anywhere(wanted)
        else:
            studies = wanted.study_instance_uids or search.studies(wanted.keys.study)
            planned = search.series(studies, wanted.keys.series, on_study)
    chosen = tuple(series for series in planned if _is_chosen(series, wanted))
    missing = set(wanted.series_instance_uids) - {series.series_instance_uid for series in planned}
    if missing:
        names = f"series {min(missing)} ({len(missing)} in all)"
        raise PermanentError(f"{peer_name(pacs)} does not list {names}: check the UID, and give its study by --study")
    return chosen


def _is_chosen(series: PlannedSeries, wanted: Wanted) -> bool:
    only = wanted.series_instance_uids
    return (not only or series.series_instance_uid in only) and (
        not wanted.modalities or series.modality in wanted.modalities
    )


class _Search:
    """C-FINDs over one association; `strict` refuses answers of a PACS that ignored a key."""

    def __init__(self, association: Association, pacs: PacsSettings, strict: bool) -> None:
        self._association = association
        self._pacs = pacs
        self._strict = strict

    def studies(self, keys: Mapping[str, str]) -> tuple[str, ...]:
        """Return the UIDs of the studies that match."""
        found = self._find("STUDY", ("StudyInstanceUID",), keys)
        return tuple(dict.fromkeys(uid for item in found if (uid := self._uid(item, "StudyInstanceUID"))))

    def series(
        self, studies: Sequence[str], keys: Mapping[str, str], on_study: Callable[[int, int], None]
    ) -> tuple[PlannedSeries, ...]:
        """Return the series of studies that match, each once."""
        planned: dict[str, PlannedSeries] = {}
        for done, study_uid in enumerate(studies):
            on_study(done, len(studies))
            found = self._find("SERIES", _SERIES, {**keys, "StudyInstanceUID": study_uid})
            planned |= {series.series_instance_uid: series for series in self._planned(found, study_uid)}
            if len(planned) > _MOST_PLANNED:
                self._refuse(f"lists more than {_MOST_PLANNED} series: ask for less, for example by StudyDate")
        on_study(len(studies), len(studies))
        return tuple(planned.values())

    def series_anywhere(self, wanted: Wanted) -> tuple[PlannedSeries, ...]:
        """Return series of studies that nobody named: a relational query, which a PACS may refuse (PS3.4 C.4.1)."""
        planned: dict[str, PlannedSeries] = {}
        for series_uid in wanted.series_instance_uids:
            found = self._find("SERIES", _SERIES, {"SeriesInstanceUID": series_uid})
            planned |= {series.series_instance_uid: series for series in self._planned(found, "")}
        return tuple(planned.values())

    def _planned(self, found: Iterable[Dataset], study_uid: str) -> Iterator[PlannedSeries]:
        for item in found:
            series_uid = self._uid(item, "SeriesInstanceUID")
            own_study = _text(item, "StudyInstanceUID") or study_uid
            if series_uid and is_uid(own_study) and own_study == (study_uid or own_study):
                modality = _text(item, "Modality")
                known = modality if _MODALITY.fullmatch(modality) else "?"
                yield PlannedSeries(own_study, series_uid, known, _count(item))

    def _find(self, level: str, asked_for: tuple[str, ...], keys: Mapping[str, str]) -> Iterator[Dataset]:
        responses = self._association.send_c_find(identifier(level, asked_for, keys), FIND)
        for number, (status, item) in enumerate(read_matches(responses, self._pacs, "C-FIND"), 1):
            ignored = [
                key for key, value in keys.items() if value.strip("*") and key not in _UNIQUE and key not in item
            ]
            if number > _MOST_MATCHES:
                self._refuse(f"lists more than {_MOST_MATCHES} matches: ask for less")
            if self._strict and (ignored or status == OPTIONAL_KEYS_IGNORED):
                which = ", ".join(ignored) or "one of " + ", ".join(keys)
                self._refuse(f"does not match by {which}: ask by other keys, or take all that it lists with --all")
            yield item

    def _refuse(self, message: str) -> None:
        self._association.abort()  # a release would wait for the answers that are still on their way
        raise DeliveryError(f"{peer_name(self._pacs)} {message}")

    def _uid(self, item: Dataset, keyword: str) -> str:
        uid = _text(item, keyword)
        if not is_uid(uid):
            logger.warning("%s lists something whose %s is no UID: left out", peer_name(self._pacs), keyword)
            return ""
        return uid


def _count(item: Dataset) -> int | None:
    text = _text(item, "NumberOfSeriesRelatedInstances")
    return int(text) if re.fullmatch(r"[1-9]\d{0,8}", text, re.ASCII) else None


def _text(item: Dataset, keyword: str) -> str:
    """Return a value as it was sent, also one that its VR does not allow."""
    element = item.get_item(keyword) if keyword in item else None
    value = "" if element is None or element.value is None else element.value
    text = value.decode("ascii", errors="replace") if isinstance(value, bytes) else str(value)
    return text.strip("\0 ")
