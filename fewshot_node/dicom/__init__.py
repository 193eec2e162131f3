"""Everything that speaks DICOM: the network, the spool, the ledger, volumes and result objects."""

from pydicom import config

# pydicom's warnings about odd values quote them, and a quoted value may be a patient's name. Set here, so
# that it holds before any module of this package reads a file; our own checks name attributes only.
config.settings.reading_validation_mode = config.IGNORE
