"""Result objects on disk, between being written and being delivered.

A folder is written whole and renamed into place, so a retry after a crash sends the same bytes or none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, dcmwrite

from fewshot_node.dicom.objects.conformance import check_object
from fewshot_node.dicom.objects.seg import write_segmentation
from fewshot_node.dicom.objects.sr import write_report
from fewshot_node.dicom.objects.tracking import track_result
from fewshot_node.dicom.objects.volume import read_sources
from fewshot_node.disk import is_full, whole_folder
from fewshot_node.errors import ConformanceError, DiskFullError, PermanentError
from fewshot_node.records import Result, TrackedLabel, Volume
from fewshot_node.uids import ResultUids


@dataclass(frozen=True, slots=True)
class ResultFiles:
    """The objects of one result, and what they say by tracking UID; a landmark task writes no segmentation."""

    report: Path
    report_instance_uid: str
    segmentation: Path | None = None
    segmentation_instance_uid: str | None = None
    tracked: tuple[TrackedLabel, ...] = ()

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files in sending order: what is referenced before what refers to it."""
        return (self.report,) if self.segmentation is None else (self.segmentation, self.report)


def write_result_files(
    result: Result, volume: Volume, source_files: Sequence[Path], uids: ResultUids, folder: Path
) -> ResultFiles:
    """Write, check and sync the SEG and the SR of one result into `folder`.

    Raises
    ------
    ConformanceError
        An object must not leave; both are kept under ``<folder>.rejected`` for a look.
    DiskFullError
        The file system of the outbox is full.
    PermanentError
        The outbox cannot be written for another reason.
    """
    sources = read_sources(source_files, volume)
    segmentation = None
    if result.label_map is not None:
        segmentation = write_segmentation(result, volume, sources, uids)
    report = write_report(result, volume, sources, uids, segmentation)
    objects = {"report.dcm": report}
    if segmentation is not None:
        objects["segmentation.dcm"] = segmentation
    try:
        for dataset in objects.values():
            check_object(dataset, volume, sources)
    except ConformanceError:
        _write_folder(objects, folder.with_name(f"{folder.name}.rejected"))
        raise
    _write_folder(objects, folder)
    return ResultFiles(
        report=folder / "report.dcm",
        report_instance_uid=report.SOPInstanceUID,
        segmentation=None if segmentation is None else folder / "segmentation.dcm",
        segmentation_instance_uid=None if segmentation is None else segmentation.SOPInstanceUID,
        tracked=track_result(result, uids, str((report if segmentation is None else segmentation).SOPInstanceUID)),
    )


def _write_folder(objects: dict[str, Dataset], folder: Path) -> None:
    try:
        with whole_folder(folder, replace=True) as temporary:
            for name, dataset in objects.items():
                dcmwrite(temporary / name, dataset, enforce_file_format=True)
    except OSError as error:
        what = f"results cannot be written to {folder} ({error.strerror})"
        if is_full(error):
            raise DiskFullError(f"{what}: free space there, then retry the series") from error
        raise PermanentError(f"{what}: let the node write there, then retry the series") from error
