"""What is in the objects that the node creates (PS3.2 Annex N: created instances; PS3.3 A.51, A.35.13)."""

from fewshot_node.dicom.objects import presentation_states, provenance, seg
from fewshot_node.dicom.objects.conformance import (
    ALWAYS_REQUIRED,
    COMPREHENSIVE_3D_SR,
    PRESENTATION_STATE,
    SECONDARY_CAPTURE,
    SEGMENTATION,
    STRUCTURE_SET,
)
from fewshot_node.dicom.statement import report
from fewshot_node.dicom.statement.attributes import always_present, attribute_table
from fewshot_node.dicom.statement.markdown import table, uid_name

CHARACTER_SETS = f"""Received data sets keep the Specific Character Set (0008,0005) that they came with; nothing is
converted. Results take over that of their source; when the texts that they add are not ASCII it is {provenance.UTF_8}.
Queries are in the default repertoire, or in ISO_IR 192 when a key is not ASCII."""


def sections() -> tuple[str, ...]:
    """Return the paragraphs of the section."""
    return (
        "All are new instances in new series of the source's study. Patient and study attributes are the source's. "
        "UIDs are made from the content (`2.25`, PS3.5 B.2): the same input gives the same objects, and a changed one "
        "other UIDs. Dates are the latest of the source, not those of the processing. Each object is checked before it "
        "is sent: attributes of type 1 and 2 of its mandatory modules, value representations and multiplicities, "
        "patient and study, no other identifier, references and evidence, codes, that each frame and point lies in the "
        "source's volume, and, where it is installed, by dciodvfy. An object that fails is not sent, and its series is "
        "noted as failed.",
        "Always present in each:",
        attribute_table(ALWAYS_REQUIRED),
        table(
            ("Attribute", "Value"),
            [
                ("Manufacturer, Manufacturer's Model Name", f"{provenance.MANUFACTURER}, {provenance.MODEL_NAME}"),
                ("Software Versions, Device Serial Number", "the algorithm's version and a UID of the algorithm"),
                ("Series Description", "`AI`, the task, its revision, and the kind of object"),
                (
                    "Series Number, Instance Number",
                    "eight digits: three for the task (100 to 999, from its name), four for the Series Number of the "
                    f"source, one for the kind of object ({_kinds()}); instances are numbered from 1, "
                    "and only a series of secondary captures has several",
                ),
                (
                    "Contributing Equipment Sequence",
                    "the model, with its version, its parameters, and a Device UID that changes whenever the task is "
                    "fitted again or the weights are others",
                ),
            ],
        ),
        f"### 8.1 {uid_name(SEGMENTATION)}",
        *_segmentation(),
        f"### 8.2 {uid_name(COMPREHENSIVE_3D_SR)}",
        *report.paragraphs(),
        f"### 8.3 {uid_name(STRUCTURE_SET)}",
        *_structure_set(),
        f"### 8.4 {uid_name(SECONDARY_CAPTURE)}",
        *_capture(),
        f"### 8.5 {uid_name(PRESENTATION_STATE)}",
        *_presentation_state(),
    )


def _segmentation() -> tuple[str, ...]:
    return (
        *always_present(SEGMENTATION, "Segmentation IOD (PS3.3 A.51)."),
        table(
            ("Attribute", "Rule"),
            [
                (
                    "Segmentation Type",
                    "BINARY; 1 bit, native. By task also FRACTIONAL (PROBABILITY, 8 bits, maximum 255), or LABELMAP "
                    "(8 bits, 0 is background) as SOP class 1.2.840.10008.5.1.4.1.1.66.7, Label Map Segmentation IOD "
                    "(PS3.3 A.90), with the same attributes",
                ),
                ("Content Label", seg.CONTENT_LABEL),
                (
                    "Segment Sequence",
                    "one for each label of the task, numbered in the order of label values; labels that were "
                    "not found have a segment without frames",
                ),
                (
                    "Segment Algorithm Type",
                    "AUTOMATIC, with the Segmentation Algorithm Identification Sequence (CID 7162 Artificial "
                    "Intelligence)",
                ),
                (
                    "Segmented Property Category and Type, Anatomic Region",
                    "the codes of the task, by default looked up in SNOMED CT; a side (CID 244) is a modifier of the "
                    "type, of a lesion's region",
                ),
                ("Tracking ID, Tracking UID", "the same as in the report"),
                (
                    "Frames",
                    "those with a pixel of the segment, on the planes of the source, by task also the empty ones; "
                    "when nothing was found one empty frame for each segment at the middle slice",
                ),
                ("Derivation Image Sequence", "for each frame the source image that it was made from"),
                ("Frame of Reference UID", "the source's; derived from the source where that has none"),
            ],
        ),
    )


def _structure_set() -> tuple[str, ...]:
    return (
        *always_present(STRUCTURE_SET, "RT Structure Set IOD (PS3.3 A.19); only where a task asks for it."),
        table(
            ("Attribute", "Rule"),
            [
                ("ROI Number, ROI Name, ROI Display Color", "those of the segments; labels not found have no contour"),
                ("ROI Generation Algorithm, Approval Status", "AUTOMATIC, UNAPPROVED"),
                (
                    "RT ROI Identification Code Sequence",
                    "the code of the label; RT ROI Interpreted Type ORGAN for anatomy",
                ),
                (
                    "Contour Sequence",
                    "CLOSED_PLANAR along the edges of the mask's pixels in the plane of the image that is named, in "
                    "0.001 mm; contours of one ROI do not overlap, and a region with a hole is two contours. POINT for "
                    "a landmark",
                ),
            ],
        ),
    )


def _capture() -> tuple[str, ...]:
    return (
        *always_present(
            SECONDARY_CAPTURE,
            "Secondary Capture Image IOD (PS3.3 A.8.1); only where a task asks for it: one for each slice with a "
            "finding.",
        ),
        table(
            ("Attribute", "Rule"),
            [
                (
                    "Pixel Data",
                    "RGB, 8 bits, native: the slice enlarged by a whole number, findings drawn in, a legend",
                ),
                (
                    "Burned In Annotation",
                    "NO, unless a source says YES: task and labels are drawn, nothing of the patient",
                ),
                ("Recognizable Visual Features", "NO where all sources say so, else YES"),
                (
                    "Image Position and Orientation, Pixel Spacing",
                    "of the slice, where the source states a Frame of Reference",
                ),
                ("Source Image Sequence", "the image that is shown"),
            ],
        ),
    )


def _presentation_state() -> tuple[str, ...]:
    return (
        *always_present(
            PRESENTATION_STATE,
            "Grayscale Softcopy Presentation State IOD (PS3.3 A.33.1); only where a task asks for it, and something "
            "was found.",
        ),
        table(
            ("Attribute", "Rule"),
            [
                ("Instances", "one, or one for each modality transformation where slices are stored differently"),
                ("Content Label", presentation_states.CONTENT_LABEL),
                ("Referenced Series Sequence", "the images, or the frames of one, on which something was found"),
                (
                    "Graphic Annotation Sequence",
                    "POLYLINE along the edges of the mask's pixels; POINT with the label's name for a landmark; in "
                    "PIXEL, with the Tracking ID and UID of the report",
                ),
                ("Graphic Layer Sequence", "one for each label that was found, in the colour of its segment"),
                ("Modality LUT, Softcopy VOI LUT", "those of the source; without a window one of the volume's values"),
                ("Presentation LUT Shape", "IDENTITY; INVERSE where the source is MONOCHROME1"),
            ],
        ),
    )


def _kinds() -> str:
    return ", ".join(f"{kind.value} {kind.name.replace('_', ' ').lower()}" for kind in provenance.ResultKind)
