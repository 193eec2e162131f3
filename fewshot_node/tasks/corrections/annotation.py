"""What a returned object says where our result says something else, in the form that templates are read from."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray

from fewshot_node.dicom.deliver.parcels import result_folder
from fewshot_node.dicom.objects.seg import read_segmentation
from fewshot_node.dicom.objects.sr import read_report
from fewshot_node.dicom.objects.tracking import TrackedObject, by_label, mask_digest, tracked_object
from fewshot_node.errors import TemplateError
from fewshot_node.records import LabelArray, Volume
from fewshot_node.tasks.corrections.recognise import Returned
from fewshot_node.uids import digest_parts

_SAME_POINT_MM = 0.05
_MOST_SLICES = 5

Point = tuple[float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Annotation:
    """Labels of one series as a person left them.

    Attributes
    ----------
    labels
        Values of the labels that differ from our result; empty when none does.
    slices
        Indices of the slices that differ most, where our result is at hand to tell.
    label_map
        uint8 (slices, rows, columns) in values of the task, on the grid of `affine`; None for landmarks.
    points_mm
        Label value -> LPS mm.
    left_out
        Values of the labels that our result shows and the object does not name: they count as not corrected.
    """

    labels: tuple[int, ...]
    slices: tuple[int, ...] = ()
    label_map: LabelArray | None = None
    affine: NDArray[np.float64] | None = None
    points_mm: Mapping[int, Point] | None = None
    left_out: tuple[int, ...] = ()

    def digest(self, series_instance_uid: str) -> str:
        """Digest of what it says about this series."""
        pixels = b"" if self.label_map is None else np.ascontiguousarray(self.label_map).tobytes()
        points = repr(sorted((self.points_mm or {}).items()))
        return digest_parts((series_instance_uid.encode(), pixels, points.encode()))

    def write(self, folder: Path) -> Path:
        """Write it into `folder` as NIfTI labels or JSON points, which name nobody; return the file."""
        if self.label_map is not None and self.affine is not None:
            path = folder / "labels.nii.gz"
            _write_nifti(self.label_map, self.affine, path)
            return path
        landmarks = {str(value): {"position_mm": list(point)} for value, point in (self.points_mm or {}).items()}
        path = folder / "points.json"
        path.write_text(json.dumps({"landmarks": landmarks}, indent=2) + "\n", encoding="utf-8")
        return path


def read_annotation(returned: Returned, volume: Volume, outbox: Path) -> Annotation:
    """Read what a returned object says, completed by our result where it leaves a label out.

    Viewers store only the segments or points that were edited. What is left out was not corrected; what is
    there and empty was removed.

    Raises
    ------
    TemplateError
        The object cannot be placed on its series, or leaves out labels and our result is gone.
    """
    if returned.object.is_segmentation:
        return _read_masks(returned, volume, outbox)
    return _read_points(returned, volume)


def _write_nifti(label_map: LabelArray, affine: NDArray[np.float64], path: Path) -> None:
    """Write labels on the grid of their series: axes (column, row, slice), affine to RAS mm."""
    ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine[:, [2, 1, 0, 3]]
    image = nibabel.Nifti1Image(label_map.transpose(2, 1, 0), ras)  # type: ignore[no-untyped-call]
    image.header.set_xyzt_units("mm")  # type: ignore[no-untyped-call]
    nibabel.save(image, path)


def _read_masks(returned: Returned, volume: Volume, outbox: Path) -> Annotation:
    values = {one.tracking_uid: one.label_value for one in returned.labels}
    label_map = _masks_of(returned.object, values, volume)
    result = _our_object(returned, outbox)
    ours = None if result is None else _masks_of(result, values, volume)
    left_out = [values[uid] for uid in values if uid not in returned.object.segments]
    if ours is not None:
        label_map = np.where((label_map == 0) & np.isin(ours, left_out), ours, label_map)
    shown = tuple(value for value in left_out if not _was_empty(returned, value, volume))
    if shown and ours is None:
        raise TemplateError(
            f"segmentation {returned.object.sop_instance_uid} leaves out label {list(shown)} of task "
            f"{returned.result.task_name}, and our result is no longer in the outbox: send a segmentation with all "
            "segments, or add it yourself (template add)"
        )
    changed = [one for one in returned.labels if mask_digest(label_map == one.label_value) != one.mask_digest]
    slices = () if ours is None else _differing(label_map, ours)
    values_changed = tuple(one.label_value for one in changed)
    return Annotation(values_changed, slices, label_map, volume.affine, left_out=shown)


def _masks_of(found: TrackedObject, values: Mapping[str, int], volume: Volume) -> LabelArray:
    numbers = {found.segments[uid]: value for uid, value in values.items() if uid in found.segments}
    return by_label(read_segmentation(found.path, volume).label_map, numbers)


def _our_object(returned: Returned, outbox: Path) -> TrackedObject | None:
    """Return the corrected Segmentation itself, while the outbox still has it."""
    folder = result_folder(outbox, returned.result.key, returned.result.task_name)
    wanted = {one.tracking_uid for one in returned.labels}
    objects = (tracked_object(path) for path in sorted(folder.glob("*.dcm")))
    return next((one for one in objects if one and one.is_segmentation and wanted <= set(one.segments)), None)


def _was_empty(returned: Returned, value: int, volume: Volume) -> bool:
    nothing = mask_digest(np.zeros(volume.array.shape, dtype=bool))
    return any(one.label_value == value and one.mask_digest == nothing for one in returned.labels)


def _differing(label_map: LabelArray, ours: LabelArray) -> tuple[int, ...]:
    """Return the slices that were changed most, rising."""
    counts = (label_map != ours).sum(axis=(1, 2))
    most = np.argsort(-counts, kind="stable")[:_MOST_SLICES]
    return tuple(sorted(int(index) for index in most if counts[index]))


def _read_points(returned: Returned, volume: Volume) -> Annotation:
    reported = {one.tracking_uid: one.point_mm for one in read_report(returned.object.path, volume)}
    points = {one.label_value: reported.get(one.tracking_uid, one.point_mm) for one in returned.labels}
    changed = [one.label_value for one in returned.labels if _moved(one.point_mm, points[one.label_value])]
    kept = {value: point for value, point in points.items() if point is not None}
    left_out = tuple(one.label_value for one in returned.labels if one.point_mm and one.tracking_uid not in reported)
    return Annotation(tuple(changed), points_mm=kept, left_out=left_out)


def _moved(before: Point | None, after: Point | None) -> bool:
    if before is None or after is None:
        return before is not after
    return float(np.linalg.norm(np.subtract(before, after))) > _SAME_POINT_MM
