"""Everything that speaks DICOM: the network, the spool, the ledger, volumes and result objects."""
