"""Annotated examples: the slices of a series that a task is learnt from."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fewshot_node.dicom.objects.headers import read_header
from fewshot_node.dicom.objects.volume import read_volume
from fewshot_node.errors import TemplateError
from fewshot_node.records import LabelArray, TaskKind, Volume
from fewshot_node.tasks.label_files import is_points_file, read_label_map
from fewshot_node.tasks.points import LandmarkPoint, read_points
from fewshot_node.tasks.selection import TemplateSelection, choose_point_slices, choose_slices
from fewshot_node.tasks.task import TaskDefinition
from fewshot_node.uids import digest_parts

_NAME_DIGITS = 8
_SAMPLED_VOXELS = 262_144


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """Slices of one series with their labels; a slice without a label is a negative example.

    Attributes
    ----------
    array
        float32 (slices, rows, columns), as `Volume.array` holds them.
    label_map
        uint8, the same shape, values of the task; empty of labels for a landmark task.
    points
        Landmarks; `slice_index` counts within `array`.
    slice_indices, instance_uids
        Where each slice lies in the sorted series, and the instance that it came from.
    intensity_sample
        float32 (voxels,): voxels of the whole series, its least value among them. Intensities are scaled
        by the volume and not by the slice (method, step 1), so the slices alone do not say how.
    orientation
        Main plane of the series; None when it has no patient geometry.
    """

    name: str
    series_instance_uid: str
    modality: str
    array: NDArray[np.float32]
    label_map: LabelArray
    intensity_sample: NDArray[np.float32]
    points: tuple[LandmarkPoint, ...]
    spacing_mm: tuple[float, float, float]
    orientation: str | None
    slice_indices: tuple[int, ...]
    instance_uids: tuple[str, ...]

    def __post_init__(self) -> None:
        consistent = self.array.ndim == 3 and self.array.shape == self.label_map.shape
        if not consistent or not len(self.array) == len(self.slice_indices) == len(self.instance_uids):
            raise ValueError(f"template {self.name}: slices, labels and their origins differ in number")

    @property
    def label_values(self) -> tuple[int, ...]:
        """Rising values of the labels that the template shows."""
        values = {int(value) for value in np.unique(self.label_map)} - {0}
        return tuple(sorted(values | {point.label_value for point in self.points}))

    @property
    def annotated_slices(self) -> int:
        """How many slices show a label."""
        with_points = {point.slice_index for point in self.points}
        return sum(bool(labels.any()) or index in with_points for index, labels in enumerate(self.label_map))

    def digest(self) -> str:
        """Digest of what is learnt from; the template's name does not count."""
        facts = (self.series_instance_uid, self.modality, self.array.shape, self.points, self.slice_indices)
        spacing = tuple(round(one, 6) for one in self.spacing_mm)
        return digest_parts(
            (
                repr((facts, spacing)).encode(),
                np.ascontiguousarray(self.array).tobytes(),
                np.ascontiguousarray(self.label_map).tobytes(),
                np.ascontiguousarray(self.intensity_sample).tobytes(),
            )
        )


def read_template(
    series_files: Sequence[Path],
    labels_path: Path,
    definition: TaskDefinition,
    selection: TemplateSelection | None = None,
) -> Template:
    """Make a template from a DICOM series and its annotation.

    Parameters
    ----------
    series_files
        Instances of one image series.
    labels_path
        For a segmentation task a DICOM SEG or a NIfTI label map, for a landmark task JSON points
        (`fewshot_node.tasks.points`).
    selection
        Which slices to keep, and which label values stand for which.

    Raises
    ------
    TemplateError
        The annotation cannot be read, lies on another grid, is empty, or names labels that the task does
        not know.
    SeriesError
        The series is no image series or cannot become a volume.
    """
    selection = selection or TemplateSelection()
    wants_points = definition.kind is TaskKind.LANDMARKS
    if is_points_file(labels_path) is not wants_points:
        wanted = "landmarks: give JSON points" if wants_points else "structures: give a DICOM SEG or a NIfTI label map"
        raise TemplateError(f"label file {labels_path} does not suit task {definition.name}, which learns {wanted}")
    volume = read_volume(series_files)
    label_map = np.zeros(volume.array.shape, dtype=np.uint8)
    points: tuple[LandmarkPoint, ...] = ()
    if wants_points:
        points = read_points(labels_path, volume, definition.labels)
        chosen = choose_point_slices([point.slice_index for point in points], len(volume.array), selection)
    else:
        label_map = read_label_map(labels_path, volume, definition, selection)
        chosen = choose_slices(label_map, selection)
    template = _cut(volume, label_map, points, chosen)
    template = replace(template, orientation=read_header(series_files).orientation)
    return replace(template, name=selection.name or f"template-{template.digest()[:_NAME_DIGITS]}")


def _cut(volume: Volume, label_map: LabelArray, points: tuple[LandmarkPoint, ...], chosen: tuple[int, ...]) -> Template:
    kept = list(chosen)
    return Template(
        name="",
        series_instance_uid=volume.series_instance_uid,
        modality=volume.modality,
        array=np.ascontiguousarray(volume.array[kept]),
        label_map=np.ascontiguousarray(label_map[kept]),
        intensity_sample=_sample(volume.array),
        points=tuple(
            replace(point, slice_index=kept.index(point.slice_index)) for point in points if point.slice_index in kept
        ),
        spacing_mm=volume.spacing_mm,
        orientation=None,
        slice_indices=chosen,
        instance_uids=tuple(volume.frames[index].sop_instance_uid for index in kept),
    )


def _sample(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """Draw voxels at random: a fixed step would fall onto the same columns again and again."""
    voxels = array.reshape(-1)
    drawn = np.random.default_rng(0).integers(voxels.size, size=min(voxels.size, _SAMPLED_VOXELS))
    return np.append(voxels[drawn], voxels.min()).astype(np.float32)
