"""Attributes that an object must have: by its IOD's modules, from the tables of PS3.3 in highdicom, and by its content.

dicom-validator would know the conditions of types 1C and 2C too, but it reads the standard from the network when it
runs. `dciodvfy` knows them where it is installed.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

from highdicom._standard_utils import construct_module_tree, get_iod_module_map, get_sop_class_iod_map
from pydicom.dataset import Dataset

from fewshot_node.dicom.objects.checks.faults import Fault, inherited, is_below

_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_CONTENT_MODULE = "sr-document-content"
"""Its table lists what all value types have together; `_CONTENT` says which has what."""
_PLACED = ("PixelMeasuresSequence", "PlaneOrientationSequence", "PlanePositionSequence")
_CONTENT: Mapping[str, tuple[str, ...]] = {
    "CONTAINER": ("ContinuityOfContent",),
    "TEXT": ("ConceptNameCodeSequence", "TextValue"),
    "CODE": ("ConceptNameCodeSequence", "ConceptCodeSequence"),
    "NUM": ("ConceptNameCodeSequence",),
    "UIDREF": ("ConceptNameCodeSequence", "UID"),
    "PNAME": ("ConceptNameCodeSequence", "PersonName"),
    "DATE": ("ConceptNameCodeSequence", "Date"),
    "TIME": ("ConceptNameCodeSequence", "Time"),
    "DATETIME": ("ConceptNameCodeSequence", "DateTime"),
    "COMPOSITE": ("ReferencedSOPSequence",),
    "IMAGE": ("ReferencedSOPSequence",),
    "WAVEFORM": ("ReferencedSOPSequence",),
    "SCOORD": ("GraphicData", "GraphicType"),
    "SCOORD3D": ("GraphicData", "GraphicType", "ReferencedFrameOfReferenceUID"),
    "TCOORD": ("TemporalRangeType",),
}
"""Type 1 attributes of each value type (PS3.3 C.17.3.2, C.18)."""


def is_filled(dataset: Dataset, keyword: str) -> bool:
    """Tell whether an attribute is there and has a value, or an item."""
    if keyword not in dataset:
        return False
    element = dataset[keyword]
    return len(element.value) > 0 if element.VR == "SQ" else not element.is_empty


def missing_attributes(dataset: Dataset, source: Dataset, promised: Iterable[str]) -> Iterator[Fault]:
    """Yield the attributes of type 1 that are absent or empty, and those of type 2 that are absent.

    What items of patient and study lack in the source as well is passed over.

    Parameters
    ----------
    promised
        Keywords that the node's objects always fill, whatever their type.
    """
    skipped = inherited(dataset, source)
    for keyword in promised:
        if not is_filled(dataset, keyword):
            yield Fault(keyword, "is absent or empty, and always promised")
    for module in _mandatory_modules(str(dataset.SOPClassUID)):
        faults = _lacking(dataset, construct_tree(module), "", module)
        yield from (fault for fault in faults if "/" not in fault.path or not is_below(fault.path, skipped))
    if "SharedFunctionalGroupsSequence" in dataset:
        yield from _unplaced_frames(dataset)
    if "ContentSequence" in dataset:
        yield from _broken_content(dataset, "")


@cache
def _mandatory_modules(sop_class_uid: str) -> tuple[str, ...]:
    modules = get_iod_module_map()[get_sop_class_iod_map()[sop_class_uid]]
    return tuple(module["key"] for module in modules if module["usage"] == "M" and module["key"] != _CONTENT_MODULE)


@cache
def construct_tree(module: str) -> Mapping[str, Any]:
    """Return a module's attributes: ``{keyword: {"type": ..., "attributes": {...}}}``."""
    tree: Mapping[str, Any] = construct_module_tree(module)["attributes"]
    return tree


def _lacking(dataset: Dataset, attributes: Mapping[str, Any], path: str, module: str) -> Iterator[Fault]:
    for keyword, attribute in attributes.items():
        if _counts(path, keyword):
            kind = attribute["type"].value
            if kind == "1" and not is_filled(dataset, keyword):
                yield Fault(f"{path}{keyword}", f"is absent or empty, but of type 1 ({module})")
            if kind == "2" and keyword not in dataset:
                yield Fault(f"{path}{keyword}", f"is absent, but of type 2 ({module})")
        if "attributes" in attribute and keyword in dataset and dataset[keyword].VR == "SQ":
            for number, item in enumerate(dataset[keyword].value, 1):
                yield from _lacking(item, attribute["attributes"], f"{path}{keyword}[{number}]/", module)


def _counts(path: str, keyword: str) -> bool:
    """Tell whether a table's type can be taken at its word.

    Macros stand in a table below the shared and below the per-frame groups, each frame needs them in one of these.
    """
    in_group = path.startswith(_GROUPS) and path.count("/") == 1
    return not in_group and not (path.endswith("PlanePositionSlideSequence") or keyword == "PlanePositionSlideSequence")


def _unplaced_frames(dataset: Dataset) -> Iterator[Fault]:
    """Yield the macros that some frame has neither for itself nor shared (PS3.3 A.51.5)."""
    segmented = "SegmentSequence" in dataset and dataset.get("SegmentationType") != "LABELMAP"
    needed = (*_PLACED, "SegmentIdentificationSequence") if segmented else _PLACED
    for keyword in needed:
        if any(is_filled(item, keyword) for item in dataset.SharedFunctionalGroupsSequence):
            continue
        for number, frame in enumerate(dataset.get("PerFrameFunctionalGroupsSequence") or (), 1):
            if not is_filled(frame, keyword):
                yield Fault(f"PerFrameFunctionalGroupsSequence[{number}]/{keyword}", "is absent, and not shared either")
                break


def _broken_content(item: Dataset, path: str) -> Iterator[Fault]:
    value_type = str(item.get("ValueType", ""))
    if value_type not in _CONTENT:
        yield Fault(f"{path}ValueType", "is none of PS3.3 C.17.3.2")
    for keyword in _CONTENT.get(value_type, ()):
        if not is_filled(item, keyword):
            yield Fault(f"{path}{keyword}", f"is absent or empty in a content item of type {value_type}")
    if value_type == "NUM" and "MeasuredValueSequence" not in item:
        yield Fault(f"{path}MeasuredValueSequence", "is absent in a content item of type NUM")
    for number, child in enumerate(item.get("ContentSequence") or (), 1):
        below = f"{path}ContentSequence[{number}]/"
        if not is_filled(child, "RelationshipType"):
            yield Fault(f"{below}RelationshipType", "is absent or empty")
        if "ReferencedContentItemIdentifier" not in child:  # by reference: it says nothing else
            yield from _broken_content(child, below)
