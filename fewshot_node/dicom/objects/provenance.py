"""What every result object says about where it comes from: patient, study, dates, equipment.

Patient and study attributes are copied, unchanged, from the sources' headers once an object is made.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from datetime import date, datetime, time
from enum import IntEnum
from typing import Any

import highdicom as hd
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code as CodedValue
from pydicom.uid import UID
from pydicom.valuerep import DA, DT, TM

from fewshot_node.dicom.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from fewshot_node.dicom.objects.encoding import encode_frame_groups
from fewshot_node.dicom.objects.values import number
from fewshot_node.errors import SeriesError
from fewshot_node.records import AlgorithmIdentity, Code, Result
from fewshot_node.uids import ResultUids, digest_parts

MANUFACTURER = "fewshot-node"
MODEL_NAME = "fewshot-node"

_DATE_TIME_PAIRS = ("Acquisition", "Content", "Series", "Study")
_NO_DATE = datetime(1900, 1, 1)  # noqa: DTZ001  DICOM dates state no zone
UTF_8 = "ISO_IR 192"
_LONGEST_LO = 64
_FIRST_TASK, _TASKS, _SOURCES, _KINDS = 100, 900, 10_000, 10
_PIXEL_DATA = 0x7FE00010


class ResultKind(IntEnum):
    """The kinds of result objects; the value is the last digit of their Series Number."""

    SEGMENTATION = 1
    REPORT = 2
    SECONDARY_CAPTURE = 3
    STRUCTURE_SET = 4
    PRESENTATION_STATE = 5


UNNAMED = "2.25.0"
"""SOP Instance UID of an object that is not finished yet."""


def coded(code: Code) -> CodedValue:
    """Return a record's code as pydicom and highdicom know it."""
    return CodedValue(code.value, code.scheme, code.meaning)


def long_string(text: str) -> str:
    """Make `text` fit the value representation LO: no backslash, at most 64 characters (PS3.5 6.2)."""
    printable = "".join(letter if letter.isprintable() and letter != "\\" else "/" for letter in text)
    return printable[:_LONGEST_LO].strip()


def describe(result: Result, what: str) -> str:
    """Return the series description: that it is by AI, which task and which revision."""
    ending = f" rev {result.task_revision} {what}"
    return long_string(f"AI {result.task_name}"[: _LONGEST_LO - len(ending)] + ending)


def tracking_identifier(result: Result, label_name: str) -> str:
    """Return the Tracking Identifier that segment and measurement group share."""
    return f"{result.task_name} {label_name}"


def series_number(source: Dataset, task_name: str, kind: ResultKind) -> int:
    """Return a series number of eight digits, far above the scanner's own: three, four and one of them.

    The first three stand for the task (100 to 999), the next four for the source's Series Number, the last
    for the kind of object: results of two tasks, of two series or of two kinds do not share a number by rule,
    and those of one task and series lie side by side in a list. It is only a label (PS3.3 C.7.3.1): two task
    names may fall on one number, and an unreadable number of the source counts as none.
    """
    try:
        stated = number(source, "SeriesNumber", 0, str(source.SOPInstanceUID))
    except SeriesError:
        stated = 0
    task = _FIRST_TASK + int(digest_parts((task_name.encode(),)), 16) % _TASKS
    return (task * _SOURCES + abs(int(stated)) % _SOURCES) * _KINDS + kind


def result_datetime(sources: Sequence[Dataset]) -> datetime:
    """Return the date and time that a result carries: the latest that its sources state.

    Not the clock's: the same input processed again must give the same bytes, since it has the same UIDs.
    Acquisition, content, series and study date are looked at; 1900-01-01 stands for none.
    """
    moments = [moment for source in sources for moment in _moments(source)]
    return max(moments, default=_NO_DATE)


def _moments(source: Dataset) -> list[datetime]:
    found = []
    for prefix in _DATE_TIME_PAIRS:
        moment = _combined(source.get(f"{prefix}Date"), source.get(f"{prefix}Time"))
        if moment is not None:
            found.append(moment)
    try:
        acquired = DT(str(source.get("AcquisitionDateTime") or ""))
    except ValueError:
        return found
    return found if acquired is None else [*found, acquired.replace(tzinfo=None)]


def _combined(day: object, moment: object) -> datetime | None:
    try:
        parsed: date | None = DA(str(day or ""))
        clock: time | None = TM(str(moment or ""))
    except ValueError:
        return None
    if parsed is None:
        return None
    return datetime.combine(date(parsed.year, parsed.month, parsed.day), _plain(clock))


def _plain(clock: time | None) -> time:
    return time() if clock is None else time(clock.hour, clock.minute, clock.second, clock.microsecond)


def equipment(algorithm: AlgorithmIdentity, uids: ResultUids) -> hd.ContributingEquipment:
    """Return the model's identity for the Contributing Equipment Sequence.

    IHE RAD AI Results (AIR) 6.5.3.1 asks for manufacturer, model name, software versions and a Device UID
    that changes with the model. Its purpose code "Processing Algorithm" has only a provisional value there
    (99IHE), so the one of CID 7005 that says the same is used: Processing Equipment.
    """
    model = hd.ContributingEquipment(
        manufacturer=MANUFACTURER,
        purpose_of_reference=codes.DCM.ProcessingEquipment,
        manufacturer_model_name=long_string(algorithm.name),
        software_versions=long_string(algorithm.version),
        contribution_description=f"Model: {'; '.join(algorithm.parameters)}"[:1024],
    )
    model.DeviceUID = uids.model()
    return model


@contextmanager
def known_image_class(source: Dataset) -> Iterator[None]:
    """Turn highdicom's `KeyError` for an image class outside its tables into an error that names it."""
    try:
        yield
    except KeyError as error:
        message = (
            f"instance {source.SOPInstanceUID}: images of SOP class {source.SOPClassUID} cannot be "
            "referred to by a result: exclude them with a rule on sop_class"
        )
        raise SeriesError(message) from error


def series_attributes(result: Result, uids: ResultUids) -> dict[str, Any]:
    """Return what every result says of its making, as arguments of highdicom's constructors."""
    return {
        "instance_number": 1,
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": MODEL_NAME,
        "software_versions": long_string(result.algorithm.version),
        "device_serial_number": uids.device_observer(),
        "contributing_equipment": [equipment(result.algorithm, uids)],
    }


def complete(dataset: hd.SOPClass, sources: Sequence[Dataset], result: Result) -> None:
    """Give a result its patient, its study and its dates; leave nothing to the clock or to chance."""
    source, moment = sources[0], result_datetime(sources)
    dataset.copy_patient_and_study_information(deepcopy(source))  # it shares elements
    dataset.StudyInstanceUID = source.StudyInstanceUID
    if not all(text.isascii() for text in _texts(result)):
        dataset.SpecificCharacterSet = UTF_8
    elif source.get("SpecificCharacterSet"):
        dataset.SpecificCharacterSet = source.SpecificCharacterSet
    for keyword in ("InstanceCreationDate", "InstanceCreationTime"):
        del dataset[keyword]
    dataset.SeriesDate = dataset.ContentDate = DA(moment.date())
    dataset.SeriesTime = dataset.ContentTime = TM(moment.time())
    for item in dataset.ContributingEquipmentSequence:
        item.pop("ContributionDateTime", None)
    dataset.file_meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    dataset.file_meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME


def name_by_content(dataset: Dataset, derive: Callable[[str], str]) -> None:
    """Give a finished object the SOP Instance UID that belongs to everything it says.

    Patient, study, dates and references come from the sources' headers, which a site may correct while
    pixels and UIDs stay; a PACS that keeps the object with the old ones must not take it for this one.
    So the encoded object itself is digested.

    Parameters
    ----------
    derive
        Method of `ResultUids` that makes the UID from a digest.
    """
    dataset.SOPInstanceUID = UNNAMED
    encoded = DicomBytesIO()
    encoded.is_little_endian, encoded.is_implicit_VR = True, False
    header = dataset[:_PIXEL_DATA]
    header.pop("PerFrameFunctionalGroupsSequence", None)
    write_dataset(encoded, header)
    parts = (encoded.getvalue(), encode_frame_groups(dataset), dataset.get("PixelData", b""))
    uid = UID(derive(digest_parts(parts)))
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid


def _texts(result: Result) -> Iterator[str]:
    """Everything that a result adds as text, and that the character set must be able to hold."""
    yield from (result.task_name, result.algorithm.name, result.algorithm.version)
    yield from result.algorithm.parameters
    for finding in result.findings:
        label = finding.label
        yield label.name
        codes_used = (label.category, label.type, label.anatomic_region)
        yield from (code.meaning for code in codes_used if code is not None)
