"""Label maps out of the files that annotation tools write, in the values of a task."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fewshot_node.dicom.objects.seg import SegmentationLabels, read_segmentation
from fewshot_node.errors import NotDicomError, TemplateError
from fewshot_node.records import Label, LabelArray, Volume
from fewshot_node.tasks.nifti import read_nifti_labels
from fewshot_node.tasks.selection import TemplateSelection
from fewshot_node.tasks.task import TaskDefinition

_NIFTI_SUFFIXES = (".nii", ".nii.gz")


def is_points_file(path: Path) -> bool:
    """Whether a file holds landmarks rather than a label map, by its name."""
    return path.name.lower().endswith(".json")


def read_label_map(path: Path, volume: Volume, definition: TaskDefinition, selection: TemplateSelection) -> LabelArray:
    """Read a DICOM SEG or a NIfTI label map onto the grid of `volume`.

    The values of a NIfTI file are the task's own. A segment belongs to the label of its name, else to the
    only label of its property type. `selection.value_map` overrides both.

    Returns
    -------
    LabelArray
        uint8 (slices, rows, columns), values of the task; at least one is present.

    Raises
    ------
    TemplateError
        The file cannot be read, lies on another grid, is empty, or holds a value that the task does not know.
    """
    if path.name.lower().endswith(_NIFTI_SUFFIXES):
        found = read_nifti_labels(path, volume)
        known = {value: value for value in definition.label_values}
        names: Mapping[int, str] = {}
    else:
        segmentation = _read_segmentation(path, volume)
        found = segmentation.label_map
        known = _match_segments(segmentation.labels, definition.labels)
        names = {label.value: label.name for label in segmentation.labels}
    _require_targets(selection.value_map, definition)
    mapping = {**known, **selection.value_map}
    unknown = [int(value) for value in np.unique(found) if value and int(value) not in mapping]
    if unknown and not selection.ignore_others:
        raise TemplateError(_unknown_values(path, unknown, names, definition))
    table = np.zeros(256, dtype=np.uint8)
    for value, target in mapping.items():
        table[value] = target
    label_map: LabelArray = table[found]
    if not label_map.any():
        raise TemplateError(
            f"label file {path} marks nothing of {_known(definition.labels)}: check the file and its label values"
        )
    return label_map


def _read_segmentation(path: Path, volume: Volume) -> SegmentationLabels:
    try:
        return read_segmentation(path, volume)
    except NotDicomError as error:
        raise TemplateError(
            f"label file {path} is neither DICOM SEG nor NIfTI (.nii, .nii.gz): check the path, or convert it"
        ) from error


def _match_segments(segments: tuple[Label, ...], labels: tuple[Label, ...]) -> dict[int, int]:
    matched = {}
    for segment in segments:
        same_name = [label for label in labels if label.name.casefold() == segment.name.strip().casefold()]
        same_type = [label for label in labels if _concept(label) == _concept(segment)]
        fitting = same_name or same_type
        if len(fitting) == 1:
            matched[segment.value] = fitting[0].value
    return matched


def _concept(label: Label) -> tuple[str, str]:
    return label.type.scheme, label.type.value


def _require_targets(value_map: Mapping[int, int], definition: TaskDefinition) -> None:
    for value, target in value_map.items():
        if not 0 < value < 255 or target not in {0, *definition.label_values}:
            raise TemplateError(
                f"label value {value} cannot be mapped to {target}: task {definition.name} knows "
                f"{_known(definition.labels)}, and 0 drops a value"
            )


def _unknown_values(path: Path, unknown: list[int], names: Mapping[int, str], definition: TaskDefinition) -> str:
    listed = ", ".join(f"{value} ({names[value]})" if value in names else str(value) for value in unknown)
    return (
        f"label file {path} holds the values {listed}, which task {definition.name} does not know "
        f"(it knows {_known(definition.labels)}): map each, for example "
        f"--map {unknown[0]}={definition.label_values[0]} or --map {unknown[0]}=0 (drops it), or give --ignore-others"
    )


def _known(labels: tuple[Label, ...]) -> str:
    return ", ".join(f"{label.value}={label.name}" for label in labels)
