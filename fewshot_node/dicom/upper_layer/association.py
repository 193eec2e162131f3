"""An association from the acceptor's side, in one thread (PS3.8 9.2, Sta2 to Sta13)."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from pydicom.dataset import Dataset
from pynetdicom.dsutils import encode

from fewshot_node.dicom.services import IMPLICIT_VR_LITTLE_ENDIAN, Rejection
from fewshot_node.dicom.upper_layer.command import (
    RESPONSE,
    CommandField,
    encode_event_report,
    encode_response,
)
from fewshot_node.dicom.upper_layer.message import LONGEST_COMMAND_BYTES, IncomingMessage, Sink
from fewshot_node.dicom.upper_layer.negotiation import (
    APPLICATION_CONTEXT,
    AcceptedContext,
    AssociationRequest,
    decode_request,
    encode_acceptance,
    negotiate,
)
from fewshot_node.dicom.upper_layer.pdu import (
    HEADER_BYTES,
    PDV_HEADER_BYTES,
    RELEASE_RESPONSE,
    AbortReason,
    PduType,
    PdvHeader,
    decode_header,
    decode_pdv_header,
    encode_abort,
    encode_message,
    encode_rejection,
)
from fewshot_node.dicom.upper_layer.reports import EventReport, EventReports
from fewshot_node.dicom.upper_layer.stream import PeerStream, read_bounded
from fewshot_node.errors import PeerUnavailableError, ProtocolError

logger = logging.getLogger(__name__)
_LONGEST_REQUEST_BYTES = 2**19
"""Room for 128 contexts of every transfer syntax there is."""
_LONGEST_SHORT_PDU_BYTES = 1024
_REPORT_POLL_S = 0.05
_ABORT_S = 1.0


@dataclass(frozen=True, slots=True)
class AssociationLimits:
    """What one association may take: seconds until its request, seconds of silence, bytes of a PDU."""

    request_timeout_s: float
    network_timeout_s: float
    max_pdu_bytes: int


class ApplicationEntity(Protocol):
    """What stands above the upper layer; its methods are called in the association's thread and never raise."""

    @property
    def offered(self) -> Mapping[str, tuple[str, ...]]:
        """Transfer syntaxes by abstract syntax."""

    def admit(self, association: "Association") -> Rejection | None:
        """Say why an association is not wanted; None admits it."""

    def sink(self, association: "Association", message: IncomingMessage) -> Sink:
        """Give the place where the data set of a request goes."""

    def perform(self, association: "Association", message: IncomingMessage) -> tuple[int, str]:
        """Do what a request asks for; return status and error comment."""


class Association:
    """One connection from a peer, from its first byte to its last.

    Attributes
    ----------
    request
        What the peer asked for; None until it has.
    """

    def __init__(self, stream: PeerStream, address: str, entity: ApplicationEntity, limits: AssociationLimits) -> None:
        self.address = address
        self.request: AssociationRequest | None = None
        self._stream = stream
        self._entity = entity
        self._limits = limits
        self._contexts: Mapping[int, AcceptedContext] = {}
        self._message: IncomingMessage | None = None
        self._is_open = self._is_secure = False
        self._reports = EventReports()
        self._may_report = False

    @property
    def calling_ae_title(self) -> str:
        """The AE title that the peer gives itself; empty until it has."""
        return "" if self.request is None else self.request.calling_ae_title

    def run(self) -> None:
        """Serve the peer until one of the two ends it; then the connection is closed."""
        try:
            if self._establish():
                while self._serve_pdu():
                    pass
        except ProtocolError as error:
            logger.warning("association with %s aborted: %s", self._peer, error)
            self._abort(AbortReason.INVALID_PARAMETER)
        except PeerUnavailableError as error:
            if self._is_open:
                logger.info("association with %s lost: %s", self._peer, error)
                self._abort(AbortReason.NOT_SPECIFIED)
        finally:
            if self._message is not None:
                self._message.close()
            self._reports.end()
            self._stream.close()

    def interrupt(self) -> None:
        """Make the association end, from another thread; the peer gets an A-ABORT."""
        self._stream.interrupt()

    def report(self, sop: tuple[str, str], event_type_id: int, information: Dataset) -> bool:
        """Send an N-EVENT-REPORT from another thread and wait for its answer.

        Parameters
        ----------
        sop
            SOP Class UID and SOP Instance UID.

        Returns
        -------
        bool
            Whether the peer confirmed it; False also when the association has ended.
        """
        report = EventReport(sop, event_type_id, information)
        if not self._reports.add(report):
            return False
        report.ended.wait(self._limits.network_timeout_s)
        return report.status == 0

    @property
    def is_secure(self) -> bool:
        """Whether TLS was agreed on, or is not wanted."""
        return self._is_secure

    @property
    def _peer(self) -> str:
        return f"{self.calling_ae_title or 'an unnamed peer'} at {self.address}"

    def _establish(self) -> bool:
        self._stream.allow(self._limits.request_timeout_s)
        self._stream.secure()
        self._is_secure = True
        kind, length = decode_header(self._stream.read(HEADER_BYTES))
        if kind != PduType.ASSOCIATE_RQ:
            self._abort(AbortReason.UNEXPECTED_PDU)
            return False
        request = decode_request(read_bounded(self._stream, length, _LONGEST_REQUEST_BYTES, "association request"))
        self.request = request
        rejection = _judge(request) or self._entity.admit(self)
        if rejection is not None:
            logger.warning("association of %s rejected: %s", self._peer, rejection.value.meaning)
            self._stream.send(encode_rejection(rejection.value))
            return False
        self._contexts = negotiate(request, self._entity.offered)
        offered = self._entity.offered
        self._stream.send(encode_acceptance(request, self._contexts, offered, self._limits.max_pdu_bytes))
        self._is_open = True
        return True

    def _serve_pdu(self) -> bool:
        """Serve the next PDU; False when it was the last."""
        self._wait_for_pdu()
        self._stream.allow(self._limits.network_timeout_s)
        kind, length = decode_header(self._stream.read(HEADER_BYTES))
        if kind == PduType.DATA:
            self._take_data(length)
            return True
        read_bounded(self._stream, length, _LONGEST_SHORT_PDU_BYTES, "PDU")
        self._is_open = False
        if kind == PduType.RELEASE_RQ:
            self._stream.send(RELEASE_RESPONSE)
        elif kind != PduType.ABORT:
            known = kind in set(PduType)
            self._abort(AbortReason.UNEXPECTED_PDU if known else AbortReason.UNRECOGNIZED_PDU)
        return False

    def _wait_for_pdu(self) -> None:
        silence_s = 0.0
        while silence_s < self._limits.network_timeout_s:
            self._send_reports()
            wait_s = _REPORT_POLL_S if self._may_report else self._limits.network_timeout_s
            if self._stream.wait(wait_s):
                return
            silence_s += wait_s
        raise PeerUnavailableError(f"nothing came for {self._limits.network_timeout_s:g} s")

    def _take_data(self, length: int) -> None:
        while length:
            if length < PDV_HEADER_BYTES:
                raise ProtocolError("a PDU ends within the header of a PDV")
            pdv = decode_pdv_header(self._stream.read(PDV_HEADER_BYTES))
            length -= PDV_HEADER_BYTES + pdv.size
            if pdv.size < 0 or length < 0:
                raise ProtocolError("a PDV does not fit its PDU")
            self._take_fragment(pdv)

    def _take_fragment(self, pdv: PdvHeader) -> None:
        context = self._contexts.get(pdv.context_id)
        if context is None:
            raise ProtocolError(f"presentation context {pdv.context_id} was not accepted")
        message = self._message = self._message or IncomingMessage(context)
        if message.context is not context:
            raise ProtocolError("one message came under two presentation contexts")
        if pdv.is_command:
            fragment = read_bounded(self._stream, pdv.size, LONGEST_COMMAND_BYTES, "command set")
            message.add_command(fragment, is_last=pdv.is_last)
            if pdv.is_last and message.command.has_data_set:
                message.sink = self._entity.sink(self, message)
            is_whole = pdv.is_last and not message.command.has_data_set
        else:
            self._take_data_set(message, pdv.size)
            is_whole = pdv.is_last
        if is_whole:
            self._complete(message)

    def _take_data_set(self, message: IncomingMessage, size: int) -> None:
        if message.sink is None or not message.command.has_data_set:
            raise ProtocolError("a data set came without its command set")
        for chunk in self._stream.chunks(size):
            message.sink.write(chunk)

    def _complete(self, message: IncomingMessage) -> None:
        command = message.command
        try:
            if command.field & RESPONSE:
                self._reports.note_answer(command.responded_to, command.status)
            elif command.field != CommandField.C_CANCEL:  # there is never anything to cancel
                status, comment = self._entity.perform(self, message)
                self._may_report |= command.field == CommandField.N_ACTION
                self._send(message.context, encode_response(command, status, comment), b"")
        finally:
            message.close()
            self._message = None

    def _send_reports(self) -> None:
        for report in self._reports.waiting():
            context = next((one for one in self._contexts.values() if one.abstract_syntax == report.sop[0]), None)
            if context is None:
                report.end()
                continue
            message_id = self._reports.expect_answer(report)
            is_implicit = context.transfer_syntax == IMPLICIT_VR_LITTLE_ENDIAN
            data_set = encode(report.information, is_implicit, True) or b""
            self._send(context, encode_event_report(message_id, report.sop, report.event_type_id), data_set)

    def _send(self, context: AcceptedContext, command: bytes, data_set: bytes) -> None:
        self._stream.allow(self._limits.network_timeout_s)
        limit = self.request.max_pdu_bytes if self.request is not None else 0
        for pdu in encode_message(context.context_id, command, data_set, limit):
            self._stream.send(pdu)

    def _abort(self, reason: AbortReason) -> None:
        self._stream.allow(_ABORT_S)
        try:
            self._stream.send(encode_abort(reason))
        except PeerUnavailableError:
            return


def _judge(request: AssociationRequest) -> Rejection | None:
    if not request.protocol_version & 1:
        return Rejection.PROTOCOL_VERSION
    if request.application_context != APPLICATION_CONTEXT:
        return Rejection.APPLICATION_CONTEXT
    return None
