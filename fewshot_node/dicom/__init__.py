"""Everything that speaks DICOM: the network, the spool, the ledger, volumes and result objects.

::

    receive/      the storage SCP and the threads around it     pull/      series fetched from the PACS
    commitment/   storage commitment as SCP                     monitor/   health and metrics over HTTP
    ledger/       every series and what state it is in          objects/   volumes read, SEG and SR written
    upper_layer/  associations as acceptor (PS3.8)              statement/ the conformance statement
"""

from pydicom import config

# pydicom's warnings about odd values quote them, and a quoted value may be a patient's name. Set here, so
# that it holds before any module of this package reads a file; our own checks name attributes only.
config.settings.reading_validation_mode = config.IGNORE
