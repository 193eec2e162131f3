"""Codes that a reader can resolve: known to the dictionaries of the standard, or stated by the task itself."""

import re
from collections.abc import Iterable, Iterator
from functools import cache

from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from fewshot_node.dicom.objects.checks.faults import Fault, inherited, is_below, items
from fewshot_node.dicom.objects.sr_codes import PRESENCE
from fewshot_node.records import Code, Label

_VALUES = ("CodeValue", "LongCodeValue", "URNCodeValue")
_COMPLETE = frozenset({"SCT", "DCM", "UCUM"})
"""Schemes of which a code has to be in the dictionaries that pydicom ships; of others their name is enough."""
_OWN = frozenset({(PRESENCE.scheme_designator, PRESENCE.value)})
"""Concepts of PS3.16 in this node's reports that pydicom's dictionaries lack."""
_LANGUAGES = frozenset({"RFC5646", "RFC3066"})
_PRIVATE = "99"
_ANNOTATION = re.compile(r"\{[^{}]+\}")
"""A unit that is no more than a word, such as ``{pixels}``: UCUM allows any."""


def unresolved_codes(dataset: Dataset, source: Dataset, labels: Iterable[Label]) -> Iterator[Fault]:
    """Yield the codes that nobody can look up (PS3.3 8.8): scheme or code unknown, or no meaning."""
    stated = {(code.scheme, code.value) for label in labels for code in _codes(label)}
    skipped = inherited(dataset, source)
    for path, item in items(dataset):
        value = next((str(item[keyword].value) for keyword in _VALUES if keyword in item), None)
        if value is None or is_below(path, skipped):
            continue
        scheme = str(item.get("CodingSchemeDesignator") or "")
        if not item.get("CodeMeaning"):
            yield Fault(path, "is a code without a meaning")
        if (scheme, value) not in stated | _OWN and "URNCodeValue" not in item:
            yield from (Fault(path, rule) for rule in _unknown(scheme, value))


def _codes(label: Label) -> tuple[Code, ...]:
    region = () if label.anatomic_region is None else (label.anatomic_region,)
    return (label.category, label.type, *region)


def _unknown(scheme: str, value: str) -> Iterator[str]:
    if scheme in _LANGUAGES or (scheme == "UCUM" and _ANNOTATION.fullmatch(value)):
        return
    known = _dictionary(scheme)
    if known is None:
        yield "is a code of a scheme that is neither the standard's nor the task's"
    elif scheme in _COMPLETE and value not in known:
        yield f"is a code that neither the dictionary of {scheme} nor the task has"


@cache
def _dictionary(scheme: str) -> frozenset[str] | None:
    if scheme.startswith(_PRIVATE):
        return None
    try:
        concepts = getattr(codes, scheme).concepts
    except AttributeError:
        return None
    return frozenset(str(code.value) for code in concepts.values())
