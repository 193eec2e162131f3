"""Which earlier report a new one replaces, and how it says so (PS3.3 C.17.2, Predecessor Documents Sequence).

A series may be processed again: later instances have come, the task has a new revision, the weights are others.
The new report then names the last report of the same task on the same series that a destination of this node
has confirmed, so that a reader of either finds out which one counts (IHE RAD AI Results asks for it too).

What is made again from the same input must be the same to the byte, whatever was made in between. Everything in
a report follows from its input but this one reference, which follows from history. So each report has two names:
its *content UID*, derived from all that it says without the reference, and its SOP Instance UID, derived from all
that it says. The ledger keeps, by content UID, which predecessor a report was given when it was made first:

- a content UID that is known gets the predecessor that it had, or none if it had none: same bytes, same UID;
- one that is new gets the last delivered report; it cannot be its own predecessor, since it is not known yet;
- only reports of this revision of the series and of earlier ones count, so that an old revision that is
  processed late does not claim to replace a newer one;
- when a task goes back to an earlier revision, that one's report is made again as it was, and is the last one
  from then on;
- without the ledger (lost, or `fewshot-node run` on a folder) there is no predecessor, and the report is valid;
  nor do reports count that were made before the ledger kept them (its version 6).

A Segmentation has no such reference. Predecessor Documents Sequence belongs to SR documents (PS3.3 C.17.2), not to
the Segmentation IOD (A.51); a Source Image Sequence would claim that the new masks were derived from the old, and
none of the purposes for a Referenced Image Sequence (PS3.16 CID 7201) says "replaces": the Temporal Predecessor among
them is an earlier acquisition. The way from a Segmentation to the earlier one leads through the reports, each of
which refers to its own.
"""

from collections.abc import Sequence

from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from fewshot_node.dicom.objects import provenance
from fewshot_node.records import MadeReport, ReportReference, Result
from fewshot_node.uids import ResultUids

PURPOSE = codes.DCM.ReplacedReport
"""Purpose of the reference to a predecessor (PS3.16 CID 7009)."""


def continue_history(report: Dataset, result: Result, uids: ResultUids, earlier: Sequence[MadeReport]) -> MadeReport:
    """Let a finished report refer to the one it replaces, and return what is to be kept of it.

    Parameters
    ----------
    earlier
        Reports that were made of the series before, the newest first; those of other tasks do not matter.
    """
    content_uid = str(report.SOPInstanceUID)
    predecessor = find_predecessor(earlier, result.task_name, content_uid)
    if predecessor is not None:
        report.PredecessorDocumentsSequence = [_refer(predecessor, str(report.SOPClassUID))]
        provenance.name_by_content(report, uids.report_instance)
    reference = ReportReference(str(report.StudyInstanceUID), str(report.SeriesInstanceUID), str(report.SOPInstanceUID))
    return MadeReport(result.task_name, reference, content_uid, predecessor)


def find_predecessor(earlier: Sequence[MadeReport], task_name: str, content_uid: str) -> ReportReference | None:
    """Return the report that one with this content replaces; None when there is none."""
    of_task = [one for one in earlier if one.task_name == task_name]
    known = next((one for one in of_task if one.content_uid == content_uid), None)
    if known is not None:
        return known.predecessor
    return next((one.reference for one in of_task if one.delivered), None)


def _refer(predecessor: ReportReference, sop_class_uid: str) -> Dataset:
    """Return the item of the Predecessor Documents Sequence: study, series, instance (PS3.3 Table C.17-3)."""
    instance, series, study = Dataset(), Dataset(), Dataset()
    instance.ReferencedSOPClassUID = sop_class_uid
    instance.ReferencedSOPInstanceUID = predecessor.sop_instance_uid
    instance.PurposeOfReferenceCodeSequence = [CodedConcept.from_code(PURPOSE)]
    series.SeriesInstanceUID = predecessor.series_instance_uid
    series.ReferencedSOPSequence = [instance]
    study.StudyInstanceUID = predecessor.study_instance_uid
    study.ReferencedSeriesSequence = [series]
    return study
