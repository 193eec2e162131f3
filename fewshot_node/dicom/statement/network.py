"""How associations are made, accepted and refused (PS3.2 Annex N: network communication details)."""

from pynetdicom import AE
from pynetdicom.pdu import A_ASSOCIATE_RJ

from fewshot_node.config import PacsSettings, ReceiveSettings
from fewshot_node.dicom.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from fewshot_node.dicom.services import Rejection
from fewshot_node.dicom.statement.markdown import table
from fewshot_node.dicom.upper_layer.negotiation import APPLICATION_CONTEXT


def sections() -> tuple[str, ...]:
    """Return the paragraphs of the section."""
    return (
        "TCP/IP over IPv4 or IPv6 through the operating system; no other transport.",
        "### 6.1 Receiver",
        *_receiver(),
        "### 6.2 Client",
        *_client(),
    )


def _receiver() -> tuple[str, ...]:
    receive = ReceiveSettings()
    rows = [
        ("Application Context Name", APPLICATION_CONTEXT),
        ("Implementation Class UID", IMPLEMENTATION_CLASS_UID),
        ("Implementation Version Name", IMPLEMENTATION_VERSION_NAME),
        ("Maximum PDU length received", f"{receive.max_pdu_bytes} (`receive.max_pdu_bytes`)"),
        ("Maximum PDU length sent", "what the peer states"),
        ("Associations at a time", f"{receive.max_associations} (`receive.max_associations`)"),
        (
            "Of one calling AE title at one address",
            f"{receive.max_associations_per_peer} (`receive.max_associations_per_peer`)",
        ),
        ("Asynchronous operations", "none: one outstanding operation; the window is not negotiated"),
        ("ARTIM timeout", f"{receive.request_timeout_s:g} s (`receive.request_timeout_s`)"),
        ("Inactivity timeout", f"{receive.network_timeout_s:g} s (`receive.network_timeout_s`)"),
        ("Extended negotiation, role selection, user identity", "not answered"),
    ]
    return (
        table(("Parameter", "Value"), rows),
        "**Acceptance.** A connection from outside `receive.source_addresses` is closed at once; with "
        "`receive.tls` so is "
        "one without a certificate that is trusted. Then the first reason of this table that applies rejects:",
        table(("Reason", "Result", "Source", "Reason/Diag.", "As PS3.8 says"), [_rejection(one) for one in Rejection]),
        "Of an accepted association each presentation context is accepted in the transfer syntax that the requestor "
        "names first among those known; else its result is 3 (abstract syntax not supported) or 4 (transfer syntaxes "
        "not supported). An operation that the context does not have is answered with 0211. What breaks the protocol, "
        "and silence beyond the timeout, ends the association with an abort; what was answered before stays stored.",
        "**Initiation.** Only to tell results of storage commitment (section 4.4), with the Client's parameters "
        "and the "
        "Receiver's AE title.",
    )


def _client() -> tuple[str, ...]:
    pacs, entity = PacsSettings(), AE()
    rows = [
        ("Application Context Name", APPLICATION_CONTEXT),
        ("Implementation Class UID", IMPLEMENTATION_CLASS_UID),
        ("Implementation Version Name", IMPLEMENTATION_VERSION_NAME),
        ("Maximum PDU length received", str(entity.maximum_pdu_size)),
        ("Associations at a time", "one for each activity; a second one, to the Receiver, during a C-GET"),
        ("Asynchronous operations", "none: one outstanding operation; the window is not negotiated"),
        ("Timeouts for connecting, association and answers", f"{pacs.timeout_s:g} s (`pacs.timeout_s`)"),
    ]
    return (
        table(("Parameter", "Value"), rows),
        "An association is opened for one activity (an echo, a delivery, a query, a retrieval) and released at "
        "its end. "
        "Rejections and aborts by the archive are failed attempts of the activity. The Client accepts no associations.",
    )


def _rejection(rejection: Rejection) -> tuple[str, ...]:
    code = rejection.value
    pdu = A_ASSOCIATE_RJ()
    pdu.result, pdu.source, pdu.reason_diagnostic = code.result, code.source, code.reason
    meaning = f"{pdu.result_str}, {pdu.source_str}: {pdu.reason_str}"
    return code.meaning, str(code.result), str(code.source), str(code.reason), meaning
