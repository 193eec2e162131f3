"""Which objects a task's results become: settings of a task that the DICOM half reads too.

They lie below both halves, travel with a `Result`, and stand in a task's ``definition.json``; a definition
without them means the defaults.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from fewshot_node.errors import TaskError

SegmentationKind = Literal["binary", "fractional", "labelmap"]
EmptyFrames = Literal["omit", "keep"]
Overlay = Literal["none", "secondary-capture"]

_BOOLEANS: Mapping[str, bool] = {"false": False, "true": True}
_ALLOWED: Mapping[str, tuple[str, ...]] = {
    "segmentation": get_args(SegmentationKind),
    "empty_frames": get_args(EmptyFrames),
    "overlay": get_args(Overlay),
    "rtstruct": tuple(_BOOLEANS),
    "presentation_state": tuple(_BOOLEANS),
}

OUTPUT_CHOICES = "; ".join(f"{key}={'|'.join(values)}" for key, values in _ALLOWED.items())
"""Every key with its values, as people are told them."""


@dataclass(frozen=True, slots=True)
class OutputSettings:
    """Which objects a result becomes.

    Attributes
    ----------
    segmentation
        ``"binary"``: one bit a voxel and segment. ``"fractional"``: each voxel's probability. ``"labelmap"``:
        one number a voxel (PS3.3 A.51 and A.90; few viewers show a label map yet).
    empty_frames
        ``"omit"`` leaves out frames in which a segment has no voxel; ``"keep"`` writes one for every slice and
        segment, for readers that expect them.
    overlay
        ``"secondary-capture"`` adds a series of pictures with the masks drawn in, for a PACS that shows no
        segmentation.
    rtstruct
        Whether an RT Structure Set is written beside.
    presentation_state
        Whether the findings are written as graphics of presentation states beside, for viewers that draw those.

    Raises
    ------
    TaskError
        A value is none of these.
    """

    segmentation: SegmentationKind = "binary"
    empty_frames: EmptyFrames = "omit"
    overlay: Overlay = "none"
    rtstruct: bool = False
    presentation_state: bool = False

    def __post_init__(self) -> None:
        for key, value in asdict(self).items():
            _require_allowed(key, str(value).lower() if isinstance(value, bool) else value)

    def __str__(self) -> str:
        values = {key: str(value).lower() if isinstance(value, bool) else value for key, value in asdict(self).items()}
        return " ".join(f"{key}={value}" for key, value in values.items())

    def changed(self, texts: Iterable[str]) -> "OutputSettings":
        """Return these settings with some ``KEY=VALUE`` replaced.

        Raises
        ------
        TaskError
            A text has another form, or its key or value is unknown; the message lists what is allowed.
        """
        return replace(self, **dict(_parse(text) for text in texts))


def _parse(text: str) -> tuple[str, Any]:
    key, equals, value = (part.strip() for part in text.partition("="))
    if not equals:
        raise TaskError(f"output {text!r} is not KEY=VALUE: give {OUTPUT_CHOICES}")
    _require_allowed(key, value)
    return key, _BOOLEANS[value] if _ALLOWED[key] == tuple(_BOOLEANS) else value


def _require_allowed(key: str, value: str) -> None:
    if key not in _ALLOWED:
        raise TaskError(f"output.{key}: there is no such setting: give {OUTPUT_CHOICES}")
    if value not in _ALLOWED[key]:
        raise TaskError(f"output.{key}: {value!r} is unknown: give one of {', '.join(_ALLOWED[key])}")
