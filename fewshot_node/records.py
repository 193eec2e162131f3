"""The frozen records that flow through the chain.

``ReceivedSeries -> Volume -> FeatureMap -> Localization -> Prompts -> Masks -> Result``

Arrays are indexed (slice, row, column); geometry is LPS millimetres. "Nothing found" is a value here,
not an error.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fewshot_node.output import OutputSettings
from fewshot_node.probabilities import LabelProbabilities
from fewshot_node.uids import digest_parts

FloatArray = NDArray[np.floating]
LabelArray = NDArray[np.uint8]


def _require(condition: bool, message: str) -> None:
    """Reject a record whose content contradicts its own contract: a fault of the program."""
    if not condition:
        raise ValueError(message)


def _apply(affine: NDArray[np.float64], points: FloatArray) -> NDArray[np.float64]:
    moved: NDArray[np.float64] = np.asarray(points, dtype=np.float64) @ affine[:3, :3].T + affine[:3, 3]
    return moved


class TaskKind(StrEnum):
    """What a task gives back."""

    SEGMENTATION = "segmentation"
    LANDMARKS = "landmarks"


@dataclass(frozen=True, slots=True)
class Code:
    """A coded concept (PS3.3 8.8): value, coding scheme designator, meaning."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Label:
    """One structure that a task knows.

    Attributes
    ----------
    value
        Value in label maps, 1..254; 0 is background.
    name
        Name that people use, unique in the task.
    category, type
        Segmented Property Category and Type (PS3.16 CID 7150 and its children); for a landmark
        `type` is the finding.
    anatomic_region
        Where the finding lies, when `type` alone does not say so.
    laterality
        Side of the structure (PS3.16 CID 244), when `type` does not say so.
    """

    value: int
    name: str
    category: Code
    type: Code
    anatomic_region: Code | None = None
    laterality: Code | None = None

    def __post_init__(self) -> None:
        _require(0 < self.value < 255, f"label value {self.value} is not within 1..254")


@dataclass(frozen=True, slots=True, order=True)
class SeriesKey:
    """One revision of one received series; a late instance makes the next revision."""

    series_instance_uid: str
    revision: int = 1

    def __str__(self) -> str:
        return f"{self.series_instance_uid}@{self.revision}"

    @classmethod
    def parse(cls, text: str) -> "SeriesKey":
        """Read ``UID@REVISION``; a bare UID means revision 1."""
        uid, _, revision = text.partition("@")
        return cls(uid, int(revision or 1))


@dataclass(frozen=True, slots=True)
class ReportReference:
    """Where a report is: its study, series and SOP Instance UID."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class MadeReport:
    """A report of one task on a series, as the node keeps it in mind.

    Attributes
    ----------
    content_uid
        The SOP Instance UID that it would have if it referred to no predecessor: the same for everything
        that is made anew from the same input.
    predecessor
        The report that it replaces.
    delivered
        Whether a destination has confirmed it.
    """

    task_name: str
    reference: ReportReference
    content_uid: str
    predecessor: ReportReference | None = None
    delivered: bool = False


@dataclass(frozen=True, slots=True)
class ReceivedSeries:
    """A complete series as it lies in the spool; `reports` were made of it before, the newest first."""

    key: SeriesKey
    study_instance_uid: str
    calling_ae_title: str
    files: tuple[Path, ...]
    reports: tuple[MadeReport, ...] = ()


@dataclass(frozen=True, slots=True)
class SourceFrame:
    """The stored frame that a slice of a volume came from."""

    sop_class_uid: str
    sop_instance_uid: str
    frame_number: int | None = None
    """1-based number within a multi-frame instance; None for a single-frame one."""


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """One series as a regular grid.

    Attributes
    ----------
    array
        float32 (slices, rows, columns): Hounsfield units for CT, stored values after rescale for the
        rest; MONOCHROME1 is already inverted.
    affine
        float64 (4, 4): (slice, row, column, 1) index of a voxel centre -> LPS mm.
    frames
        One source frame for each slice, in the array's order.
    frame_of_reference_stated
        False when the source had no Frame of Reference UID and a derived one is used.
    """

    array: NDArray[np.float32]
    affine: NDArray[np.float64]
    frames: tuple[SourceFrame, ...]
    modality: str
    study_instance_uid: str
    series_instance_uid: str
    frame_of_reference_uid: str
    frame_of_reference_stated: bool = True

    def __post_init__(self) -> None:
        _require(self.array.ndim == 3, "volume: not (slices, rows, columns)")
        _require(self.array.dtype == np.float32, "volume: not float32")
        _require(self.affine.shape == (4, 4), "volume: affine is not 4x4")
        _require(len(self.frames) == len(self.array), "volume: frames and slices differ in number")

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between voxel centres along slices, rows and columns, in mm."""
        lengths = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(lengths[0]), float(lengths[1]), float(lengths[2])

    @property
    def voxel_mm3(self) -> float:
        """Volume of one voxel in mm3."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    def to_mm(self, indices: FloatArray) -> NDArray[np.float64]:
        """Map (..., 3) fractional (slice, row, column) indices to LPS mm."""
        return _apply(self.affine, indices)

    def to_index(self, points_mm: FloatArray) -> NDArray[np.float64]:
        """Map (..., 3) LPS mm to fractional (slice, row, column) indices."""
        return _apply(np.linalg.inv(self.affine).astype(np.float64), points_mm)

    def digest(self) -> str:
        """Digest of the pixels and the geometry."""
        return digest_parts(
            (
                repr(self.array.shape).encode(),
                np.ascontiguousarray(self.array).tobytes(),
                np.round(self.affine, 6).tobytes(),
                self.modality.encode(),
            )
        )


@dataclass(frozen=True, slots=True, eq=False)
class FeatureMap:
    """Dense features of a stack of slices.

    Attributes
    ----------
    array
        float16 or float32 (slices, h, w, channels), L2-normalised over channels; may be memory-mapped.
    image_shape
        (rows, columns) of the slices that the grid covers edge to edge.
    """

    array: FloatArray
    image_shape: tuple[int, int]

    def __post_init__(self) -> None:
        _require(self.array.ndim == 4, "feature map: not (slices, h, w, channels)")


@dataclass(frozen=True, slots=True, eq=False)
class Landmark:
    """Where a landmark task saw one of its labels.

    `index` is the fractional (slice, row, column) position, or None when the landmark is absent;
    `confidence` lies in 0..1 either way (confidence that it is there).
    """

    label_value: int
    index: tuple[float, float, float] | None
    confidence: float


@dataclass(frozen=True, slots=True, eq=False)
class Localization:
    """What the adapter found, after cleaning.

    Attributes
    ----------
    label_map
        uint8 (slices, rows, columns), 0 = background.
    scores
        float32 (slices, labels + 1, h, w) on the feature grid; channel 0 is background; the label of
        a place is the channel with the highest score. Channel k belongs to `label_values[k - 1]`.
    landmarks
        One entry for each label of a landmark task; empty for a segmentation task.
    """

    label_map: LabelArray
    scores: NDArray[np.float32]
    label_values: tuple[int, ...]
    landmarks: tuple[Landmark, ...] = ()

    def __post_init__(self) -> None:
        _require(self.label_map.ndim == 3, "localization: not (slices, rows, columns)")
        _require(self.label_map.dtype == np.uint8, "localization: label map is not uint8")
        _require(self.scores.shape[1] == len(self.label_values) + 1, "localization: scores and labels differ")


@dataclass(frozen=True, slots=True, eq=False)
class Prompts:
    """What SAM is asked for one region of one label on one slice.

    Places are indices of pixel centres, (column, row).

    Attributes
    ----------
    points_xy, positive
        float32 (points, 2) and bool (points,).
    coarse_mask
        bool (rows, columns): the localized region that the answer must agree with.
    box_xyxy
        float32 (4,): the outermost pixels of a box; None asks with points alone.
    mask_logits
        float32 (h, w) on a grid that covers the slice edge to edge, positive inside; None gives no mask.
    draw
        Which of several seeded draws for the same region this is, from 0.
    """

    slice_index: int
    label_value: int
    points_xy: NDArray[np.float32]
    positive: NDArray[np.bool_]
    coarse_mask: NDArray[np.bool_]
    box_xyxy: NDArray[np.float32] | None = None
    mask_logits: NDArray[np.float32] | None = None
    draw: int = 0

    def __post_init__(self) -> None:
        _require(self.points_xy.shape == (len(self.positive), 2), "prompts: points and their signs differ in number")
        _require(self.coarse_mask.ndim == 2, "prompts: coarse mask is not (rows, columns)")
        _require(self.box_xyxy is None or self.box_xyxy.shape == (4,), "prompts: box is not (4,)")
        _require(self.box_xyxy is not None or len(self.positive) > 0, "prompts: neither point nor box")


@dataclass(frozen=True, slots=True)
class RefinementCount:
    """On how many of a label's slices a refined mask was kept, and on how many only coarse ones."""

    refined: int = 0
    coarse: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Masks:
    """The masks that leave the vision half: uint8 (slices, rows, columns) label map after refinement.

    Attributes
    ----------
    refinement
        By label value.
    uncertainty
        By label value: 1 - mean IoU between the masks that several draws of prompts gave, pooled over the
        volume, 0 (all agree) to 1; empty where prompts were drawn once (method.md step 10).
    """

    label_map: LabelArray
    refinement: Mapping[int, RefinementCount] = field(default_factory=dict)
    uncertainty: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AlgorithmIdentity:
    """What produced a result, as the result objects state it (PS3.3 10.16)."""

    name: str
    version: str
    parameters: tuple[str, ...]
    """``key=value`` strings: task revision, digests, adapter, refinement."""


@dataclass(frozen=True, slots=True, eq=False)
class StructureFinding:
    """One label's outcome: found or not, how large, where, how sure.

    `volume_mm3` is set for a segmentation task; `point_mm` (LPS) for a landmark that was found.
    """

    label: Label
    found: bool
    confidence: float
    volume_mm3: float | None = None
    point_mm: tuple[float, float, float] | None = None
    index: tuple[float, float, float] | None = None


@dataclass(frozen=True, slots=True)
class TrackedLabel:
    """What a result says under one of its tracking UIDs: enough to tell a correction from the result itself.

    Attributes
    ----------
    tracking_uid
        Tracking UID (112040, DCM) of the label in the result's objects.
    instance_uid
        SOP Instance UID of the object whose pixels or points can be corrected.
    mask_digest
        Digest of the label's mask on the grid of the source series; None for a landmark.
    point_mm
        LPS mm of a landmark that was found.
    """

    tracking_uid: str
    label_value: int
    instance_uid: str
    mask_digest: str | None = None
    point_mm: tuple[float, float, float] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """What one task says about one series, ready to be written as SEG and SR.

    Attributes
    ----------
    label_map
        None for a landmark task.
    output
        Which objects are written from it.
    probabilities
        What a fractional segmentation shows; None where the task asks for none.
    """

    task_name: str
    task_revision: int
    kind: TaskKind
    findings: tuple[StructureFinding, ...]
    label_map: LabelArray | None
    algorithm: AlgorithmIdentity
    output: OutputSettings = field(default_factory=OutputSettings)
    probabilities: LabelProbabilities | None = None
