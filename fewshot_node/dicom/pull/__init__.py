"""Fetching series from the PACS into our own receiver, for back-processing an archive."""
