"""Which attributes a routing rule may look at, and what a series says for them."""

import difflib
from collections.abc import Callable
from functools import lru_cache

from pydicom.datadict import dictionary_VR, keyword_dict, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID

from fewshot_node.dicom.objects.headers import SeriesHeader
from fewshot_node.errors import RuleError

CALLING_AE_TITLE = "calling_ae_title"
_PSEUDO: dict[str, Callable[[SeriesHeader], tuple[str, ...]]] = {
    "orientation": lambda header: () if header.orientation is None else (header.orientation,),
    "number_of_slices": lambda header: (str(header.number_of_slices),),
    "sop_class": lambda header: _sop_class_names(header.sop_class_uid),
}
PSEUDO_ATTRIBUTES = (*_PSEUDO, CALLING_AE_TITLE)

_NUMERIC_VRS = frozenset({"DS", "IS", "US", "SS", "UL", "SL", "FD", "FL", "UV", "SV", "US or SS"})
_BULK_VRS = frozenset({"OB", "OW", "OF", "OD", "OL", "OV", "UN", "OB or OW", "US or OW", "US or SS or OW"})
_HARMLESS_ABOUT_PATIENT = frozenset(
    {
        "PatientAge",
        "PatientOrientation",
        "PatientPosition",
        "PatientSex",
        "PatientSize",
        "PatientSpeciesDescription",
        "PatientWeight",
    }
)
# Direct identifiers whose keyword does not begin with "Patient" (PS3.15 Table E.1-1).
_IDENTIFYING = frozenset(
    {
        "AccessionNumber",
        "AdditionalPatientHistory",
        "AdmissionID",
        "BranchOfService",
        "CountryOfResidence",
        "EthnicGroup",
        "InsurancePlanIdentification",
        "IssuerOfPatientID",
        "MedicalRecordLocator",
        "MilitaryRank",
        "Occupation",
        "RegionOfResidence",
        "StudyID",
    }
)
_IDENTIFYING_PREFIXES = ("Patient", "OtherPatient", "IssuerOfPatient", "IssuerOfAccessionNumber")


def check_attribute(attribute: str) -> None:
    """Refuse an attribute that no rule can or may look at.

    Raises
    ------
    RuleError
        A keyword that PS3.6 does not know (the nearest ones are proposed), a patient's identity, file
        meta information, or bulk data.
    """
    if attribute in PSEUDO_ATTRIBUTES:
        return
    tag = tag_for_keyword(attribute)
    if tag is None:
        raise RuleError(f"no DICOM attribute is called {attribute!r}: {_proposal(attribute)}")
    if tag >> 16 <= 2:
        remedy = f"to route by the sender use {CALLING_AE_TITLE}"
        raise RuleError(f"{attribute} belongs to the transfer, not to the series, and cannot route it: {remedy}")
    vr = dictionary_VR(tag)
    identifies = attribute.startswith(_IDENTIFYING_PREFIXES) and attribute not in _HARMLESS_ABOUT_PATIENT
    if vr == "PN" or identifies or attribute in _IDENTIFYING:
        raise RuleError(
            f"{attribute} identifies a person, and verdicts are shown: it cannot route a series. "
            "Route by what was scanned, for example Modality or BodyPartExamined"
        )
    if vr in _BULK_VRS:
        raise RuleError(f"{attribute} holds bulk data ({vr}) and cannot route a series: choose another attribute")


def is_numeric(attribute: str) -> bool:
    """Whether the attribute's values are numbers (PS3.5 6.2)."""
    return attribute == "number_of_slices" or _vr(attribute) in _NUMERIC_VRS


def is_sequence(attribute: str) -> bool:
    """Whether the attribute is a sequence, of which only the presence can be asked."""
    return _vr(attribute) == "SQ"


class SeriesFacts:
    """What one series says, asked for by attribute; each attribute is read from the header once.

    Parameters
    ----------
    calling_ae_title
        The sender's AE title; None when the series did not come over the network.
    """

    def __init__(self, header: SeriesHeader, calling_ae_title: str | None = None) -> None:
        self._header = header
        self._known: dict[str, tuple[str, ...]] = {
            CALLING_AE_TITLE: (calling_ae_title.strip(),) if calling_ae_title else ()
        }

    def seen(self, attribute: str) -> tuple[str, ...]:
        """Return the values of an attribute; nothing when it is absent or empty."""
        values = self._known.get(attribute)
        if values is None:
            pseudo = _PSEUDO.get(attribute)
            values = _dataset_values(attribute, self._header.dataset) if pseudo is None else pseudo(self._header)
            self._known[attribute] = values
        return values


@lru_cache(maxsize=8192)
def _vr(attribute: str) -> str:
    return "" if attribute in PSEUDO_ATTRIBUTES else dictionary_VR(attribute)


def _dataset_values(attribute: str, dataset: Dataset) -> tuple[str, ...]:
    value = dataset.get(attribute)
    if value is None:
        return ()
    if isinstance(value, DicomSequence):
        return (f"{len(value)} items",) if len(value) else ()
    many = value if isinstance(value, MultiValue | list | tuple) else (value,)
    return tuple(text for text in (str(one).strip() for one in many) if text)


def _sop_class_names(sop_class_uid: str) -> tuple[str, ...]:
    uid = UID(sop_class_uid)
    return tuple(dict.fromkeys((str(uid), uid.name, uid.keyword)))


def _proposal(attribute: str) -> str:
    known = {keyword.lower(): keyword for keyword in (*keyword_dict, *PSEUDO_ATTRIBUTES) if keyword}
    close = difflib.get_close_matches(attribute.lower(), known, n=3, cutoff=0.6)
    if close:
        return "did you mean " + " or ".join(known[keyword] for keyword in close) + "?"
    return "use a keyword of PS3.6, for example Modality, or one of " + ", ".join(PSEUDO_ATTRIBUTES)
