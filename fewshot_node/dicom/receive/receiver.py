"""The receiver: Verification, Storage and Storage Commitment SCP (PS3.4 A, B, J) in front of the spool."""

import ipaddress
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from io import BytesIO
from typing import cast

from pydicom.dataset import Dataset
from pynetdicom.dsutils import decode

from fewshot_node.config import ReceiveSettings
from fewshot_node.dicom.commitment.desk import CommitmentDesk
from fewshot_node.dicom.commitment.request import MOST_REFERENCES
from fewshot_node.dicom.deliver.report import CommitmentReport, read_report
from fewshot_node.dicom.ledger import Ledger
from fewshot_node.dicom.monitor.metrics import IntakeMetrics
from fewshot_node.dicom.receive.notes import IntakeNotes
from fewshot_node.dicom.receive.open_associations import OpenAssociations
from fewshot_node.dicom.receive.store import StoreService
from fewshot_node.dicom.running import Running
from fewshot_node.dicom.services import (
    IMPLICIT_VR_LITTLE_ENDIAN,
    STORAGE_COMMITMENT,
    STORAGE_COMMITMENT_INSTANCE,
    VERIFICATION,
    Rejection,
    offered,
)
from fewshot_node.dicom.spool import Spool
from fewshot_node.dicom.store_status import StoreStatus
from fewshot_node.dicom.tls import server_context
from fewshot_node.dicom.upper_layer.association import Association, AssociationLimits
from fewshot_node.dicom.upper_layer.command import CommandField
from fewshot_node.dicom.upper_layer.listener import Listener
from fewshot_node.dicom.upper_layer.message import HeldDataSet, IncomingMessage, Sink
from fewshot_node.dicom.upper_layer.stream import PeerStream
from fewshot_node.errors import FewshotNodeError

logger = logging.getLogger(__name__)
_MEGABYTE = 2**20
_STOP_S = 10.0
_ITEM_TAG = b"\xfe\xff\x00\xe0"
_UNRECOGNIZED_OPERATION = 0x0211
_PROCESSING_FAILURE = 0x0110


class Receiver(Running):
    """DICOM SCP that fills a spool and tells the ledger.

    `start` sweeps what an earlier run left unfinished, brings the ledger up to the spool, and listens.

    Parameters
    ----------
    desk
        Takes storage commitment requests.
    take_report
        Takes the results of storage commitments that this node asked for; False when nobody waits for one.
        Without this and a desk storage commitment is not offered.
    """

    def __init__(
        self,
        settings: ReceiveSettings,
        spool: Spool,
        ledger: Ledger,
        desk: CommitmentDesk | None = None,
        metrics: IntakeMetrics | None = None,
        take_report: Callable[[CommitmentReport], bool] | None = None,
    ) -> None:
        self.metrics = metrics or IntakeMetrics()
        self._settings = settings
        self._spool = spool
        self._ledger = ledger
        self._desk = desk
        self._take_report = take_report
        self.notes = IntakeNotes(ledger)
        self._store = StoreService(settings, spool, self.notes)
        self._open = OpenAssociations(settings.max_associations, settings.max_associations_per_peer)
        services = dict(offered(settings.extra_sop_classes))
        if desk is None and take_report is None:
            del services[STORAGE_COMMITMENT]
        self._offered = services
        self._limits = AssociationLimits(settings.request_timeout_s, settings.network_timeout_s, settings.max_pdu_bytes)
        self._tls: ssl.SSLContext | None = None
        self._running = ExitStack()
        self._listener: Listener | None = None
        self._port = settings.port

    @property
    def port(self) -> int:
        """The port that is listened on; the real one after `start` when the settings say 0."""
        return self._port

    @property
    def is_listening(self) -> bool:
        """Whether connections are accepted now."""
        return self._listener is not None and self._listener.is_alive

    @property
    def offered(self) -> Mapping[str, tuple[str, ...]]:
        """Transfer syntaxes by abstract syntax."""
        return self._offered

    def start(self) -> None:
        """Begin to listen.

        Raises
        ------
        PortInUseError
            Another process listens on the port.
        ConfigurationError
            The address is not this machine's, a TLS file cannot be used, or another receiver uses the spool.
        """
        self._tls = server_context(self._settings.tls) if self._settings.tls else None
        with ExitStack() as starting:
            starting.enter_context(self._spool.receiving())
            swept = self._spool.sweep()
            rebuilt = self._ledger.rebuild(self._spool)
            starting.callback(self._spool.sweep)  # of what the shutdown interrupts
            starting.enter_context(self.notes)
            listener = Listener(self._settings.host, self._settings.port, self._take)
            self._listener, self._port = listener, listener.port
            starting.callback(self._end_all)
            starting.enter_context(listener)
            self._running = starting.pop_all()
        logger.info(
            "receiver %s listens on %s:%d; %d unfinished files swept, %d series brought into the ledger",
            *(self._settings.ae_title, self._settings.host, self._port, swept, rebuilt),
        )

    def stop(self) -> None:
        """Abort what is open and stop listening; harmless when not started."""
        self._running.close()

    def busy_series(self) -> set[str]:
        """Return the series that must not be taken for complete now.

        They are fed by an open association, or have instances that the ledger does not count yet.
        """
        # In this order: an instance is noted before its association can end.
        return self._open.fed_series() | self.notes.unflushed()

    def admit(self, association: Association) -> Rejection | None:
        """Say why an association is not wanted; None admits it."""
        rejection = self._judge(association) or self._open.admit(association)
        if rejection is None:
            self.metrics.association_opened()
        else:
            self.metrics.rejected(rejection.name.lower())
        return rejection

    def sink(self, association: Association, message: IncomingMessage) -> Sink:
        """Give the place where the data set of a request goes."""
        if message.command.field == CommandField.C_STORE:
            return self._store.sink(message, association.calling_ae_title)
        return HeldDataSet()

    def perform(self, association: Association, message: IncomingMessage) -> tuple[int, str]:
        """Do what a request asks for; return status and error comment."""
        field, abstract_syntax = message.command.field, message.context.abstract_syntax
        if field == CommandField.C_STORE and abstract_syntax not in {VERIFICATION, STORAGE_COMMITMENT}:
            return self._store_instance(association, message)
        if field == CommandField.C_ECHO and abstract_syntax == VERIFICATION:
            return StoreStatus.SUCCESS, ""
        if field == CommandField.N_ACTION and abstract_syntax == STORAGE_COMMITMENT:
            return self._commit(association, message)
        if field == CommandField.N_EVENT_REPORT and abstract_syntax == STORAGE_COMMITMENT:
            return self._hear_report(association, message)
        return _UNRECOGNIZED_OPERATION, "the presentation context has no such operation"

    def _judge(self, association: Association) -> Rejection | None:
        request = association.request
        if request is None:
            return Rejection.CALLING_AE_TITLE
        if self._settings.require_called_ae_title and request.called_ae_title != self._settings.ae_title:
            return Rejection.CALLED_AE_TITLE
        allowed = self._settings.calling_ae_titles
        if allowed and request.calling_ae_title not in allowed:
            return Rejection.CALLING_AE_TITLE
        if self._spool.free_bytes() < self._settings.reject_below_free_mb * _MEGABYTE:
            return Rejection.LOW_SPACE
        return None

    def _store_instance(self, association: Association, message: IncomingMessage) -> tuple[int, str]:
        def feeding(series_instance_uid: str) -> None:
            self._open.feed(association, series_instance_uid)

        status, comment, size = self._store.perform(message, association.calling_ae_title, feeding)
        taken = status in {StoreStatus.SUCCESS, StoreStatus.COERCION}
        self._open.count(association, stored=taken)
        self.metrics.answered(status, size, time.monotonic() - message.started)
        if not taken:
            logger.warning("instance from %s refused with 0x%04X: %s", association.calling_ae_title, status, comment)
        return status, comment

    def _commit(self, association: Association, message: IncomingMessage) -> tuple[int, str]:
        sink = cast("HeldDataSet | None", message.sink)
        if self._desk is None:
            return _PROCESSING_FAILURE, "storage commitment is not offered"

        def report(event_type_id: int, information: Dataset) -> bool:
            sop = (STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE)
            return association.report(sop, event_type_id, information)

        try:
            information = _decode(sink, message.context.transfer_syntax)
            return self._desk.take(message.command.action_type_id, information, association.calling_ae_title, report)
        except Exception as error:  # noqa: BLE001  the peer needs a status, whatever the bytes do to the decoder
            comment = f"request cannot be decoded ({type(error).__name__})"
            logger.warning("storage commitment for %s not taken: %s", association.calling_ae_title, comment)
            return _PROCESSING_FAILURE, comment

    def _hear_report(self, association: Association, message: IncomingMessage) -> tuple[int, str]:
        """Take an N-EVENT-REPORT (PS3.4 J.3.3); one that nobody waits for is taken too, or it would come for ever."""
        peer = association.calling_ae_title
        if self._take_report is None:
            return _PROCESSING_FAILURE, "storage commitment is not asked for"
        try:
            information = _decode(cast("HeldDataSet | None", message.sink), message.context.transfer_syntax)
            report = read_report(message.command.event_type_id, information)
            if not self._take_report(report):
                logger.info("storage commitment %s of %s: not awaited any more", report.transaction_uid, peer)
        except FewshotNodeError as error:
            logger.warning("storage commitment report of %s not taken: %s", peer, error)
            return _PROCESSING_FAILURE, "report not taken"
        except Exception as error:  # noqa: BLE001  the peer needs a status, whatever the bytes do to the decoder
            comment = f"report cannot be decoded ({type(error).__name__})"
            logger.warning("storage commitment report of %s not taken: %s", peer, comment)
            return _PROCESSING_FAILURE, comment
        return StoreStatus.SUCCESS, ""

    def _take(self, connection: socket.socket, address: str) -> None:
        """Serve a connection in a thread of its own, if it may connect at all."""
        if not self._is_allowed(address):
            logger.warning("connection from %s refused: not one of receive.source_addresses", address)
            self.metrics.rejected("address")
            connection.close()
            return
        threading.Thread(target=self._serve, args=(connection, address), name="association", daemon=True).start()

    def _is_allowed(self, address: str) -> bool:
        allowed = self._settings.source_addresses
        source = ipaddress.ip_address(address.partition("%")[0])
        mapped = getattr(source, "ipv4_mapped", None) or source  # an IPv6 socket shows IPv4 peers so
        return not allowed or any(mapped in network for network in allowed)

    def _serve(self, connection: socket.socket, address: str) -> None:
        association = Association(PeerStream(connection, self._tls), address, self, self._limits)
        in_the_way = self._open.begin(association)
        if in_the_way is not None:
            in_the_way.interrupt()
        try:
            association.run()
        finally:
            feed = self._open.end(association)
            if feed.is_admitted:
                self.metrics.association_closed()
            elif association.request is None:
                self.metrics.rejected("no_request" if association.is_secure else "tls")
            if feed.stored + feed.refused:
                logger.info(
                    "association from %s ended: %d instances stored, %d refused, %.1f s",
                    *(association.calling_ae_title, feed.stored, feed.refused, time.monotonic() - feed.started),
                )

    def _end_all(self) -> None:
        """Abort what is open, and wait until it has ended."""
        deadline = time.monotonic() + _STOP_S
        while (still_open := self._open.snapshot()) and time.monotonic() < deadline:
            for association in still_open:
                association.interrupt()
            time.sleep(0.02)


def _decode(sink: HeldDataSet | None, transfer_syntax: str) -> Dataset | None:
    """Decode a small data set of a request; None when there is none, or too much of it.

    A decoded item takes a hundred times the memory of an encoded empty one, so they are counted first.
    """
    content = None if sink is None else sink.content
    if content is None or content.count(_ITEM_TAG) > MOST_REFERENCES:
        return None
    return decode(BytesIO(content), transfer_syntax == IMPLICIT_VR_LITTLE_ENDIAN, True)
