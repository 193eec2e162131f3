"""Ledgers as earlier versions left them."""

import sqlite3
from pathlib import Path

from sqlalchemy import Table

from fewshot_node.dicom.ledger import Ledger
from fewshot_node.dicom.ledger.schema import _MIGRATIONS


def ledger_without_later_tables(path: Path, version: int) -> str:
    """Make a ledger that lacks every table that came after a version, and return its URL."""
    url = f"sqlite:///{path}"
    Ledger(url).dispose()
    later = [
        table.name
        for old, added in _MIGRATIONS.items()
        if old >= version
        for table in added
        if isinstance(table, Table)
    ]
    assert later
    connection = sqlite3.connect(path)
    for name in later:
        connection.execute(f"DROP TABLE {name}")
    connection.execute("UPDATE ledger_version SET version = ?", (version,))
    connection.commit()
    connection.close()
    return url
