"""What a Segmentation says of each of its segments (PS3.3 C.8.20.2)."""

import highdicom as hd
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code as CodedValue

from fewshot_node.dicom.objects import provenance
from fewshot_node.dicom.objects.colours import display_colours
from fewshot_node.records import AlgorithmIdentity, Label, Result, StructureFinding
from fewshot_node.uids import ResultUids

_ABNORMAL = codes.cid7150.MorphologicallyAbnormalStructure


def segments(result: Result) -> tuple[StructureFinding, ...]:
    """Return findings in the order of their segments: by label value, numbered from 1."""
    return tuple(sorted(result.findings, key=lambda finding: finding.label.value))


def describe_segments(result: Result, uids: ResultUids) -> list[hd.seg.SegmentDescription]:
    """Describe every label of a task, found or not: "looked, not present" (IHE AI Results)."""
    labels = [finding.label for finding in segments(result)]
    return [
        _describe(number, label, colour, result, uids)
        for number, (label, colour) in enumerate(zip(labels, display_colours(labels), strict=True), 1)
    ]


def _describe(
    number: int, label: Label, colour: hd.color.CIELabColor, result: Result, uids: ResultUids
) -> hd.seg.SegmentDescription:
    region = label.anatomic_region
    description = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=provenance.long_string(label.name),
        segmented_property_category=provenance.coded(label.category),
        segmented_property_type=provenance.coded(label.type),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=_identify_algorithm(result.algorithm),
        tracking_uid=uids.tracking(label.name),
        tracking_id=provenance.tracking_identifier(result, label.name),
        anatomic_regions=None if region is None else [provenance.coded(region)],
        display_color=colour,
    )
    if label.laterality is not None:
        _add_side(description, label, provenance.coded(label.laterality))
    return description


def _add_side(description: Dataset, label: Label, side: CodedValue) -> None:
    """Add a side as a modifier, which highdicom has no argument for.

    It modifies the type; that of a lesion, whose type is no anatomy, modifies the region that it lies in.
    """
    modifier = hd.sr.CodedConcept.from_code(side)
    if label.anatomic_region is not None and provenance.coded(label.category) == _ABNORMAL:
        description.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = [modifier]
    else:
        description.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [modifier]


def _identify_algorithm(algorithm: AlgorithmIdentity) -> hd.AlgorithmIdentificationSequence:
    return hd.AlgorithmIdentificationSequence(
        name=provenance.long_string(algorithm.name),
        family=codes.cid7162.ArtificialIntelligence,
        version=provenance.long_string(algorithm.version),
        source=provenance.MANUFACTURER,
        parameters=dict(parameter.partition("=")[::2] for parameter in algorithm.parameters) or None,
    )
