"""The parts of one node, opened from its settings."""

from dataclasses import dataclass

from fewshot_node.config import NodeSettings
from fewshot_node.dicom.ledger import Ledger
from fewshot_node.dicom.spool import Spool


@dataclass(frozen=True, slots=True)
class Node:
    """Spool and ledger of one `home` folder; imports no torch, so that the receiver starts at once."""

    settings: NodeSettings
    spool: Spool
    ledger: Ledger


def open_node(settings: NodeSettings) -> Node:
    """Open, and create where needed, the parts under ``settings.home``."""
    settings.home.mkdir(parents=True, exist_ok=True)
    return Node(
        settings=settings,
        spool=Spool(settings.spool),
        ledger=Ledger(settings.ledger_url),
    )
