"""The coded concepts that reports are written with, and read by."""

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

PRESENCE = Code("705057003", "SCT", "Presence")
PRESENT = codes.cid240.Present
ABSENT = codes.cid240.Absent
CERTAINTY = codes.DCM.CertaintyOfFinding
VOLUME = codes.SCT.Volume
AREA = codes.SCT.Area
ANATOMY = frozenset({codes.SCT.AnatomicalStructure.value, "123037004"})
"""Code values of the category of anatomy: that of CID 7150, and the one that editions before 2020 had."""

QUALITATIVE_EVALUATIONS = Code("C0034375", "UMLS", "Qualitative Evaluations")
"""Container of what is said of the whole study (TID 1500)."""
SUMMARY = codes.DCM.CADProcessingAndFindingsSummary
WITH_FINDINGS = codes.cid6047.AllAlgorithmsSucceededWithFindings
WITHOUT_FINDINGS = codes.cid6047.AllAlgorithmsSucceededWithoutFindings

RELATED_OBJECTS = codes.DCM.SupplementaryData
"""Container of the other objects of a result."""
SEGMENTATION_RESULT = codes.DCM.SegmentationResult
RENDERING = codes.DCM.PartialRenderingForPresentation
PRESENTATION_STATE = codes.DCM.PresentationState

SOURCE = Code("260753009", "SCT", "Source")
"""Name of the images in the library."""
