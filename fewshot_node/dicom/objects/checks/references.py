"""What an object refers to: only what was really used, under its true class, and in an SR only what is evidence."""

from collections.abc import Iterator, Mapping, Sequence

from pydicom.dataset import Dataset

from fewshot_node.dicom.identity import is_uid
from fewshot_node.dicom.objects.checks.faults import Fault, inherited, is_below, items
from fewshot_node.dicom.objects.values import number_of_frames

_EVIDENCE = ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence")
_ELSEWHERE = frozenset({"PredecessorDocumentsSequence", "ReferencedRequestSequence"})
"""Sequences that name other things than what was used: earlier results, orders."""
_STUDY = "RTReferencedStudySequence"
"""Names the study as if it were an instance (PS3.3 C.8.8.5)."""


def foreign_uids(dataset: Dataset, sources: Sequence[Dataset]) -> Iterator[Fault]:
    """Yield the object's own UIDs that are malformed or its source's."""
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        uid = str(dataset.get(keyword) or "")
        if not is_uid(uid):
            yield Fault(keyword, "is no UID")
        if uid in {str(source.get(keyword)) for source in sources}:
            yield Fault(keyword, "is that of its own source")


def stray_references(dataset: Dataset, sources: Sequence[Dataset], companions: Sequence[Dataset]) -> Iterator[Fault]:
    """Yield the references to instances, frames or segments that were not used or do not exist.

    Parameters
    ----------
    companions
        Objects of the same result, and earlier ones that it follows.
    """
    allowed = {str(one.SOPInstanceUID): one for one in (*sources, *companions)}
    skipped = inherited(dataset, sources[0]) | _ELSEWHERE
    for path, item in items(dataset):
        if "ReferencedSOPInstanceUID" in item and not is_below(path, skipped) and _STUDY not in path.rpartition("/")[2]:
            referenced = allowed.get(str(item.ReferencedSOPInstanceUID))
            if referenced is None:
                yield Fault(f"{path}/ReferencedSOPInstanceUID", "is an instance that was not used")
            else:
                yield from (Fault(f"{path}/{keyword}", rule) for keyword, rule in _mismatches(item, referenced))
    yield from _stray_series(dataset, sources, companions)
    if "ContentSequence" in dataset:
        yield from _without_evidence(dataset)


def _mismatches(item: Dataset, referenced: Dataset) -> Iterator[tuple[str, str]]:
    stated = item.get("ReferencedSOPClassUID")
    if stated != referenced.SOPClassUID:
        yield "ReferencedSOPClassUID", "is not the class of that instance"
    if any(not 1 <= number <= number_of_frames(referenced) for number in _numbers(item, "ReferencedFrameNumber")):
        yield "ReferencedFrameNumber", "is no frame of that instance"
    segments = {int(segment.SegmentNumber) for segment in referenced.get("SegmentSequence") or ()}
    if not set(_numbers(item, "ReferencedSegmentNumber")) <= segments:
        yield "ReferencedSegmentNumber", "is no segment of that instance"


def _numbers(item: Dataset, keyword: str) -> tuple[int, ...]:
    if item.get(keyword) in (None, ""):
        return ()
    element = item[keyword]
    return tuple(int(value) for value in (element.value if element.VM > 1 else [element.value]))


def _stray_series(dataset: Dataset, sources: Sequence[Dataset], companions: Sequence[Dataset]) -> Iterator[Fault]:
    used = {str(one.SeriesInstanceUID) for one in (*sources, *companions)}
    for number, item in enumerate(dataset.get("ReferencedSeriesSequence") or (), 1):
        if str(item.get("SeriesInstanceUID")) not in used:
            yield Fault(f"ReferencedSeriesSequence[{number}]/SeriesInstanceUID", "is a series that was not used")


def _without_evidence(report: Dataset) -> Iterator[Fault]:
    """Yield what the content of a report refers to and its evidence does not list (PS3.3 C.17.2.3)."""
    evidence = {uid for keyword in _EVIDENCE for uid in _referenced(report.get(keyword) or ()).values()}
    for path, uid in _referenced(report.ContentSequence).items():
        if uid not in evidence:
            yield Fault(f"ContentSequence{path}", "refers to an instance that is no evidence")


def _referenced(sequence: Sequence[Dataset]) -> Mapping[str, str]:
    """Map the paths of what is referenced anywhere below a sequence to SOP Instance UIDs."""
    inside = ((f"[{number}]", item) for number, item in enumerate(sequence, 1))
    every = (pair for path, item in inside for pair in ((path, item), *items(item, f"{path}/")))
    return {path: str(item.ReferencedSOPInstanceUID) for path, item in every if "ReferencedSOPInstanceUID" in item}
