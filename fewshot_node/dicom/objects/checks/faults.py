"""A broken rule, where it was broken, and the walk over an object's attributes that finds it."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from highdicom._standard_utils import (
    construct_module_tree,
)  # the standard's tables; highdicom has no public door to them
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

_COPIED_MODULES = (
    "patient",
    "general-study",
    "patient-study",
    "clinical-trial-subject",
    "clinical-trial-study",
)
_COPIED_BESIDES = ("SpecificCharacterSet", "FrameOfReferenceUID", "PositionReferenceIndicator")
_OWN_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")


@dataclass(frozen=True, slots=True)
class Fault:
    """One broken rule; neither text ever quotes a value of the object.

    Attributes
    ----------
    path
        Keywords from the object down to the attribute, items counted from 1: ``SegmentSequence[2]/SegmentLabel``.
    rule
        What the attribute breaks.
    """

    path: str
    rule: str

    def __str__(self) -> str:
        return f"{self.path} {self.rule}"


@cache
def patient_and_study_keywords() -> frozenset[str]:
    """Return the attributes of patient and study, which every object of a study has alike (PS3.3 C.7.1, C.7.2)."""
    return frozenset(keyword for module in _COPIED_MODULES for keyword in construct_module_tree(module)["attributes"])


def inherited(dataset: Dataset, source: Dataset) -> frozenset[str]:
    """Return the keywords at an object's own level that say what its source says, or lack what it lacks.

    Faults there are the source's: an object takes patient and study over as they are.
    """
    candidates = (*patient_and_study_keywords(), *_COPIED_BESIDES)
    return frozenset(keyword for keyword in candidates if dataset.get(keyword) == source.get(keyword))


def own_uids(source: Dataset) -> frozenset[str]:
    """Return the UIDs that a source goes by; an object repeats them as they are, well-formed or not."""
    return frozenset(str(source.get(keyword) or "") for keyword in _OWN_UIDS)


def elements(dataset: Dataset, path: str = "") -> Iterator[tuple[str, DataElement]]:
    """Give every attribute with its path, sequences before what is in them."""
    for element in dataset:
        here = f"{path}{element.keyword or element.tag}"
        yield here, element
        if element.VR == "SQ":
            for number, item in enumerate(element.value, 1):
                yield from elements(item, f"{here}[{number}]/")


def items(dataset: Dataset, path: str = "") -> Iterator[tuple[str, Dataset]]:
    """Give every sequence item with its path, outer ones before inner ones."""
    for element in dataset:
        if element.VR == "SQ":
            for number, item in enumerate(element.value, 1):
                here = f"{path}{element.keyword or element.tag}[{number}]"
                yield here, item
                yield from items(item, f"{here}/")


def is_below(path: str, keywords: frozenset[str]) -> bool:
    """Tell whether a path begins at one of an object's own attributes."""
    return path.partition("/")[0].partition("[")[0] in keywords
