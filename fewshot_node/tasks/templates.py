"""Annotated examples: the slices of a series that a task is learnt from."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fewshot_node.dicom.objects.headers import read_header
from fewshot_node.dicom.objects.volume import read_volume
from fewshot_node.disk import sha256_of
from fewshot_node.records import LabelArray, TaskKind, Volume
from fewshot_node.tasks.annotations import Annotation, Target, read_annotation
from fewshot_node.tasks.diversity import slice_descriptor
from fewshot_node.tasks.label_files import label_map_of, points_of
from fewshot_node.tasks.origin import TemplateOrigin, now, operating_user, tool_version
from fewshot_node.tasks.points import LandmarkPoint
from fewshot_node.tasks.selection import (
    TemplateSelection,
    choose_negative_slices,
    choose_point_slices,
    choose_slices,
)
from fewshot_node.tasks.task import TaskDefinition
from fewshot_node.uids import digest_parts
from fewshot_node.vision.backbone import DenseEncoder

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
    origin
        Who added it, from what and how; None in a template that was loaded again (the registry keeps origins).
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
    origin: TemplateOrigin | None = None

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
        return digest_parts((repr((facts, spacing)).encode(), *self._arrays()))

    def content_digest(self) -> str:
        """Digest of pixels and labels alone: the same example under other UIDs has the same."""
        return digest_parts((repr((self.modality, self.array.shape, self.points)).encode(), *self._arrays()[:2]))

    def _arrays(self) -> tuple[bytes, ...]:
        arrays = (self.array, self.label_map, self.intensity_sample)
        return tuple(np.ascontiguousarray(array).tobytes() for array in arrays)


@dataclass(frozen=True, slots=True, eq=False)
class _Marked:
    """What an annotation marks on a series, which of its slices are kept, and how all that came about."""

    label_map: LabelArray
    points: tuple[LandmarkPoint, ...]
    chosen: tuple[int, ...]
    origin: TemplateOrigin


def read_template(
    series_files: Sequence[Path],
    labels_path: Path | None,
    definition: TaskDefinition,
    selection: TemplateSelection | None = None,
    encoder: DenseEncoder | None = None,
) -> Template:
    """Make a template from a DICOM series and its annotation.

    Parameters
    ----------
    series_files
        Instances of one image series.
    labels_path
        An annotation of any format of `fewshot_node.tasks.annotations`: regions for a segmentation task, points
        for a landmark task. None makes a negative template, of a series that shows none of the labels.
    selection
        Which slices to keep, and which label values stand for which.
    encoder
        Chooses slices that differ most in its features; without one they are spread over the labelled content.

    Raises
    ------
    TemplateError
        The annotation cannot be read, lies on another grid, is empty, or names labels that the task does
        not know.
    SeriesError
        The series is no image series or cannot become a volume.
    """
    selection = selection or TemplateSelection()
    volume = read_volume(series_files)
    if labels_path is None:
        marked = _unmarked(volume, selection)
    else:
        target = Target(labels_path, volume, selection.resample)
        marked = _marked(read_annotation(target), target, definition, selection, encoder)
    template = _cut(volume, marked)
    template = replace(template, orientation=read_header(series_files).orientation)
    return replace(template, name=selection.name or f"template-{template.digest()[:_NAME_DIGITS]}")


def _unmarked(volume: Volume, selection: TemplateSelection) -> _Marked:
    count = len(volume.array)
    if selection.indices:
        chosen, how = selection.slices_of(count), "named"
    else:
        chosen, how = choose_negative_slices(count, max(selection.negatives, 1)), "spread evenly; none shows a label"
    return _Marked(np.zeros(volume.array.shape, dtype=np.uint8), (), chosen, _origin(volume, how))


def _marked(
    annotation: Annotation,
    target: Target,
    definition: TaskDefinition,
    selection: TemplateSelection,
    encoder: DenseEncoder | None,
) -> _Marked:
    volume = target.volume
    label_map = np.zeros(volume.array.shape, dtype=np.uint8)
    points: tuple[LandmarkPoint, ...] = ()
    how = "named"
    if definition.kind is TaskKind.LANDMARKS:
        points = points_of(annotation, target, definition, selection)
        chosen = choose_point_slices([point.slice_index for point in points], len(volume.array), selection)
        how = how if selection.indices else "those with a point, and some without"
    else:
        label_map = label_map_of(annotation, target, definition, selection)
        describe = encoder and slice_descriptor(volume, label_map, encoder, definition.settings.encode)
        chosen = choose_slices(label_map, selection, describe)
        if not selection.indices:
            how = "chosen by feature diversity" if encoder else "spread over the labelled content"
    origin = replace(
        _origin(volume, how),
        format=str(annotation.format),
        file_digest=sha256_of(target.path),
        notes=annotation.notes,
    )
    return _Marked(label_map, points, chosen, origin)


def _origin(volume: Volume, chosen: str) -> TemplateOrigin:
    return TemplateOrigin(
        by=operating_user(),
        at=now(),
        tool=tool_version(),
        chosen=chosen,
        study_instance_uid=volume.study_instance_uid,
    )


def _cut(volume: Volume, marked: _Marked) -> Template:
    kept = list(marked.chosen)
    return Template(
        name="",
        series_instance_uid=volume.series_instance_uid,
        modality=volume.modality,
        array=np.ascontiguousarray(volume.array[kept]),
        label_map=np.ascontiguousarray(marked.label_map[kept]),
        intensity_sample=_sample(volume.array),
        points=tuple(
            replace(point, slice_index=kept.index(point.slice_index))
            for point in marked.points
            if point.slice_index in kept
        ),
        spacing_mm=volume.spacing_mm,
        orientation=None,
        slice_indices=marked.chosen,
        instance_uids=tuple(volume.frames[index].sop_instance_uid for index in kept),
        origin=marked.origin,
    )


def _sample(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """Draw voxels at random: a fixed step would fall onto the same columns again and again."""
    voxels = array.reshape(-1)
    drawn = np.random.default_rng(0).integers(voxels.size, size=min(voxels.size, _SAMPLED_VOXELS))
    return np.append(voxels[drawn], voxels.min()).astype(np.float32)
