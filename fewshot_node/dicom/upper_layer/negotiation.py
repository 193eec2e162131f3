"""What a peer asks for in an A-ASSOCIATE-RQ, and what it gets (PS3.8 7.1, 9.3.2, 9.3.3)."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydicom.uid import UID
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_items import PresentationContextItemRQ, SCP_SCU_RoleSelectionSubItem
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
)
from pynetdicom.presentation import PresentationContext

from fewshot_node.dicom.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from fewshot_node.dicom.services import IMPLICIT_VR_LITTLE_ENDIAN, STORAGE_COMMITMENT
from fewshot_node.dicom.upper_layer.pdu import PduType
from fewshot_node.errors import ProtocolError

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
_ACCEPTED, _NO_ABSTRACT_SYNTAX, _NO_TRANSFER_SYNTAXES = 0, 3, 4


@dataclass(frozen=True, slots=True)
class ProposedContext:
    """A presentation context as the peer proposes it; transfer syntaxes in its order of preference."""

    context_id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AcceptedContext:
    """A presentation context that messages may come under."""

    context_id: int
    abstract_syntax: str
    transfer_syntax: str


@dataclass(frozen=True, slots=True)
class AssociationRequest:
    """What an A-ASSOCIATE-RQ says.

    Attributes
    ----------
    max_pdu_bytes
        What the peer takes, 0 for no limit.
    roles
        SOP Class UID -> whether the peer proposes to be its SCU, and its SCP (PS3.7 D.3.3.4).
    """

    calling_ae_title: str
    called_ae_title: str
    protocol_version: int
    application_context: str
    contexts: tuple[ProposedContext, ...]
    max_pdu_bytes: int
    roles: Mapping[str, tuple[bool, bool]] = field(default_factory=dict)


def decode_request(body: bytes) -> AssociationRequest:
    """Decode an A-ASSOCIATE-RQ from what follows its header.

    Raises
    ------
    ProtocolError
        It is none.
    """
    header = bytes((PduType.ASSOCIATE_RQ, 0)) + len(body).to_bytes(4, "big")
    pdu = A_ASSOCIATE_RQ()
    try:
        pdu.decode(header + body)
        user_information = pdu.user_information
        return AssociationRequest(
            calling_ae_title=_ae_title(pdu.calling_ae_title),
            called_ae_title=_ae_title(pdu.called_ae_title),
            protocol_version=pdu.protocol_version,
            application_context=str(pdu.application_context_name),
            contexts=tuple(_proposed(item) for item in pdu.presentation_context),
            max_pdu_bytes=0 if user_information is None else user_information.maximum_length or 0,
            roles={} if user_information is None else _roles(user_information.role_selection),
        )
    except ProtocolError:
        raise
    except Exception as error:  # hostile bytes raise anything in the decoder
        raise ProtocolError(f"association request cannot be decoded ({type(error).__name__})") from error


def _ae_title(text: str) -> str:
    """Strip padding; what does not print must not reach a log."""
    title = text.strip(" \0")
    if not (title and title.isascii() and title.isprintable()):
        raise ProtocolError("association request holds an AE title that is none")
    return title


def _roles(proposed: Mapping[UID, SCP_SCU_RoleSelectionSubItem]) -> dict[str, tuple[bool, bool]]:
    return {str(uid): (bool(item.scu_role), bool(item.scp_role)) for uid, item in proposed.items()}


def _proposed(item: PresentationContextItemRQ) -> ProposedContext:
    if item.context_id is None or item.context_id % 2 == 0 or not item.transfer_syntax:
        raise ProtocolError("association request proposes a presentation context that is none")
    return ProposedContext(item.context_id, str(item.abstract_syntax), tuple(map(str, item.transfer_syntax)))


def negotiate(request: AssociationRequest, offered: Mapping[str, tuple[str, ...]]) -> dict[int, AcceptedContext]:
    """Accept what is offered, each context in the transfer syntax that the peer names first.

    So a sender that offers its images compressed and, as the last resort, uncompressed, need not
    decompress them.
    """
    accepted = {}
    for context in request.contexts:
        known = offered.get(context.abstract_syntax, ())
        chosen = next((syntax for syntax in context.transfer_syntaxes if syntax in known), None)
        if chosen is not None:
            accepted[context.context_id] = AcceptedContext(context.context_id, context.abstract_syntax, chosen)
    return accepted


def encode_acceptance(
    request: AssociationRequest,
    accepted: Mapping[int, AcceptedContext],
    offered: Mapping[str, tuple[str, ...]],
    max_pdu_bytes: int,
) -> bytes:
    """Return an A-ASSOCIATE-AC PDU with a result for each proposed context."""
    length, class_uid = MaximumLengthNotification(), ImplementationClassUIDNotification()
    version_name = ImplementationVersionNameNotification()
    length.maximum_length_received = max_pdu_bytes
    class_uid.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    version_name.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    primitive = A_ASSOCIATE()
    primitive.application_context_name = UID(APPLICATION_CONTEXT)
    primitive.calling_ae_title = request.calling_ae_title
    primitive.called_ae_title = request.called_ae_title
    primitive.result, primitive.result_source = 0, 1
    primitive.user_information = [length, class_uid, version_name, *_accepted_roles(request, offered)]
    primitive.presentation_context_definition_results_list = [
        _result(context, accepted.get(context.context_id), offered) for context in request.contexts
    ]
    encoded: bytes = A_ASSOCIATE_AC(primitive).encode()
    return encoded


def _accepted_roles(
    request: AssociationRequest, offered: Mapping[str, tuple[str, ...]]
) -> list[SCP_SCU_RoleSelectionNegotiation]:
    """Accept the roles that a peer proposes for storage commitment: as its SCP it reports what we asked for.

    Of other SOP classes the peer stays the SCU, which is what no answer means (PS3.7 D.3.3.4.1).
    """
    if STORAGE_COMMITMENT not in offered or not any(request.roles.get(STORAGE_COMMITMENT, ())):
        return []
    item = SCP_SCU_RoleSelectionNegotiation()
    item.sop_class_uid = UID(STORAGE_COMMITMENT)
    item.scu_role, item.scp_role = request.roles[STORAGE_COMMITMENT]
    return [item]


def _result(
    proposed: ProposedContext, accepted: AcceptedContext | None, offered: Mapping[str, tuple[str, ...]]
) -> PresentationContext:
    result = PresentationContext()
    result.context_id = proposed.context_id
    # The transfer syntax of a rejected context is not significant (PS3.8 Table 9-18), but must be there.
    result.transfer_syntax = [accepted.transfer_syntax if accepted else IMPLICIT_VR_LITTLE_ENDIAN]
    known = proposed.abstract_syntax in offered
    result.result = _ACCEPTED if accepted else _NO_TRANSFER_SYNTAXES if known else _NO_ABSTRACT_SYNTAX
    return result
