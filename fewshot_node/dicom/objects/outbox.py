"""Result objects on disk, between being written and being delivered.

A folder is written whole and renamed into place, so a retry after a crash sends the same bytes or none. What the
checks refuse lies beside it, for a look.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, dcmwrite

from fewshot_node.dicom.objects.captures import write_captures
from fewshot_node.dicom.objects.conformance import Origin, check_file, check_object
from fewshot_node.dicom.objects.encoding import write_object
from fewshot_node.dicom.objects.predecessor import continue_history
from fewshot_node.dicom.objects.presentation_states import write_presentation_states
from fewshot_node.dicom.objects.rejected import rejected_folder
from fewshot_node.dicom.objects.seg import write_segmentation
from fewshot_node.dicom.objects.sr import write_report
from fewshot_node.dicom.objects.structure_set import write_structure_set
from fewshot_node.dicom.objects.tracking import track_result
from fewshot_node.dicom.objects.volume import read_sources
from fewshot_node.disk import is_full, whole_folder
from fewshot_node.errors import ConformanceError, DiskFullError, PermanentError
from fewshot_node.records import MadeReport, Result, TrackedLabel, Volume
from fewshot_node.uids import ResultUids

logger = logging.getLogger(__name__)

_SEGMENTATION, _STRUCTURE_SET, _REPORT = "segmentation.dcm", "structure-set.dcm", "report.dcm"


@dataclass(frozen=True, slots=True)
class ResultFiles:
    """The objects of one result, and what they say by tracking UID; a landmark task writes no segmentation.

    `others` are those that the task asks for besides: a structure set, pictures.
    """

    report: Path
    report_instance_uid: str
    segmentation: Path | None = None
    segmentation_instance_uid: str | None = None
    others: tuple[Path, ...] = ()
    tracked: tuple[TrackedLabel, ...] = ()
    made: MadeReport | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files in sending order: what is referenced before what refers to it."""
        return (*(() if self.segmentation is None else (self.segmentation,)), *self.others, self.report)


def write_result_files(
    result: Result,
    volume: Volume,
    source_files: Sequence[Path],
    uids: ResultUids,
    folder: Path,
    earlier: Sequence[MadeReport] = (),
) -> ResultFiles:
    """Write, check and sync the objects of one result into `folder`.

    Parameters
    ----------
    earlier
        Reports that were made of the series before, the newest first: the new one refers to the one it replaces.

    Raises
    ------
    ConformanceError
        An object must not leave; all are kept under ``<folder>.rejected`` for a look.
    DiskFullError
        The file system of the outbox is full.
    PermanentError
        The outbox cannot be written for another reason.
    """
    sources = read_sources(source_files, volume)
    objects = _objects(result, volume, sources, uids)
    made = continue_history(objects[_REPORT], result, uids, earlier)
    origin = Origin(volume, sources, result, tuple(objects.values()))
    try:
        for dataset in objects.values():
            check_object(dataset, origin)
        _write_folder(objects, folder, origin)
    except ConformanceError:
        _keep(objects, rejected_folder(folder))
        raise
    segmentation, report = objects.get(_SEGMENTATION), objects[_REPORT]
    return ResultFiles(
        report=folder / _REPORT,
        report_instance_uid=report.SOPInstanceUID,
        segmentation=None if segmentation is None else folder / _SEGMENTATION,
        segmentation_instance_uid=None if segmentation is None else segmentation.SOPInstanceUID,
        others=tuple(folder / name for name in objects if name not in {_SEGMENTATION, _REPORT}),
        made=made,
        tracked=track_result(result, uids, str((report if segmentation is None else segmentation).SOPInstanceUID)),
    )


def _objects(result: Result, volume: Volume, sources: Sequence[Dataset], uids: ResultUids) -> Mapping[str, Dataset]:
    """Return what a result is written as, by file name and in sending order."""
    objects = {}
    if result.label_map is not None:
        objects[_SEGMENTATION] = write_segmentation(result, volume, sources, uids)
    segmentation, others = objects.get(_SEGMENTATION), {}
    if result.output.rtstruct:
        others[_STRUCTURE_SET] = write_structure_set(result, volume, sources, uids)
    if result.output.overlay == "secondary-capture":
        captures = write_captures(result, volume, sources, uids)
        others |= {f"overlay-{number:04}.dcm": capture for number, capture in enumerate(captures, 1)}
    if result.output.presentation_state:
        states = write_presentation_states(result, volume, sources, uids)
        others |= {f"presentation-{number:04}.dcm": state for number, state in enumerate(states, 1)}
    report = write_report(result, volume, sources, uids, segmentation, tuple(others.values()))
    return {**objects, **others, _REPORT: report}


def _write_folder(objects: Mapping[str, Dataset], folder: Path, origin: Origin) -> None:
    try:
        with whole_folder(folder, replace=True) as temporary:
            series = {dataset.SeriesInstanceUID: name for name, dataset in reversed(list(objects.items()))}
            for name, dataset in objects.items():
                write_object(temporary / name, dataset)
                if series[dataset.SeriesInstanceUID] == name:  # pictures of a series are alike: its first stands
                    check_file(temporary / name, dataset, origin)
    except OSError as error:
        what = f"results cannot be written to {folder} ({error.strerror})"
        if is_full(error):
            raise DiskFullError(f"{what}: free space there, then retry the series") from error
        raise PermanentError(f"{what}: let the node write there, then retry the series") from error


def _keep(objects: Mapping[str, Dataset], folder: Path) -> None:
    """Write what was refused, as far as it can be written: the refusal counts, and not what hinders this."""
    with whole_folder(folder, replace=True) as temporary:
        for name, dataset in objects.items():
            try:
                dcmwrite(temporary / name, dataset, enforce_file_format=True)
            except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
                logger.warning("%s/%s cannot be kept (%s)", folder, name, type(error).__name__)
