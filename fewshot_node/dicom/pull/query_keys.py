"""The keys that a C-FIND in the study root model is asked by, as people type them (PS3.4 C.6.2.1).

``StudyDate=20260101-20260131`` is a range, ``StudyDescription=*abdomen*`` has wild cards. Keys that identify
a person are not taken: what is typed ends in shell histories and process lists.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydicom import config
from pydicom.datadict import dictionary_VR, keyword_dict, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from fewshot_node.dicom.identity import is_uid
from fewshot_node.errors import ConfigurationError

STUDY_KEYS = frozenset(
    {
        "StudyInstanceUID",
        "StudyDate",
        "StudyTime",
        "StudyDescription",
        "ModalitiesInStudy",
        "SOPClassesInStudy",
        "PatientSex",
        "PatientAge",
        "PatientSize",
        "PatientWeight",
        "AdmittingDiagnosesDescription",
        "InstanceAvailability",
    }
)
SERIES_KEYS = frozenset(
    {
        "SeriesInstanceUID",
        "Modality",
        "SeriesDate",
        "SeriesTime",
        "SeriesNumber",
        "SeriesDescription",
        "BodyPartExamined",
        "ProtocolName",
        "Laterality",
        "PatientPosition",
        "PerformedProcedureStepStartDate",
        "PerformedProcedureStepStartTime",
        "PerformedProcedureStepDescription",
        "Manufacturer",
        "ManufacturerModelName",
        "DeviceSerialNumber",
        "SoftwareVersions",
        "StationName",
        "InstitutionName",
        "InstitutionalDepartmentName",
        "FrameOfReferenceUID",
    }
)
_IDENTIFYING = re.compile(
    r"(Other|IssuerOf|ReferencedIssuerOf)?Patient|AccessionNumber|IssuerOfAccession|StudyID$|AdmissionID|MedicalRecord"
)
_DATE = r"\d{4}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])"
_TIME = r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?"
_RANGES = {vr: re.compile(rf"{value}(-({value})?)?|-{value}", re.ASCII) for vr, value in (("DA", _DATE), ("TM", _TIME))}
_FORMS = {"DA": "20260131, 20260101-20260131, 20260101- or -20260131", "TM": "0930, 093000-120000, 0930- or -1200"}
_LONGEST = 128


@dataclass(frozen=True, slots=True)
class QueryKeys:
    """Keyword -> value, by the level at which the PACS is asked."""

    study: Mapping[str, str] = field(default_factory=dict)
    series: Mapping[str, str] = field(default_factory=dict)

    @property
    def narrows_studies(self) -> bool:
        """Whether a key keeps any study out."""
        return any(value.strip("*\\ ") for value in self.study.values())


def parse_keys(texts: Sequence[str]) -> QueryKeys:
    """Read keys such as ``StudyDate=20260101-``.

    Raises
    ------
    ConfigurationError
        A keyword that PS3.6 does not know (the nearest are proposed), one that is no key of studies or series
        or that identifies a person, or a value that the key cannot have. Values are not quoted.
    """
    study: dict[str, str] = {}
    series: dict[str, str] = {}
    for text in texts:
        keyword, equals, value = (part.strip() for part in text.partition("="))
        if not equals:
            raise ConfigurationError("a key without '=': write for example StudyDate=20260101-20260131")
        _check_keyword(keyword)
        if keyword in study or keyword in series:
            raise ConfigurationError(f"{keyword} is given twice: give each key once")
        level = study if keyword in STUDY_KEYS else series
        level[keyword] = _checked_value(keyword, value)
    return QueryKeys(study, series)


def identifier(level: str, asked_for: Sequence[str], keys: Mapping[str, str]) -> Dataset:
    """Return the identifier of a C-FIND, C-MOVE or C-GET: `keys` to match, `asked_for` to be returned.

    Raises
    ------
    ConfigurationError
        A keyword is none of PS3.6; the nearest are proposed.
    """
    dataset = Dataset()
    dataset.QueryRetrieveLevel = level
    for keyword, value in (dict.fromkeys(asked_for, "") | dict(keys)).items():
        tag = tag_for_keyword(keyword)
        if tag is None:
            raise ConfigurationError(f"no DICOM attribute is called {keyword!r}: {_proposal(keyword)}")
        # unchecked: wild cards and ranges are no values of most VRs
        dataset.add(DataElement(tag, dictionary_VR(tag), value, validation_mode=config.IGNORE))
    if not all(value.isascii() for value in keys.values()):
        dataset.SpecificCharacterSet = "ISO_IR 192"
    return dataset


def _check_keyword(keyword: str) -> None:
    if keyword in STUDY_KEYS or keyword in SERIES_KEYS:
        return
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise ConfigurationError(f"no DICOM attribute is called {keyword!r}: {_proposal(keyword)}")
    if dictionary_VR(tag) == "PN" or _IDENTIFYING.match(keyword):
        raise ConfigurationError(
            f"{keyword} identifies a person, and what is typed here is kept by shells and logs: "
            "look up the study UIDs in the PACS, and give them by --study or --from-file"
        )
    known = ", ".join(sorted(STUDY_KEYS | SERIES_KEYS))
    raise ConfigurationError(f"{keyword} is no key of studies or series that can be asked by: use one of {known}")


def _checked_value(keyword: str, value: str) -> str:
    vr = dictionary_VR(keyword)
    if len(value) > _LONGEST or not value.isprintable():
        what = f"the value of {keyword} is longer than {_LONGEST} characters or not printable"
        raise ConfigurationError(f"{what}: write a part of it with *, for example *abdomen*")
    if not value.strip("*"):
        return value
    if vr in _RANGES and not _RANGES[vr].fullmatch(value):
        raise ConfigurationError(f"the value of {keyword} is no date or time of DICOM: write {_FORMS[vr]}")
    if vr == "UI" and not all(is_uid(uid) for uid in value.split("\\")):
        raise ConfigurationError(f"the value of {keyword} is no UID: digits and dots, 64 characters at most")
    if vr == "IS" and re.fullmatch(r"[+-]?\d{1,11}", value, re.ASCII) is None:
        raise ConfigurationError(f"the value of {keyword} is no whole number: write digits only")
    return value.upper() if vr == "CS" else value


def _proposal(keyword: str) -> str:
    """Name the nearest keywords, of those that can be asked by if any is near."""
    for keywords in (sorted(STUDY_KEYS | SERIES_KEYS), [known for known in keyword_dict if known]):
        by_lower = {known.lower(): known for known in keywords}
        close = difflib.get_close_matches(keyword.lower(), by_lower, n=3, cutoff=0.6)
        if close:
            return "did you mean " + " or ".join(by_lower[name] for name in close) + "?"
    return "use a keyword of PS3.6, for example StudyDate or Modality"
