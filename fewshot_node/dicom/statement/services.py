"""What each DIMSE service of the node does (PS3.2 Annex N: service and interoperability description)."""

from pynetdicom import DEFAULT_TRANSFER_SYNTAXES

from fewshot_node.config import CommitmentSettings, DeliverySettings, PullSettings, ReceiveSettings
from fewshot_node.dicom.commitment.desk import ActionStatus
from fewshot_node.dicom.commitment.request import MOST_REFERENCES
from fewshot_node.dicom.commitment.result import CommitmentEvent, FailureReason
from fewshot_node.dicom.objects.conformance import REQUIRED
from fewshot_node.dicom.pull.query_keys import SERIES_KEYS, STUDY_KEYS
from fewshot_node.dicom.pull.retrieve import MOVE, RETRIEVED_SYNTAXES
from fewshot_node.dicom.query import FIND, GET
from fewshot_node.dicom.services import NATIVE_TRANSFER_SYNTAXES, STORAGE_COMMITMENT, VERIFICATION
from fewshot_node.dicom.statement.markdown import status_code, table, uid_name, words
from fewshot_node.dicom.store_status import MEANINGS

_ACTIONS = {
    ActionStatus.SUCCESS: "the request is on the disk; its result will be told",
    ActionStatus.PROCESSING_FAILURE: "the request cannot be decoded, or the node failed; ask again",
    ActionStatus.INVALID_ARGUMENT_VALUE: f"a UID is absent or none, there are more than {MOST_REFERENCES} "
    "references, or the Transaction UID is in use with other ones",
    ActionStatus.NO_SUCH_ACTION: "the Action Type ID is not 1",
    ActionStatus.RESOURCE_LIMITATION: "the disk does not take the request, or too many results are owed; "
    "ask again later",
}
_EVENTS = {
    CommitmentEvent.SUCCESSFUL: "all instances are committed",
    CommitmentEvent.FAILURES_EXIST: "some are not; the Failed SOP Sequence says which and why",
}
_FAILURES = {
    FailureReason.PROCESSING_FAILURE: "the stored file cannot be read or synced",
    FailureReason.NO_SUCH_INSTANCE: "the instance is not in the spool: it never came, or its retention has passed",
    FailureReason.CLASS_INSTANCE_CONFLICT: "the instance is stored under another SOP Class UID",
}


def sections() -> tuple[str, ...]:
    """Return the paragraphs of the section."""
    return (
        "### 4.1 Verification",
        "As SCP it is answered with 0000. As SCU it is sent to the archive by `fewshot-node pacs echo` and "
        "`fewshot-node doctor`.",
        "### 4.2 Storage as SCP",
        *_storage_scp(),
        "### 4.3 Storage as SCU",
        *_storage_scu(),
        "### 4.4 Storage commitment as SCP",
        *_commitment(),
        "### 4.5 Query/Retrieve as SCU",
        *_query_retrieve(),
        "### 4.6 Presentation contexts that are proposed",
        _proposed(),
    )


def _storage_scp() -> tuple[str, ...]:
    receive = ReceiveSettings()
    rows = [
        (meaning.service_status, meaning.further_meaning, status_code(status), meaning.condition, meaning.remedy)
        for status, meaning in MEANINGS.items()
    ]
    return (
        "Level 2 (full): the data set is kept as it was encoded, all attributes included, private ones too; nothing is "
        "coerced. Success is answered only after the file and its folder are synced to the disk.",
        "An instance whose SOP Instance UID is in the spool of its series already is compared: the same data set is a "
        "success and not kept twice, another one is kept aside and answered with a warning.",
        table(("Service status", "Further meaning", "Code", "Condition", "What the sender should do"), rows),
        "Failures and warnings carry an Error Comment (0000,0902) without values of the data set.",
        "A series is complete when all of its instances are there, as far as the attributes "
        f"of `receive.stated_counts` (default {', '.join(receive.stated_counts)}) or the archive "
        f"(`receive.ask_pacs_for_count`) say how many, else when for `receive.quiet_period_s` "
        f"({receive.quiet_period_s:g} s) "
        "none came, and never while an open association feeds it. Instances that come later make a new revision of "
        "the series, which is processed anew. How long received instances are kept: `retention`; by default for ever.",
    )


def _storage_scu() -> tuple[str, ...]:
    delivery = DeliverySettings()
    return (
        "When a series has been processed its results go to each of the destinations that `delivery` names for the "
        "task. A DICOM peer is asked by C-FIND what it lists already; the rest is sent, all over one association.",
        table(
            ("Answer to C-STORE", "Behaviour"),
            [
                ("0000", "stored"),
                ("Bxxx", "taken as stored, and logged"),
                ("A7xx, or none in time", "the peer is full or in trouble: waited out"),
                ("any other, or the class or transfer syntax not accepted", "a refusal"),
            ],
        ),
        f"Then storage commitment is asked for where the peer accepts it (N-ACTION), and a result counts as delivered "
        f"when the N-EVENT-REPORT names it as committed, over the same association or one that the peer opens to the "
        f"Receiver. Where it is not accepted, or nothing is reported for `delivery.commitment_wait_s` "
        f"({delivery.commitment_wait_s:g} s), the peer has to list the result (C-FIND); where it does not accept that "
        f"either, the C-STORE status is all that is known. The ledger says which of these it was.",
        f"Failed deliveries are tried again with waits that begin at `delivery.backoff_s` ({delivery.backoff_s:g} s) "
        f"and double up to `delivery.longest_wait_s` ({delivery.longest_wait_s:g} s), until the peer has refused "
        f"`delivery.attempts` ({delivery.attempts}) times, or has been in trouble for `delivery.give_up_after_h` "
        f"({delivery.give_up_after_h:g} h). Then the delivery is a dead letter, the series is noted as failed, and the "
        f"same objects can be sent again by hand.",
    )


def _commitment() -> tuple[str, ...]:
    settings = CommitmentSettings()
    return (
        f"{uid_name(STORAGE_COMMITMENT)} ({STORAGE_COMMITMENT}). An instance is committed when it is in the "
        f"spool, on the "
        "disk, under the SOP Class UID that the request names. It stays for as long as `retention` says. The "
        "node serves "
        "no retrieval: Retrieve AE Title (0008,0054) is not sent, and Storage Media File-Set ID and UID are ignored.",
        table(
            ("N-ACTION answer", "Code", "Condition"),
            [(words(status), status_code(status), _ACTIONS[status]) for status in ActionStatus],
        ),
        "The result is looked up when it is told: over the association of the request while that is open, else "
        "over a new "
        "one to the address that `commitment.peers` holds for the AE title of the request, on which the node proposes "
        f"the role of the SCP. It is told again every `commitment.retry_s` ({settings.retry_s:g} s) until the "
        f"peer confirms, "
        f"for `commitment.give_up_after_h` ({settings.give_up_after_h:g} h), also after a restart.",
        table(
            ("N-EVENT-REPORT", "Event Type ID", "Meaning"),
            [(words(event), str(int(event)), _EVENTS[event]) for event in CommitmentEvent],
        ),
        table(
            ("Failure Reason (0008,1197)", "Code", "Condition"),
            [(words(reason), status_code(reason), _FAILURES[reason]) for reason in FailureReason],
        ),
    )


def _query_retrieve() -> tuple[str, ...]:
    pull = PullSettings()
    return (
        "Study Root, hierarchical, without relational queries or extended negotiation.",
        "**C-FIND** at STUDY, SERIES and IMAGE level: before and after delivery, for the number of instances of "
        "a series, "
        "and for `fewshot-node pull`, which an operator gives matching keys:",
        table(
            ("Level", "Matching keys"),
            [("STUDY", ", ".join(sorted(STUDY_KEYS))), ("SERIES", ", ".join(sorted(SERIES_KEYS)))],
        ),
        "Keys that identify a person are not taken. Pending answers FF00 and FF01 are read; any other status "
        "but 0000 ends the query as failed.",
        f'**C-MOVE** (`pull.by = "move"`; the default is `{pull.by}`) of one series at a time to `receive.ae_title`, '
        'which the archive has to know. **C-GET** (`pull.by = "get"`) of one series over the same association; each '
        "instance is handed to the Receiver, whose status is the answer to the C-STORE sub-operation. For either, "
        "0000 is success; A801 says that the archive does not know the destination; failed sub-operations and "
        "any other status fail the series, which a later pull asks for again. A pull that is broken off sends "
        "C-CANCEL. "
        f"At most `pull.series_per_minute` ({pull.series_per_minute:g}) series are asked for in a minute, and "
        f"none while "
        f"`pull.max_unfinished` ({pull.max_unfinished}) have not ended.",
    )


def _proposed() -> str:
    native = "; ".join(uid_name(syntax) for syntax in NATIVE_TRANSFER_SYNTAXES)
    default = "; ".join(uid_name(syntax) for syntax in DEFAULT_TRANSFER_SYNTAXES)
    own = [VERIFICATION, FIND, MOVE, GET]
    rows = [(uid_name(str(uid)), default, "SCU") for uid in own]
    rows += [(uid_name(uid), native, "SCU") for uid in REQUIRED]
    rows += [
        (uid_name(STORAGE_COMMITMENT), native, "SCU, to ask for it; SCP, to tell a result"),
        ("the storage SOP classes that a C-GET is for", "; ".join(uid_name(uid) for uid in RETRIEVED_SYNTAXES), "SCP"),
    ]
    return table(("SOP class", "Transfer syntaxes", "Role"), rows)
