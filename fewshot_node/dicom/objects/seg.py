"""DICOM Segmentation (PS3.3 A.51, A.90): writing a result's label map, reading labels onto a volume's grid."""

from collections.abc import Sequence

import highdicom as hd
import numpy as np
from pydicom.dataset import Dataset

from fewshot_node.dicom.objects import provenance
from fewshot_node.dicom.objects.seg_frames import number_labels, set_probabilities, source_planes
from fewshot_node.dicom.objects.seg_reading import SegmentationLabels, read_segmentation
from fewshot_node.dicom.objects.segments import describe_segments, segments
from fewshot_node.dicom.objects.stand_ins import stand_ins
from fewshot_node.records import LabelArray, Result, Volume
from fewshot_node.uids import ResultUids

__all__ = ["SegmentationLabels", "read_segmentation", "segments", "write_segmentation"]

CONTENT_LABEL = "AI_SEGMENTATION"


def write_segmentation(result: Result, volume: Volume, sources: Sequence[Dataset], uids: ResultUids) -> Dataset:
    """Write a result's label map as the kind of Segmentation that its task asks for.

    Each label has a segment, in the order of label values, the ones not found too: "looked, not present"
    (IHE AI Results). ``binary`` and ``labelmap`` hold the refined masks. ``fractional`` holds the adapter's
    probability of each label in each voxel (see `LabelProbabilities.on_slice`) on those slices where the refined
    mask has a voxel of the label, and 0 on all others: a cleaned label map and a threshold of one half are
    two answers, and this object gives the second one only where the first one is not empty.

    Frames without a voxel are left out, or kept where the task says so; when nothing was found, one empty frame
    (of each segment, where frames belong to segments) stays at the middle slice, since the object needs at least
    one. Dates are the source's latest, so that the same input gives the same bytes.

    Parameters
    ----------
    sources
        Headers of the volume's instances in slice order, from `read_sources`.

    Raises
    ------
    ConformanceError
        The label map is absent, has another shape than the volume, or holds a value that is no label; or
        probabilities are asked for and the result has none.
    SeriesError
        The sources are of an image class that cannot be referred to.
    """
    numbers = number_labels(result, volume)
    with provenance.known_image_class(sources[0]):
        segmentation = _segmentation(result, volume, sources, uids, numbers)
        provenance.complete(segmentation, sources, result)
    if result.output.segmentation == "fractional":
        set_probabilities(segmentation, result, volume)
    _set_dimension_organization(segmentation, uids.dimension_organization())
    provenance.name_by_content(segmentation, uids.segmentation_instance)
    return segmentation


def _segmentation(
    result: Result, volume: Volume, sources: Sequence[Dataset], uids: ResultUids, numbers: LabelArray
) -> hd.seg.Segmentation:
    pixels, positions = _planes(numbers, volume, keep=result.output.empty_frames == "keep")
    return hd.seg.Segmentation(
        source_images=stand_ins(sources, volume),
        segmentation_type=result.output.segmentation.upper(),
        segment_descriptions=describe_segments(result, uids),
        series_instance_uid=uids.segmentation_series(result.output.segmentation),
        series_number=provenance.series_number(sources[0], result.task_name, provenance.ResultKind.SEGMENTATION),
        sop_instance_uid=provenance.UNNAMED,
        content_label=CONTENT_LABEL,
        content_description=provenance.describe(result, "segmentation"),
        series_description=provenance.describe(result, "segmentation"),
        pixel_array=pixels,
        plane_positions=positions,
        omit_empty_frames=positions is None and result.output.empty_frames == "omit",
        max_fractional_value=1,  # highdicom would multiply a single label's map in place; set_probabilities scales
        **provenance.series_attributes(result, uids),
    )


def _planes(
    numbers: LabelArray, volume: Volume, *, keep: bool
) -> tuple[LabelArray, list[hd.PlanePositionSequence] | None]:
    """Return the planes as the sources have them, or one empty plane and its place."""
    if keep or numbers.any():
        return source_planes(numbers, volume), None
    middle = len(numbers) // 2
    position = volume.to_mm(np.array([middle, 0, 0], dtype=np.float64))
    return numbers[middle : middle + 1], [hd.PlanePositionSequence("PATIENT", position.tolist())]


def _set_dimension_organization(segmentation: Dataset, uid: str) -> None:
    for sequence in (segmentation.DimensionOrganizationSequence, segmentation.DimensionIndexSequence):
        for item in sequence:
            item.DimensionOrganizationUID = uid
