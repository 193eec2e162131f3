"""A DICOM node that a hospital teaches by example."""

__version__ = "0.1.0"
