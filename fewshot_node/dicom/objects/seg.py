"""DICOM Segmentation (PS3.3 A.51): writing a result's label map, reading labels onto a volume's grid."""

from collections.abc import Sequence

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from fewshot_node.dicom.objects import provenance
from fewshot_node.dicom.objects.seg_reading import SegmentationLabels, read_segmentation
from fewshot_node.errors import ConformanceError
from fewshot_node.records import AlgorithmIdentity, LabelArray, Result, StructureFinding, Volume
from fewshot_node.uids import ResultUids

__all__ = ["SegmentationLabels", "read_segmentation", "write_segmentation"]

CONTENT_LABEL = "AI_SEGMENTATION"
_LIGHTNESS, _CHROMA, _GOLDEN_ANGLE = 65.0, 60.0, 137.50776


def write_segmentation(result: Result, volume: Volume, sources: Sequence[Dataset], uids: ResultUids) -> Dataset:
    """Write a result's label map as a BINARY multi-segment Segmentation.

    Each label has a segment, in the order of label values, the ones not found too: "looked, not present"
    (IHE AI Results). Frames without a pixel are left out; when nothing was found, one empty frame for
    each segment stays at the middle slice, since the object needs at least one. Dates are the source's
    latest, so that the same input gives the same bytes.

    Parameters
    ----------
    sources
        Headers of the volume's instances in slice order, from `read_sources`.

    Raises
    ------
    ConformanceError
        The label map is absent, has another shape than the volume, or holds a value that is no label.
    SeriesError
        The sources are of an image class that cannot be referred to.
    """
    with provenance.known_image_class(sources[0]):
        segmentation = _segmentation(result, volume, sources, uids)
        provenance.complete(segmentation, sources, result)
    _set_dimension_organization(segmentation, uids.dimension_organization())
    provenance.name_by_content(segmentation, result, uids.segmentation_instance)
    return segmentation


def _segmentation(result: Result, volume: Volume, sources: Sequence[Dataset], uids: ResultUids) -> hd.seg.Segmentation:
    findings = segments(result)
    pixels, positions = _frames(_numbered(result, findings, volume), volume)
    return hd.seg.Segmentation(
        source_images=provenance.stand_ins(sources, volume),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[
            _describe_segment(number, finding, result, uids) for number, finding in enumerate(findings, 1)
        ],
        series_instance_uid=uids.segmentation_series(),
        series_number=provenance.series_number(sources[0], result.task_name, provenance.ResultKind.SEGMENTATION),
        sop_instance_uid=provenance.UNNAMED,
        content_label=CONTENT_LABEL,
        content_description=provenance.describe(result, "segmentation"),
        series_description=provenance.describe(result, "segmentation"),
        pixel_array=pixels,
        plane_positions=positions,
        omit_empty_frames=positions is None,
        **provenance.series_attributes(result, uids),
    )


def segments(result: Result) -> tuple[StructureFinding, ...]:
    """Return findings in the order of their segments: by label value, numbered from 1."""
    return tuple(sorted(result.findings, key=lambda finding: finding.label.value))


def _numbered(result: Result, findings: Sequence[StructureFinding], volume: Volume) -> LabelArray:
    """Renumber label values to segment numbers, which must be consecutive (PS3.3 C.8.20.4)."""
    if result.label_map is None:
        raise ConformanceError(f"task {result.task_name} gave no label map: write a report only")
    if result.label_map.shape != volume.array.shape:
        message = f"task {result.task_name}: label map {result.label_map.shape} is not on the volume's grid"
        raise ConformanceError(f"{message} {volume.array.shape}: fit the task again")
    numbers = np.zeros(256, dtype=np.uint8)
    for number, finding in enumerate(findings, 1):
        numbers[finding.label.value] = number
    renumbered: LabelArray = numbers[result.label_map]
    if np.count_nonzero(renumbered) != np.count_nonzero(result.label_map):
        message = f"task {result.task_name}: the label map holds a value that none of its findings describes"
        raise ConformanceError(f"{message}: publish the task again")
    return renumbered


def _frames(label_map: LabelArray, volume: Volume) -> tuple[LabelArray, list[hd.PlanePositionSequence] | None]:
    """Return the planes as the sources have them, or one empty plane and its place."""
    if label_map.any():
        return _in_source_order(label_map, volume), None
    middle = len(label_map) // 2
    position = volume.to_mm(np.array([middle, 0, 0], dtype=np.float64))
    return label_map[middle : middle + 1], [hd.PlanePositionSequence("PATIENT", position.tolist())]


def _in_source_order(label_map: LabelArray, volume: Volume) -> NDArray[np.uint8]:
    """Return the slices as highdicom pairs them with the sources: by frame number if there are frames."""
    if volume.frames[0].frame_number is None:
        return label_map
    order = np.argsort([frame.frame_number or 0 for frame in volume.frames])
    return label_map[order]


def _describe_segment(
    number: int, finding: StructureFinding, result: Result, uids: ResultUids
) -> hd.seg.SegmentDescription:
    label = finding.label
    region = label.anatomic_region
    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=provenance.long_string(label.name),
        segmented_property_category=provenance.coded(label.category),
        segmented_property_type=provenance.coded(label.type),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=_identify_algorithm(result.algorithm),
        tracking_uid=uids.tracking(label.name),
        tracking_id=provenance.tracking_identifier(result, label.name),
        anatomic_regions=None if region is None else [provenance.coded(region)],
        display_color=_display_color(number),
    )


def _identify_algorithm(algorithm: AlgorithmIdentity) -> hd.AlgorithmIdentificationSequence:
    return hd.AlgorithmIdentificationSequence(
        name=provenance.long_string(algorithm.name),
        family=codes.cid7162.ArtificialIntelligence,
        version=provenance.long_string(algorithm.version),
        source=provenance.MANUFACTURER,
        parameters=dict(parameter.partition("=")[::2] for parameter in algorithm.parameters) or None,
    )


def _display_color(number: int) -> hd.color.CIELabColor:
    """Return a colour far from those of the numbers before: equal lightness, hue by the golden angle."""
    hue = np.radians(number * _GOLDEN_ANGLE)
    return hd.color.CIELabColor(_LIGHTNESS, float(_CHROMA * np.cos(hue)), float(_CHROMA * np.sin(hue)))


def _set_dimension_organization(segmentation: Dataset, uid: str) -> None:
    for sequence in (segmentation.DimensionOrganizationSequence, segmentation.DimensionIndexSequence):
        for item in sequence:
            item.DimensionOrganizationUID = uid
