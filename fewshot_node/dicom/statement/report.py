"""What is in the reports that the node creates (PS3.3 A.35.13, PS3.16 TID 1500)."""

from pydicom.sr.coding import Code

from fewshot_node.dicom.objects import predecessor, sr, sr_codes
from fewshot_node.dicom.objects.conformance import COMPREHENSIVE_3D_SR
from fewshot_node.dicom.objects.sr_codes import ABSENT, AREA, CERTAINTY, PRESENCE, PRESENT, VOLUME
from fewshot_node.dicom.statement.attributes import always_present
from fewshot_node.dicom.statement.markdown import table

_Rows = list[tuple[str, str]]

_AI_RESULTS = (
    "The report is the root of its result as IHE RAD AI Results (AIR) has it: it leads to every object of the "
    "result, and is there when nothing was found, with the procedure, the summary and each structure as absent. "
    "From AIR 6.5.3.1 (General Result Encoding) come series, description and Contributing Equipment, from its "
    "sections on Qualitative Findings, Measurements, Locations, Regions and Tracking Identifiers the SOP class, "
    "the templates and the tracking UIDs shared with the Segmentation, from Root Results the Qualitative "
    "Evaluations and the references to the other objects. Certainty is the method's own score of the presence, "
    "not a probability proven on patients."
)


def paragraphs() -> tuple[str, ...]:
    """Return the paragraphs on the report."""
    return (
        *always_present(
            COMPREHENSIVE_3D_SR,
            "Comprehensive 3D SR IOD (PS3.3 A.35.13), root template TID 1500 *Measurement Report* (PS3.16).",
        ),
        table(("Content", "Rule"), [*_document(), *_measurements(), *_references()]),
        _AI_RESULTS,
    )


def _document() -> _Rows:
    procedures = ", ".join(f"{modality}: {_text(code)}" for modality, code in sr.PROCEDURES.items())
    return [
        ("Completion, Verification, Preliminary Flag", "COMPLETE, UNVERIFIED, PRELIMINARY"),
        ("Observer", "a device (TID 1004); no person"),
        ("Procedure reported", f"by modality: {procedures}; else {_text(sr.OTHER_PROCEDURE)}"),
        (
            "Image Library (TID 1600)",
            "the source images in one group, which has modality, rows and columns, and the Frame of Reference where "
            "the source states it",
        ),
    ]


def _measurements() -> _Rows:
    return [
        (
            "Measurement groups",
            "one for each label: TID 1411 with the segment it refers to; TID 1410 with a point (SCOORD3D, or SCOORD "
            "on the nearest image where the source states no Frame of Reference), or with the frame of the segment "
            "where the series is a single slice; TID 1501 for what was not found",
        ),
        (
            "In each group",
            f"{_text(PRESENCE)}: {_text(PRESENT)} or {_text(ABSENT)}; {_text(CERTAINTY)} in percent, of the presence "
            "as stated; Finding Category and Finding; Finding Site with Laterality, where the label is anatomy or has "
            "a region; algorithm; Tracking Identifier and UID",
        ),
        ("In TID 1411 groups", f"{_text(VOLUME)} in cubic millimetres"),
        ("On a single slice", f"{_text(AREA)} in square millimetres instead"),
    ]


def _references() -> _Rows:
    summaries = " or ".join(_text(one) for one in (sr_codes.WITH_FINDINGS, sr_codes.WITHOUT_FINDINGS))
    purposes = ", ".join(dict.fromkeys(_text(purpose) for purpose, _ in sr.PURPOSES.values()))
    return [
        ("Qualitative Evaluations", f"{_text(sr_codes.SUMMARY)}: {summaries}"),
        (
            _text(sr_codes.RELATED_OBJECTS),
            f"a reference to each other object of the same result, its purpose as concept name: {purposes}",
        ),
        ("Current Requested Procedure Evidence", "the source images, and the other objects of the same result"),
        (
            "Predecessor Documents",
            f"with the purpose {_text(predecessor.PURPOSE)}, the last report of the same task on the same series that "
            "a destination has confirmed, when the series is processed again with other instances, another task "
            "revision or other weights; what is made again from the same input is the same again. Segmentations have "
            "no such reference: their IOD has none that says so",
        ),
    ]


def _text(code: Code) -> str:
    return f'({code.value}, {code.scheme_designator}, "{code.meaning}")'
