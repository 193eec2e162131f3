"""Taking instances in: the SCP, what it notes in the ledger, and the threads that look after the spool."""
