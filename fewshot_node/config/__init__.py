"""The node's settings: one TOML file, read once into frozen models.

Every key is explained in ``deploy/node.example.toml``. Secrets never stand in the file.
"""

from fewshot_node.config.delivery import (
    PACS,
    ClientTlsSettings,
    DeliverySettings,
    DestinationName,
    DicomDestination,
    FolderDestination,
    PacsSettings,
    SenderDestination,
    StowDestination,
)
from fewshot_node.config.node import (
    CommitmentSettings,
    ExchangeSettings,
    MonitorSettings,
    NodeSettings,
    PrefectSettings,
    PublishSettings,
    PullSettings,
    ReceiveSettings,
    RetentionSettings,
    TlsSettings,
    WorkerSettings,
)
from fewshot_node.config.reading import load_settings, parse_settings
from fewshot_node.config.section import PeerAddress

__all__ = [
    "PACS",
    "ClientTlsSettings",
    "CommitmentSettings",
    "DeliverySettings",
    "DestinationName",
    "DicomDestination",
    "ExchangeSettings",
    "FolderDestination",
    "MonitorSettings",
    "NodeSettings",
    "PacsSettings",
    "PeerAddress",
    "PrefectSettings",
    "PublishSettings",
    "PullSettings",
    "ReceiveSettings",
    "RetentionSettings",
    "SenderDestination",
    "StowDestination",
    "TlsSettings",
    "WorkerSettings",
    "load_settings",
    "parse_settings",
]
