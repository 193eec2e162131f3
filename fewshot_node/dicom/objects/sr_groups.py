"""The measurement groups of a report: one for each structure, in the template that its evidence calls for."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import highdicom as hd
import numpy as np
from highdicom.sr import (
    AlgorithmIdentification,
    FindingSite,
    ImageRegion,
    ImageRegion3D,
    Measurement,
    MeasurementsAndQualitativeEvaluations,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    ReferencedSegment,
    ReferencedSegmentationFrame,
    SourceImageForRegion,
    SourceImageForSegmentation,
    SourceSeriesForSegmentation,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from fewshot_node.dicom.objects import provenance
from fewshot_node.dicom.objects.sr_codes import ABSENT, ANATOMY, AREA, CERTAINTY, PRESENCE, PRESENT, VOLUME
from fewshot_node.records import Label, Result, SourceFrame, StructureFinding, Volume
from fewshot_node.uids import ResultUids

MeasurementGroup = (
    MeasurementsAndQualitativeEvaluations
    | PlanarROIMeasurementsAndQualitativeEvaluations
    | VolumetricROIMeasurementsAndQualitativeEvaluations
)


@dataclass(frozen=True, slots=True, eq=False)
class GroupWriter:
    """Writes the measurement groups of one result.

    Attributes
    ----------
    segmentation
        The Segmentation of the same result; its segments are found by their tracking UIDs.
    """

    result: Result
    volume: Volume
    uids: ResultUids
    segmentation: Dataset | None

    def write(self, finding: StructureFinding) -> MeasurementGroup:
        """Return the group of one structure.

        TID 1410 with a point, or with the segmentation's frame where the series is a single slice; TID 1411
        with a segment; TID 1501 for what was not found, or has nothing to refer to.
        """
        common = self._common(finding)
        if finding.found and finding.point_mm is not None:
            return PlanarROIMeasurementsAndQualitativeEvaluations(referenced_region=self._point(finding), **common)
        if not finding.found or self.segmentation is None:
            return MeasurementsAndQualitativeEvaluations(**common)
        number = self._segment_number(self.segmentation, finding.label)
        if self._is_planar:
            frame = self._segment_frame(self.segmentation, number)
            return PlanarROIMeasurementsAndQualitativeEvaluations(referenced_segment=frame, **common)
        segment = ReferencedSegment(
            sop_class_uid=self.segmentation.SOPClassUID,
            sop_instance_uid=self.segmentation.SOPInstanceUID,
            segment_number=number,
            source_series=SourceSeriesForSegmentation(self.volume.series_instance_uid),
        )
        return VolumetricROIMeasurementsAndQualitativeEvaluations(referenced_segment=segment, **common)

    @property
    def _is_planar(self) -> bool:
        return len(self.volume.array) == 1

    def _common(self, finding: StructureFinding) -> dict[str, Any]:
        """Return what the group says in whichever template."""
        label, algorithm = finding.label, self.result.algorithm
        site = _site(label)
        return {
            "tracking_identifier": TrackingIdentifier(
                uid=self.uids.tracking(label.name),
                identifier=provenance.tracking_identifier(self.result, label.name),
            ),
            "finding_category": provenance.coded(label.category),
            "finding_type": provenance.coded(label.type),
            "finding_sites": None if site is None else [site],
            "algorithm_id": AlgorithmIdentification(
                algorithm.name, algorithm.version, list(algorithm.parameters) or None
            ),
            "measurements": list(self._measurements(finding)),
            "qualitative_evaluations": [QualitativeEvaluation(PRESENCE, PRESENT if finding.found else ABSENT)],
        }

    def _measurements(self, finding: StructureFinding) -> Iterator[Measurement]:
        """Give certainty and size; of a single slice it is the area, since its thickness says little."""
        certainty = finding.confidence if finding.found else 1.0 - finding.confidence
        yield Measurement(CERTAINTY, round(100.0 * certainty, 4), codes.UCUM.Percent)
        if not finding.found or finding.volume_mm3 is None:
            return
        if self._is_planar:
            _, row_mm, column_mm = self.volume.spacing_mm
            area_mm2 = finding.volume_mm3 / self.volume.voxel_mm3 * row_mm * column_mm
            yield Measurement(AREA, round(area_mm2, 3), codes.UCUM.SquareMillimeter)
        else:
            yield Measurement(VOLUME, round(finding.volume_mm3, 3), codes.UCUM.CubicMillimeter)

    def _segment_number(self, segmentation: Dataset, label: Label) -> int:
        wanted = self.uids.tracking(label.name)
        return next(
            int(item.SegmentNumber) for item in segmentation.SegmentSequence if item.get("TrackingUID") == wanted
        )

    def _segment_frame(self, segmentation: Dataset, number: int) -> ReferencedSegmentationFrame:
        """Refer to the one frame of a segment by its number, which says the segment too.

        The frames of a label map belong to all segments, so there the segment's number stands instead:
        the two exclude each other (PS3.3 Table 10-3).
        """
        frames = segmentation.PerFrameFunctionalGroupsSequence
        of_one_segment = "SegmentIdentificationSequence" in frames[0]
        numbers = [item.SegmentIdentificationSequence[0].ReferencedSegmentNumber for item in frames if of_one_segment]
        frame = ReferencedSegmentationFrame(
            sop_class_uid=segmentation.SOPClassUID,
            sop_instance_uid=segmentation.SOPInstanceUID,
            frame_number=numbers.index(number) + 1 if of_one_segment else 1,
            segment_number=number,
            source_image=SourceImageForSegmentation(**_reference(self.volume.frames[0])),
        )
        reference = frame[0].ReferencedSOPSequence[0]
        del reference["ReferencedSegmentNumber" if of_one_segment else "ReferencedFrameNumber"]
        return frame

    def _point(self, finding: StructureFinding) -> ImageRegion | ImageRegion3D:
        """Return the point in patient coordinates; where the source states no frame for them, on an image."""
        point_mm = np.array(finding.point_mm, dtype=np.float64)
        if not self.volume.frame_of_reference_stated:
            return self._point_on_image(point_mm)
        return ImageRegion3D(
            graphic_type=hd.sr.GraphicTypeValues3D.POINT,
            graphic_data=point_mm[None],
            frame_of_reference_uid=self.volume.frame_of_reference_uid,
        )

    def _point_on_image(self, point_mm: NDArray[np.float64]) -> ImageRegion:
        """Return the point on its nearest slice; (0, 0) is the corner of the image, not a pixel centre.

        PS3.3 C.18.6.1.2: the first pixel's centre lies at (0.5, 0.5).
        """
        slices, rows, columns = self.volume.array.shape
        index = self.volume.to_index(point_mm)
        frame = self.volume.frames[int(np.clip(np.rint(index[0]), 0, slices - 1))]
        column_row = np.clip([index[2] + 0.5, index[1] + 0.5], 0, [columns, rows])
        return ImageRegion(
            graphic_type=hd.sr.GraphicTypeValues.POINT,
            graphic_data=column_row[None],
            source_image=SourceImageForRegion(**_reference(frame)),
        )


def _reference(frame: SourceFrame) -> dict[str, Any]:
    return {
        "referenced_sop_class_uid": frame.sop_class_uid,
        "referenced_sop_instance_uid": frame.sop_instance_uid,
        "referenced_frame_numbers": None if frame.frame_number is None else [frame.frame_number],
    }


def _site(label: Label) -> FindingSite | None:
    """Return where a finding lies, with its side: the region of a label, or the structure itself if it is anatomy."""
    site = label.anatomic_region
    if site is None and label.category.value in ANATOMY:
        site = label.type
    if site is None:
        return None
    side = None if label.laterality is None else provenance.coded(label.laterality)
    return FindingSite(provenance.coded(site), laterality=side)
