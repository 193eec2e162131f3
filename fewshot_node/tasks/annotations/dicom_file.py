"""What the DICOM annotation objects have in common: coded concepts, and the series that they belong to."""

from collections.abc import Collection

from pydicom.dataset import Dataset

from fewshot_node.errors import TemplateError
from fewshot_node.records import Code
from fewshot_node.tasks.annotations.records import Target

SIDES = {"7771000": "left", "24028007": "right", "G-A101": "left", "G-A100": "right"}
"""Left and right in SNOMED CT and in its retired SRT codes (PS3.16 CID 244)."""


def code_of(item: Dataset, keyword: str) -> Code | None:
    """Return the first coded concept of a sequence (PS3.3 8.8); None where there is none."""
    for code in item.get(keyword) or ():
        value = code.get("CodeValue") or code.get("LongCodeValue") or code.get("URNCodeValue")
        if value:
            return Code(str(value), str(code.get("CodingSchemeDesignator", "")), str(code.get("CodeMeaning", "")))
    return None


def side_in(item: Dataset, keyword: str) -> str:
    """Return ``left`` or ``right`` where the concept of a sequence, or a modifier of it, says so."""
    modifiers = [
        code for one in item.get(keyword) or () for key in one.dir("ModifierCodeSequence") for code in one[key]
    ]
    for code in (*(item.get(keyword) or ()), *modifiers):
        side = SIDES.get(str(code.get("CodeValue", "")))
        if side:
            return side
    return ""


def require_same_space(series: Collection[str], frames_of_reference: Collection[str], target: Target) -> None:
    """Refuse an object of another Frame of Reference, and one of another series unless labels may be resampled.

    Raises
    ------
    TemplateError
        As said.
    """
    volume = target.volume
    comparable = volume.frame_of_reference_stated and frames_of_reference
    if comparable and volume.frame_of_reference_uid not in frames_of_reference:
        raise TemplateError(
            f"label file {target.path} has Frame of Reference {', '.join(sorted(frames_of_reference))}, "
            f"{target.series} has {volume.frame_of_reference_uid}, so positions cannot be compared: "
            "register it to this series, or give the series that it was drawn on"
        )
    if series and volume.series_instance_uid not in series and not target.resample:
        raise TemplateError(
            f"label file {target.path} belongs to series {', '.join(sorted(series))}, not to "
            f"{volume.series_instance_uid}: give that series, or take the labels by their place in mm with --resample"
        )
