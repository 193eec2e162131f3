"""An object identifies the patient by what its source says, where its source says it, and nowhere else."""

import re
from collections.abc import Iterator, Sequence

from pydicom.dataset import Dataset
from pydicom.valuerep import PersonName

from fewshot_node.dicom.objects.checks.faults import Fault, elements, inherited, is_below, patient_and_study_keywords
from fewshot_node.records import Result

_ALWAYS_COMPARED = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "AccessionNumber",
)
_IDENTIFYING = (
    "AccessionNumber",
    "MilitaryRank",
    "OtherPatientIDs",
    "OtherPatientNames",
    "PatientAddress",
    "PatientBirthDate",
    "PatientBirthName",
    "PatientID",
    "PatientMotherBirthName",
    "PatientName",
    "PatientTelephoneNumbers",
    "ReferringPhysicianName",
    "RegionOfResidence",
    "StudyID",
)
_PATIENT_GROUP = 0x0010
_FREE_TEXT = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
_SHORTEST = 4
"""Letters of a value that is looked for inside other texts; shorter ones have to be the whole text, as has a single
word: a patient may be called Model or Volume."""


def foreign_identity(dataset: Dataset, source: Dataset) -> Iterator[Fault]:
    """Yield the attributes of patient and study that say something else than the source's."""
    of_patient = {element.keyword for element in dataset if element.tag.group == _PATIENT_GROUP}
    stated = {keyword for keyword in of_patient | patient_and_study_keywords() if dataset.get(keyword)}
    for keyword in sorted({*_ALWAYS_COMPARED, *stated}):
        if (dataset.get(keyword) or "") != (source.get(keyword) or ""):
            yield Fault(keyword, "is not that of the source")


def leaked_identifiers(dataset: Dataset, source: Dataset, result: Result) -> Iterator[Fault]:
    """Yield the texts that repeat a value by which the source names the patient, where the source does not.

    A word of the task's own, as a label that is called like the patient, is none.
    """
    skipped, wanted, own = inherited(dataset, source), _identifying_values(source), _own_texts(result)
    for path, element in elements(dataset):
        if element.VR not in _FREE_TEXT or element.is_empty or is_below(path, skipped):
            continue
        text = _folded(" ".join(map(str, element.value)) if element.VM > 1 else str(element.value))
        coded = element.keyword == "CodeMeaning"  # a word of a dictionary, whoever is called like it
        if any(_repeats(text, value, own) for value in wanted if not (coded and value.isalpha())):
            yield Fault(path, "repeats a value that identifies the patient")


def hidden_features(dataset: Dataset, sources: Sequence[Dataset]) -> Iterator[Fault]:
    """Yield what a picture denies to show although a source of it says that it does (PS3.3 C.7.6.1)."""
    for keyword in ("BurnedInAnnotation", "RecognizableVisualFeatures"):
        if dataset.get(keyword) == "NO" and any(source.get(keyword) == "YES" for source in sources):
            yield Fault(keyword, "is NO, and YES in a source")


def _identifying_values(source: Dataset) -> frozenset[str]:
    values = (source[keyword] for keyword in _IDENTIFYING if keyword in source and not source[keyword].is_empty)
    texts = {text for element in values for text in _forms(element.value)}
    return frozenset(filter(None, map(_folded, texts)))


def _forms(value: object) -> Iterator[str]:
    """Give a value as people write it; of a name both orders."""
    if isinstance(value, PersonName):
        yield f"{value.family_name} {value.given_name}"
        yield f"{value.given_name} {value.family_name}"
    elif isinstance(value, str):
        yield value
    elif value is not None and not hasattr(value, "__iter__"):
        yield str(value)
    else:
        for one in value if hasattr(value, "__iter__") else ():
            yield from _forms(one)


def _own_texts(result: Result) -> tuple[str, ...]:
    labels = [finding.label for finding in result.findings]
    codes = [code for label in labels for code in (label.category, label.type, label.anatomic_region) if code]
    texts = [result.task_name, *(label.name for label in labels), *(code.meaning for code in codes)]
    return tuple(sorted({_folded(text) for text in texts} - {""}, key=len, reverse=True))


def _repeats(text: str, value: str, own: tuple[str, ...]) -> bool:
    if value not in text:
        return False
    for mine in own:
        text = text.replace(mine, " ")
    if len(value) < _SHORTEST or value.isalpha():
        return text.strip() == value
    return re.search(rf"(?<!\w){re.escape(value)}(?!\w)", text) is not None


def _folded(text: str) -> str:
    """Return a text without case, carets, commas and needless blanks."""
    return " ".join(re.sub(r"[\^,=]", " ", text.casefold()).split())
