"""The conformance statement as a whole; its overview, introduction and implementation model (PS3.2 Annex N)."""

from fewshot_node import __version__
from fewshot_node.config import PacsSettings, ReceiveSettings
from fewshot_node.dicom.objects.conformance import REQUIRED
from fewshot_node.dicom.pull.retrieve import MOVE
from fewshot_node.dicom.query import FIND, GET
from fewshot_node.dicom.services import (
    NATIVE_TRANSFER_SYNTAXES,
    STORAGE_COMMITMENT,
    STORAGE_SOP_CLASSES,
    TRANSFER_SYNTAXES,
    VERIFICATION,
)
from fewshot_node.dicom.statement import configuration, network, objects, security, services
from fewshot_node.dicom.statement.markdown import NO, YES, folded, table, uid_name, uid_table

CREATED = frozenset(REQUIRED)
"""SOP classes of what this node makes and sends."""

_HEADER = ("SOP class", "UID", "SCU", "SCP")


def conformance_statement() -> str:
    """Return the statement in Markdown; it speaks of the software with its default settings."""
    return "\n\n".join(
        (
            "## DICOM conformance statement",
            f"Of fewshot-node {__version__}, in the order of PS3.2 Annex N. It is printed by `fewshot-node "
            f"conformance` "
            "from the tables that the program negotiates by, and a test holds it against a running receiver.",
            folded("1 Overview", *_overview()),
            folded("2 Introduction", _INTRODUCTION),
            folded("3 Implementation model", *_model()),
            folded("4 Services", *services.sections()),
            folded("5 Configuration", *configuration.sections()),
            folded("6 Network communication", *network.sections()),
            folded("7 Security", *security.sections()),
            folded("8 Created objects", *objects.sections()),
        )
    )


def _overview() -> tuple[str, ...]:
    others = [(VERIFICATION, YES, YES), (STORAGE_COMMITMENT, NO, YES), (FIND, YES, NO), (MOVE, YES, NO), (GET, YES, NO)]
    return (
        "fewshot-node takes image series over the network, computes segmentations or landmarks from them, and sends "
        "the results to one archive (PACS). It can also fetch series from that archive.",
        "### 1.1 Network services",
        "Verification, workflow management and query/retrieve:",
        table(_HEADER, [(uid_name(str(uid)), str(uid), scu, scp) for uid, scu, scp in others]),
        "Transfer. As SCP every class below; further storage SOP classes, private ones too, can be added with "
        "`receive.extra_sop_classes`. As SCU the objects that this node creates (section 8). In a C-GET the node "
        "is SCP, by role selection, of the classes that it asks for.",
        table(_HEADER, sorted((uid_name(uid), uid, YES if uid in CREATED else NO, YES) for uid in STORAGE_SOP_CLASSES)),
        "### 1.2 Transfer syntaxes",
        "Of every storage SOP class as SCP; data sets are kept as they came. Verification and storage commitment "
        f"are accepted in {' and '.join(uid_name(syntax) for syntax in NATIVE_TRANSFER_SYNTAXES)}. What is proposed "
        "as SCU: section 4.6.",
        uid_table("Transfer syntax", TRANSFER_SYNTAXES),
        "### 1.3 Media, web services, real-time video",
        "None.",
        "### 1.4 Character sets",
        objects.CHARACTER_SETS,
    )


_INTRODUCTION = """For those who connect fewshot-node to scanners and archives; knowledge of DICOM is presumed. AE, SCU,
SCP, SOP, IOD and the names of services are those of the standard. `section.key` names a setting (section 5).

Conformance to the standard does not by itself ensure that two products work together: test the connection, and
compare both statements. fewshot-node is not a medical device; its results are marked as unverified and preliminary."""


def _model() -> tuple[str, ...]:
    receive, pacs = ReceiveSettings(), PacsSettings()
    rows = [
        (
            "Receiver",
            "`receive.ae_title`",
            receive.ae_title,
            str(receive.port),
            "Verification, Storage, Storage Commitment",
        ),
        ("Client", "`pacs.calling_ae_title`", pacs.calling_ae_title, "none", "Verification, Storage, Query/Retrieve"),
    ]
    return (
        table(("Application entity", "AE title set by", "Default", "Listens on port", "Services"), rows),
        "The *Receiver* is SCP. It puts each received instance into the spool, a folder. It opens associations only to "
        "tell results of storage commitment. When a series is complete it is processed: series that a task "
        "takes end as "
        "the objects of section 8.",
        "The *Client* is SCU of one peer, the archive at `pacs.host` and `pacs.port`. It sends results and asks "
        "whether "
        "the archive lists them; on an operator's command it lists and fetches series.",
        "Received instances come out of the node only as the objects of section 8, which refer to them.",
    )
