"""Values against their representation and number, as pydicom knows both (PS3.5 6.2, PS3.6)."""

from collections.abc import Iterator
from functools import cache

from pydicom import config
from pydicom.datadict import dictionary_VM, dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.valuerep import validate_value

from fewshot_node.dicom.objects.checks.faults import Fault, elements, inherited, is_below, own_uids

_TEXT = frozenset(
    {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"}
)
_BULK = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "UN"})


def invalid_values(dataset: Dataset, source: Dataset) -> Iterator[Fault]:
    """Yield the attributes that are not in the dictionary, or whose values break its representation or number.

    What says the same as the source is passed over: the patient and the study are the source's own, and so
    are the UIDs that it goes by.
    """
    skipped, repeated = inherited(dataset, source), own_uids(source)
    for path, element in elements(dataset):
        if is_below(path, skipped) or (element.VR == "UI" and str(element.value) in repeated):
            continue
        if element.tag.is_private or not element.keyword:
            yield Fault(path, "is no attribute of the standard")
            continue
        yield from (Fault(path, rule) for rule in _broken_rules(element))


def _broken_rules(element: DataElement) -> Iterator[str]:
    if element.VR not in dictionary_VR(element.tag):
        yield f"has the value representation {element.VR}, not {dictionary_VR(element.tag)}"
    if element.VR in _BULK or element.is_empty:
        return
    if not _is_allowed(element.VM, dictionary_VM(element.tag)):
        yield f"has {element.VM} values, not {dictionary_VM(element.tag)}"
    if not all(_is_valid(element.VR, value) for value in _values(element)):
        yield f"breaks its value representation {element.VR} (PS3.5 6.2)"


def _values(element: DataElement) -> tuple[object, ...]:
    return tuple(element.value) if isinstance(element.value, MultiValue | list) else (element.value,)


def _is_valid(representation: str, value: object) -> bool:
    try:
        validate_value(representation, str(value) if representation in _TEXT else value, config.RAISE)
    except ValueError:  # its message quotes the value
        return False
    return True


def _is_allowed(count: int, multiplicity: str) -> bool:
    least, step, unbounded = _multiplicity(multiplicity)
    if unbounded:
        return count >= least and count % step == 0
    return least <= count <= step


@cache
def _multiplicity(text: str) -> tuple[int, int, bool]:
    """Read ``3``, ``1-2``, ``1-n`` or ``2-2n`` as (least, greatest, False) or (least, step, True)."""
    least, _, most = text.partition("-")
    if most.endswith("n"):
        return int(least), int(most[:-1] or 1), True
    return int(least), int(most or least), False
