"""Storage commitment as SCP: what was asked, what is owed to whom, and telling it (PS3.4 Annex J)."""
