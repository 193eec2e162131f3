"""Which of the objects that came in carry tracking UIDs of our results, and whether they say anything else."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fewshot_node.dicom.ledger import Ledger, TrackedResult
from fewshot_node.dicom.objects.tracking import TrackedObject, tracked_object
from fewshot_node.records import TrackedLabel


@dataclass(frozen=True, slots=True, eq=False)
class Returned:
    """An object that came in with tracking UIDs of ours.

    Attributes
    ----------
    result
        The result that it belongs to: series, task and revision.
    labels
        What that result says, each of its labels once, whether the object names it or not.
    """

    object: TrackedObject
    result: TrackedResult
    labels: tuple[TrackedLabel, ...]

    @property
    def corrects_nothing(self) -> str:
        """Why this cannot be a correction, whatever it holds; empty when it can."""
        if self.object.sop_instance_uid == self.result.label.instance_uid:
            return "our own result came back"
        if self.object.is_segmentation != (self.result.label.mask_digest is not None):
            return "it refers to our result and holds nothing of what can be corrected there"
        return ""


def recognise(files: Sequence[Path], ledger: Ledger) -> tuple[Returned, ...]:
    """Return the objects among `files` that have tracking UIDs of this node's results.

    Tracking UIDs are derived from the images, the task, the weights and the code, so that they cannot be
    computed again after an update; the ledger keeps them.

    Raises
    ------
    NotDicomError
        A file is no DICOM file.
    RetryableError
        The ledger is busy.
    """
    objects = [found for found in map(tracked_object, files) if found is not None and found.segments]
    returned = [_returned(one, ledger) for one in objects]
    return tuple(one for one in returned if one is not None)


def _returned(found: TrackedObject, ledger: Ledger) -> Returned | None:
    """Keep to the result that most of the UIDs belong to: one object corrects one result.

    A result whose sources' headers were corrected has been written as several objects with the same UIDs and
    pixels; the one that came in itself goes first.
    """
    counts: Counter[str] = Counter()
    results: dict[str, TrackedResult] = {}
    for one in ledger.tracked(found.segments):
        counts[one.label.instance_uid] += 1
        results[one.label.instance_uid] = one
    if not results:
        return None
    best = max(results, key=lambda uid: (counts[uid], uid == found.sop_instance_uid, uid))
    return Returned(found, results[best], tuple(one.label for one in ledger.tracked_in(best)))
