"""Grayscale Softcopy Presentation States (PS3.3 A.33.1): findings as lines and points laid over the source's images.

For viewers that draw presentation states and no segmentations. They carry no meaning that a machine could read (IHE
RAD AI Results leaves them out for that), so they come beside the other objects and never instead.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass

import highdicom as hd
import numpy as np
from highdicom.pr import (
    GraphicAnnotation,
    GraphicLayer,
    GraphicObject,
    GrayscaleSoftcopyPresentationState,
    SoftcopyVOILUTTransformation,
    TextObject,
)
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from fewshot_node.dicom.objects import provenance
from fewshot_node.dicom.objects.captures import display_window, shown_slices, slice_of
from fewshot_node.dicom.objects.colours import display_colours
from fewshot_node.dicom.objects.geometry import functional_group
from fewshot_node.dicom.objects.outlines import outlines
from fewshot_node.dicom.objects.segments import segments
from fewshot_node.dicom.objects.stand_ins import stand_ins
from fewshot_node.records import Result, StructureFinding, Volume
from fewshot_node.uids import ResultUids

CONTENT_LABEL = "AI_FINDINGS"
_MOST_CORNERS = 8000
"""Of one outline: two floats each must fit into 65534 bytes (PS3.5 7.1.2), with the first corner repeated."""
_LINEAR_LEAST = 2.0
"""Window width below which LINEAR, which takes one off, no longer means what it says (PS3.3 C.11.2.1.2)."""


@dataclass(frozen=True, slots=True)
class _Rescale:
    """How stored values of a frame become modality values."""

    slope: float
    intercept: float
    type_: str


def write_presentation_states(
    result: Result, volume: Volume, sources: Sequence[Dataset], uids: ResultUids
) -> list[Dataset]:
    """Write the findings as graphics: masks outlined along their pixels' edges, points with their names.

    A state has one modality transformation for all its images (PS3.3 A.33.1.3), so that slices of different
    rescale slopes, as PET has them, get a state each. Nothing found gives none.

    Parameters
    ----------
    sources
        Headers of the volume's instances in slice order, from `read_sources`.
    """
    writer = _StateWriter(result, volume, sources, uids)
    alike: dict[_Rescale | None, list[int]] = defaultdict(list)
    for index in shown_slices(result, volume):
        alike[writer.rescale(index)].append(index)
    return [writer.state(rescale, alike[rescale], number) for number, rescale in enumerate(alike, 1)]


@dataclass(frozen=True, slots=True, eq=False)
class _StateWriter:
    """Writes the presentation states of one result."""

    result: Result
    volume: Volume
    sources: Sequence[Dataset]
    uids: ResultUids

    def rescale(self, index: int) -> _Rescale | None:
        """Return how the values of a slice are stored; None when as they are."""
        source, frame = self._source(index), self.volume.frames[index].frame_number
        group = functional_group(source, (frame or 1) - 1, "PixelValueTransformationSequence") or source
        if group.get("RescaleSlope") in (None, "") or group.get("RescaleIntercept") in (None, ""):
            return None
        type_ = str(group.get("RescaleType") or ("HU" if self.volume.modality == "CT" else "US"))
        return _Rescale(float(group.RescaleSlope), float(group.RescaleIntercept), type_)

    def state(self, rescale: _Rescale | None, indices: Sequence[int], number: int) -> Dataset:
        """Return the state for slices that are stored alike, as the series' instance of that number."""
        result, sources = self.result, self.sources
        images, layers = self._images(indices), self._layers()
        state = GrayscaleSoftcopyPresentationState(
            referenced_images=list({str(image.SOPInstanceUID): image for image in images}.values()),
            series_instance_uid=self.uids.presentation_series(),
            series_number=provenance.series_number(
                sources[0], result.task_name, provenance.ResultKind.PRESENTATION_STATE
            ),
            sop_instance_uid=provenance.UNNAMED,
            content_label=CONTENT_LABEL,
            content_description=provenance.describe(result, "presentation"),
            series_description=provenance.describe(result, "presentation"),
            graphic_annotations=[
                annotation
                for index, image in zip(indices, images, strict=True)
                for annotation in self._annotations(index, image, layers)
            ],
            graphic_layers=list(layers.values()),
            modality_lut_transformation=None if rescale is None else _modality(rescale),
            voi_lut_transformations=self._window(),
            presentation_lut_transformation=hd.PresentationLUTTransformation(
                presentation_lut_shape="INVERSE" if self._inverted else "IDENTITY"
            ),
            **{**provenance.series_attributes(result, self.uids), "instance_number": number},
        )
        self._finish(state, indices)
        return state

    @property
    def _inverted(self) -> bool:
        return bool(self.sources[0].get("PhotometricInterpretation") == "MONOCHROME1")

    def _source(self, index: int) -> Dataset:
        return self.sources[0] if len(self.sources) == 1 else self.sources[index]

    def _images(self, indices: Sequence[int]) -> list[Dataset]:
        images = stand_ins(self.sources, self.volume)
        for image in images:
            image.SamplesPerPixel = 1
        return [images[0] if len(images) == 1 else images[index] for index in indices]

    def _layers(self) -> dict[int, GraphicLayer]:
        """Return a layer for each label that was found, by label value: each can be switched off."""
        findings = segments(self.result)
        colours = display_colours([finding.label for finding in findings])
        return {
            one.label.value: GraphicLayer(
                f"LABEL {one.label.value}", order, provenance.long_string(one.label.name), colour
            )
            for order, (one, colour) in enumerate(zip(findings, colours, strict=True), 1)
            if one.found
        }

    def _annotations(self, index: int, image: Dataset, layers: dict[int, GraphicLayer]) -> Iterator[GraphicAnnotation]:
        for finding in (one for one in segments(self.result) if one.found):
            texts = list(self._texts(finding, index))
            graphics = list(self._graphics(finding, index))
            if graphics:
                yield GraphicAnnotation(
                    referenced_images=[image],
                    graphic_layer=layers[finding.label.value],
                    referenced_frame_number=self.volume.frames[index].frame_number,
                    graphic_objects=graphics,
                    text_objects=texts,
                )

    def _graphics(self, finding: StructureFinding, index: int) -> Iterator[GraphicObject]:
        """Give what a slice shows of a structure; (0, 0) is the corner of the image (PS3.3 C.10.5.1)."""
        if self.result.label_map is not None:
            for corners in outlines(self.result.label_map[index] == finding.label.value, _MOST_CORNERS):
                closed = np.concatenate([corners, corners[:1]])
                yield self._graphic("POLYLINE", closed, finding)
        elif finding.index is not None and slice_of(finding, self.volume) == index:
            yield self._graphic("POINT", np.array([finding.index[1:]]), finding)

    def _graphic(self, kind: str, places_rc: NDArray[np.float64], finding: StructureFinding) -> GraphicObject:
        return GraphicObject(
            graphic_type=kind,
            graphic_data=_inside(places_rc, self.volume),
            units="PIXEL",
            tracking_id=provenance.tracking_identifier(self.result, finding.label.name),
            tracking_uid=self.uids.tracking(finding.label.name),
        )

    def _texts(self, finding: StructureFinding, index: int) -> Iterator[TextObject]:
        if finding.index is not None and slice_of(finding, self.volume) == index:
            column, row = _inside(np.array([finding.index[1:]]), self.volume)[0]
            yield TextObject(finding.label.name, "PIXEL", anchor_point=(float(column), float(row)))

    def _window(self) -> list[SoftcopyVOILUTTransformation] | None:
        """Return the window that the source states or its values suggest: without one a viewer shows all grays."""
        low, high = display_window(self.volume, self.sources[0])
        width = high - low
        if self._inverted or width <= 0:
            return None
        function = "LINEAR" if width >= _LINEAR_LEAST else "LINEAR_EXACT"
        return [SoftcopyVOILUTTransformation(_short((low + high) / 2), _short(width), voi_lut_function=function)]

    def _finish(self, state: GrayscaleSoftcopyPresentationState, indices: Sequence[int]) -> None:
        provenance.complete(state, self.sources, self.result)
        state.PresentationCreationDate, state.PresentationCreationTime = state.ContentDate, state.ContentTime
        del state.ContentDate, state.ContentTime  # the class has none
        state.Laterality = str(self.sources[0].get("Laterality") or "")  # type 2C: no body part is stated
        if "ModalityLUTSequence" in self._source(indices[0]):
            state.ModalityLUTSequence = deepcopy(self._source(indices[0]).ModalityLUTSequence)
        frames = [self.volume.frames[index].frame_number for index in indices]
        if frames[0] is not None:  # the transformation is that of these frames, not of all
            state.ReferencedSeriesSequence[0].ReferencedImageSequence[0].ReferencedFrameNumber = frames
        provenance.name_by_content(state, self.uids.presentation_instance)


def _inside(places_rc: NDArray[np.float64], volume: Volume) -> NDArray[np.float64]:
    """Return (column, row) from the image's corner, within the image, of (row, column) of pixel centres."""
    _, rows, columns = volume.array.shape
    return np.clip(places_rc[:, ::-1] + 0.5, 0.0, [columns, rows])


def _modality(rescale: _Rescale) -> hd.ModalityLUTTransformation:
    return hd.ModalityLUTTransformation(
        rescale_intercept=rescale.intercept, rescale_slope=rescale.slope, rescale_type=rescale.type_
    )


def _short(value: float) -> float:
    """Return a value that a DS can hold."""
    return float(f"{value:.8g}")
