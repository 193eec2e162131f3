"""DICOM objects: image series read as volumes, and results written as segmentations and reports."""
