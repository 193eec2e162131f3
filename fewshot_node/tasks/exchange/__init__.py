"""A published revision of a task as one file that another site can check before it believes it.

::

    manifest.json       what the file holds: each member's length and SHA-256
    signature.json      over the manifest, when the file was signed
    revision/...        the revision's folder, as it lies on disk

An imported revision waits in ``<task>/imported/NNNN``, where nothing routes to it, until somebody adopts it.
"""

from fewshot_node.tasks.exchange.bring_in import Imported, import_task
from fewshot_node.tasks.exchange.export import Exported, export_task
from fewshot_node.tasks.exchange.signature import SigningKey, make_key, read_signing_key
from fewshot_node.tasks.exchange.waiting import adopt, load_waiting, waiting_revisions

__all__ = [
    "Exported",
    "Imported",
    "SigningKey",
    "adopt",
    "export_task",
    "import_task",
    "load_waiting",
    "make_key",
    "read_signing_key",
    "waiting_revisions",
]
