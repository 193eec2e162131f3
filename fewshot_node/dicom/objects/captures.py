"""Secondary captures (PS3.3 A.8.1): slices with the findings drawn in, for a PACS that shows no segmentation.

One instance for each slice that has a finding: single-frame secondary captures are what every PACS can show.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import highdicom as hd
import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.valuerep import format_number_as_ds

from fewshot_node.dicom.objects import provenance
from fewshot_node.dicom.objects.colours import display_colours
from fewshot_node.dicom.objects.pictures import Colour, Drawn, Picture, draw, picture_scale
from fewshot_node.dicom.objects.segments import segments
from fewshot_node.records import Result, StructureFinding, Volume
from fewshot_node.uids import ResultUids

_DIRECTIONS = ("L", "R"), ("P", "A"), ("H", "F")
_PERCENTILES = (1.0, 99.5)


def write_captures(result: Result, volume: Volume, sources: Sequence[Dataset], uids: ResultUids) -> list[Dataset]:
    """Write a picture of each slice that has a finding, in slice order; nothing found gives none.

    A picture is the slice in its own window, enlarged by a whole number, masks outlined and points marked in the
    colours of the segments, and below it a legend of the task and the labels. It lies where its slice lies,
    where the source states a frame of reference. Nothing of the patient is drawn: Burned In Annotation is NO,
    unless the source has some of its own; and a face is as recognisable as it is in the source.

    Parameters
    ----------
    sources
        Headers of the volume's instances in slice order, from `read_sources`.
    """
    writer = _CaptureWriter(result, volume, sources, uids, display_window(volume, sources[0]))
    return [writer.capture(index, number) for number, index in enumerate(shown_slices(result, volume), 1)]


@dataclass(frozen=True, slots=True, eq=False)
class _CaptureWriter:
    """Makes the pictures of one result."""

    result: Result
    volume: Volume
    sources: Sequence[Dataset]
    uids: ResultUids
    window: tuple[float, float]

    def capture(self, index: int, number: int) -> Dataset:
        """Return the picture of a slice as the series' instance of that number."""
        result, volume, sources = self.result, self.volume, self.sources
        capture = hd.sc.SCImage(
            pixel_array=self._picture(index),
            photometric_interpretation="RGB",
            bits_allocated=8,
            coordinate_system="PATIENT",
            study_instance_uid=volume.study_instance_uid,
            series_instance_uid=self.uids.overlay_series(),
            series_number=provenance.series_number(
                sources[0], result.task_name, provenance.ResultKind.SECONDARY_CAPTURE
            ),
            sop_instance_uid=provenance.UNNAMED,
            series_description=provenance.describe(result, "overlay"),
            patient_orientation=_orientation(volume),
            **{**provenance.series_attributes(result, self.uids), "instance_number": number},
        )
        provenance.complete(capture, sources, result)
        _describe(capture, index, volume, sources)
        if volume.frame_of_reference_stated:
            _place(capture, index, volume)
        provenance.name_by_content(capture, self.uids.overlay_instance)
        return capture

    def _picture(self, index: int) -> Picture:
        title = f"AI, not verified: {self.result.task_name} revision {self.result.task_revision}"
        return draw(self.volume.array[index], self.window, list(_drawn(self.result, index, self.volume)), title)


def shown_slices(result: Result, volume: Volume) -> list[int]:
    """Return the slices that have a finding."""
    if result.label_map is not None:
        return [int(index) for index in np.flatnonzero(result.label_map.any(axis=(1, 2)))]
    return sorted({slice_of(finding, volume) for finding in result.findings if finding.index is not None})


def slice_of(finding: StructureFinding, volume: Volume) -> int:
    """Return the slice that is nearest to a landmark."""
    place = 0.0 if finding.index is None else finding.index[0]
    return int(np.clip(np.rint(place), 0, len(volume.array) - 1))


def _drawn(result: Result, index: int, volume: Volume) -> Iterator[Drawn]:
    """Give every structure that was found, with what a slice shows of it: so all legends are of one size."""
    findings = segments(result)
    for finding, lab in zip(findings, display_colours([one.label for one in findings]), strict=True):
        colour: Colour = lab.to_rgb(clip=True)
        if result.label_map is not None and finding.found:
            yield Drawn(finding.label.name, colour, result.label_map[index] == finding.label.value)
        elif finding.index is not None:
            here = slice_of(finding, volume) == index
            yield Drawn(finding.label.name, colour, point_rc=finding.index[1:] if here else None)


def display_window(volume: Volume, source: Dataset) -> tuple[float, float]:
    """Return the values to show as black and white: the source's first window, else by the volume's own range."""
    inverted = source.get("PhotometricInterpretation") == "MONOCHROME1"  # a window is for the values before that
    if not inverted and source.get("WindowCenter") not in (None, "") and "WindowWidth" in source:
        try:
            centre, width = (_first(source, keyword) for keyword in ("WindowCenter", "WindowWidth"))
        except (TypeError, ValueError):
            width = 0.0
        if width > 0:
            return centre - width / 2, centre + width / 2
    low, high = np.percentile(volume.array, _PERCENTILES)
    return float(low), float(high)


def _first(source: Dataset, keyword: str) -> float:
    """Return the first value of an attribute that may have several."""
    value = source[keyword].value
    return float(value[0] if source[keyword].VM > 1 else value)


def _describe(capture: Dataset, index: int, volume: Volume, sources: Sequence[Dataset]) -> None:
    capture.ConversionType = "SYN"
    capture.DateOfSecondaryCapture, capture.TimeOfSecondaryCapture = capture.ContentDate, capture.ContentTime
    capture.DerivationDescription = "Slice with findings of an AI task drawn in"
    capture.SourceImageSequence = [_source_image(index, volume)]
    capture.BurnedInAnnotation = _stated(sources, "BurnedInAnnotation", otherwise="NO")
    capture.RecognizableVisualFeatures = _stated(sources, "RecognizableVisualFeatures", otherwise="YES")
    capture.Laterality = str(sources[0].get("Laterality") or "")  # type 2C: no body part is stated
    if any(source.get("LossyImageCompression") == "01" for source in sources):
        capture.LossyImageCompression = "01"


def _stated(sources: Sequence[Dataset], keyword: str, *, otherwise: str) -> str:
    """Return YES where any source says so, NO where all say NO."""
    stated = {str(source.get(keyword) or otherwise) for source in sources}
    return "YES" if "YES" in stated else "NO"


def _source_image(index: int, volume: Volume) -> Dataset:
    frame, item = volume.frames[index], Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = frame.sop_class_uid, frame.sop_instance_uid
    if frame.frame_number is not None:
        item.ReferencedFrameNumber = frame.frame_number
    purpose = codes.DCM.SourceImageForImageProcessingOperation
    item.PurposeOfReferenceCodeSequence = [hd.sr.CodedConcept.from_code(purpose)]
    return item


def _place(capture: Dataset, index: int, volume: Volume) -> None:
    """Say where the picture's pixels lie: those of the slice are divided, so that the first one's centre moves."""
    scale = picture_scale((volume.array.shape[1], volume.array.shape[2]))
    shift = (1.0 / scale - 1.0) / 2.0
    _, row_mm, column_mm = volume.spacing_mm
    across, down = volume.affine[:3, 2] / column_mm, volume.affine[:3, 1] / row_mm
    position = volume.to_mm(np.array([index, shift, shift]))
    capture.FrameOfReferenceUID, capture.PositionReferenceIndicator = volume.frame_of_reference_uid, ""
    capture.ImagePositionPatient = [format_number_as_ds(float(value)) for value in position]
    capture.ImageOrientationPatient = [format_number_as_ds(float(value)) for value in (*across, *down)]
    capture.PixelSpacing = [format_number_as_ds(row_mm / scale), format_number_as_ds(column_mm / scale)]
    capture.SliceThickness = format_number_as_ds(volume.spacing_mm[0])


def _orientation(volume: Volume) -> tuple[str, str]:
    """Return the directions of rows and columns (PS3.3 C.7.6.1.1.1), by the axis that each is nearest to."""

    def nearest(axis: int) -> str:
        direction = volume.affine[:3, axis]
        largest = int(np.argmax(np.abs(direction)))
        return _DIRECTIONS[largest][int(direction[largest] < 0)]

    return nearest(2), nearest(1)
