"""The outbox: results of each task in a folder of their own, from being made until well after delivery.

A try reads the files again; nothing is ever made anew for it. What a series' folder holds is named by the
ledger's parcels, so that a file that is lost or too many is seen.
"""

from collections.abc import Iterable
from pathlib import Path

from fewshot_node.dicom.ledger import Delivery, Parcel
from fewshot_node.dicom.query import read_reference
from fewshot_node.errors import PermanentError
from fewshot_node.records import SeriesKey

_LAST = "report.dcm"
"""The report refers to the other objects: they go first."""


def result_folder(outbox: Path, key: SeriesKey, task_name: str) -> Path:
    """Return the folder of one task's results on one revision of a series."""
    return outbox / str(key) / task_name


def pack(outbox: Path, key: SeriesKey, task_name: str, destinations: Iterable[str]) -> tuple[Parcel, ...]:
    """Return a parcel for each destination of the results that lie in the outbox.

    Raises
    ------
    NotDicomError
        A file there is no DICOM file.
    """
    paths = _files(result_folder(outbox, key, task_name))
    instances = tuple(read_reference(path).sop_instance_uid for path in paths)
    return tuple(Parcel(task_name, destination, instances) for destination in destinations)


def unpack(outbox: Path, delivery: Delivery) -> tuple[Path, ...]:
    """Return the files of a delivery, in sending order.

    Raises
    ------
    PermanentError
        The outbox does not hold what the parcel consists of.
    """
    folder = result_folder(outbox, delivery.key, delivery.task_name)
    files = {read_reference(path).sop_instance_uid: path for path in _files(folder)}
    if not files or set(files) != set(delivery.instances):
        what = f"{len(files)} of {len(delivery.instances)} results" if files else "no results"
        raise PermanentError(f"{folder} holds {what}: compute the series again (series retry --recompute)")
    return tuple(files.values())


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.dcm"), key=lambda path: (path.name == _LAST, path.name))
