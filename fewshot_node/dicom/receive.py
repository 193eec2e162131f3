"""The receiver: Verification and Storage SCP (PS3.4 A, B) in front of the spool.

An instance is answered with success only after it is synced and renamed into the spool. Anything that goes
wrong with one instance becomes a status (PS3.4 B.2.3) in `Receiver._on_store`, and the association goes on.
"""

import errno
import logging
import threading
import time
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, cast

from pydicom.dataset import Dataset
from pynetdicom import ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.events import Event
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]
from pynetdicom.transport import ThreadedAssociationServer

from fewshot_node.config import ReceiveSettings
from fewshot_node.dicom.identity import InstanceIdentity, read_identity
from fewshot_node.dicom.incoming import IncomingInstance, ReceivedFile, StreamingDimse
from fewshot_node.dicom.ledger import Ledger, utc_now
from fewshot_node.dicom.spool import Placement, Spool
from fewshot_node.dicom.store_status import StoreStatus, answer
from fewshot_node.errors import (
    ConfigurationError,
    FewshotNodeError,
    NotDicomError,
    PortInUseError,
    RefusedError,
    RetryableError,
)

_LOGGER = logging.getLogger(__name__)
_MAXIMUM_PDU_BYTES = 131072
_MEGABYTE = 2**20


@dataclass(slots=True)
class _Feed:
    """What one association has sent so far."""

    started: float = field(default_factory=time.monotonic)
    stored: int = 0
    refused: int = 0
    series_instance_uid: str | None = None
    """The series of the newest instance."""


class Receiver:
    """DICOM Storage SCP that fills a spool and tells the ledger.

    `start` sweeps what an earlier run left unfinished, brings the ledger up to the spool, and listens.
    """

    def __init__(self, settings: ReceiveSettings, spool: Spool, ledger: Ledger) -> None:
        self._settings = settings
        self._spool = spool
        self._ledger = ledger
        self._feeds: dict[Association, _Feed] = {}
        self._feeds_lock = threading.Lock()
        self._running = ExitStack()
        self._port = settings.port

    @property
    def port(self) -> int:
        """The port that is listened on; the real one after `start` when the settings say 0."""
        return self._port

    def start(self) -> None:
        """Begin to listen.

        Raises
        ------
        PortInUseError
            Another process listens on the port.
        ConfigurationError
            The address is not this machine's, or another receiver uses the spool.
        """
        with ExitStack() as starting:
            starting.enter_context(self._spool.receiving())
            swept = self._spool.sweep()
            rebuilt = self._ledger.rebuild(self._spool)
            entity = self._entity()
            server = self._listen(entity)
            self._port = int(server.server_address[1])
            starting.callback(self._spool.sweep)  # of what the shutdown interrupts
            starting.callback(_shut_down, server)
            self._running = starting.pop_all()
        _LOGGER.info(
            "receiver %s listens on %s:%d; %d unfinished files swept, %d series brought into the ledger",
            *(self._settings.ae_title, self._settings.host, self._port, swept, rebuilt),
        )

    def stop(self) -> None:
        """Abort what is open and stop listening; harmless when not started."""
        self._running.close()

    def __enter__(self) -> "Receiver":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def busy_series(self) -> Collection[str]:
        """Return the series that open associations are feeding.

        An association feeds the series of its newest instance. One that has gone on to another series
        leaves the earlier to its quiet period, or a sender that never hangs up would keep it from ever
        being complete.
        """
        with self._feeds_lock:
            self._feeds = {peer: feed for peer, feed in self._feeds.items() if _is_open(peer)}
            return {feed.series_instance_uid for feed in self._feeds.values() if feed.series_instance_uid}

    def _entity(self) -> ApplicationEntity:
        entity = ApplicationEntity(self._settings.ae_title)
        entity.require_called_aet = self._settings.require_called_ae_title
        entity.require_calling_aet = list(self._settings.calling_ae_titles)
        entity.maximum_associations = self._settings.max_associations
        entity.maximum_pdu_size = _MAXIMUM_PDU_BYTES
        entity.add_supported_context(Verification)
        for context in AllStoragePresentationContexts:
            entity.add_supported_context(cast("str", context.abstract_syntax), ALL_TRANSFER_SYNTAXES)
        return entity

    def _listen(self, entity: ApplicationEntity) -> ThreadedAssociationServer:
        address = (self._settings.host, self._settings.port)
        handlers: list[Any] = [
            (evt.EVT_CONN_OPEN, self._on_open),
            (evt.EVT_REQUESTED, _prefer_as_proposed),
            (evt.EVT_C_STORE, self._on_store),
            (evt.EVT_REJECTED, _on_rejected),
            (evt.EVT_RELEASED, self._on_end),
            (evt.EVT_ABORTED, self._on_end),
            (evt.EVT_CONN_CLOSE, self._on_end),
        ]
        try:
            server = entity.start_server(address, block=False, evt_handlers=handlers)
            return cast("ThreadedAssociationServer", server)
        except OSError as error:
            where = f"{address[0]}:{address[1]}"
            if error.errno == errno.EADDRINUSE:
                message = f"{where} is in use by another process: stop it or set another receive.port"
                raise PortInUseError(message) from error
            message = f"cannot listen on {where} ({error.strerror}): check receive.host and receive.port"
            raise ConfigurationError(message) from error

    def _on_open(self, event: Event) -> None:
        min_free_bytes = self._settings.min_free_mb * _MEGABYTE
        event.assoc.dimse = StreamingDimse(event.assoc, self._spool, min_free_bytes, self._settings.ae_title)
        with self._feeds_lock:
            self._feeds[event.assoc] = _Feed()

    def _on_end(self, event: Event) -> None:
        """Clean up after an association; whichever event of its end comes first does it."""
        if event.event is evt.EVT_CONN_CLOSE and isinstance(event.assoc.dimse, StreamingDimse):
            event.assoc.dimse.drop_unfinished()
        with self._feeds_lock:
            feed = self._feeds.pop(event.assoc, None)
        if feed is not None and feed.stored + feed.refused:
            _LOGGER.info(
                "association from %s ended: %d instances stored, %d refused, %.1f s",
                *(_calling(event), feed.stored, feed.refused, time.monotonic() - feed.started),
            )

    def _on_store(self, event: Event) -> Dataset:
        """Answer one C-STORE request; every failure ends here as a status."""
        request = cast("C_STORE", event.request)
        try:
            incoming = cast("IncomingInstance", request._dataset_file)
            received = incoming.finish(str(event.context.transfer_syntax))
            status, comment = self._take(event, received)
        except (RefusedError, RetryableError, ConfigurationError) as error:
            status, comment = StoreStatus.OUT_OF_RESOURCES, _refusal(error)
        except NotDicomError as error:
            status, comment = StoreStatus.CANNOT_UNDERSTAND, str(error)
        except Exception as error:  # noqa: BLE001  the peer needs a status, whatever happened
            # Only the kind: the text of a foreign exception can hold values of the data set.
            status, comment = StoreStatus.PROCESSING_FAILURE, f"internal error {type(error).__name__}"
        self._count(event, status, comment)
        return answer(status, comment)

    def _take(self, event: Event, received: ReceivedFile) -> tuple[StoreStatus, str]:
        identity = read_identity(received.path, received.dataset_offset, received.transfer_syntax_uid)
        request = cast("C_STORE", event.request)
        command = (request.AffectedSOPClassUID, request.AffectedSOPInstanceUID)
        if command != (identity.sop_class_uid, identity.sop_instance_uid):
            return StoreStatus.MISMATCH, "SOP UIDs of command and data set differ"
        with self._feeds_lock:
            self._feeds.setdefault(event.assoc, _Feed()).series_instance_uid = identity.series_instance_uid
        placement = self._spool.place(received.path, received.dataset_offset, identity)
        if placement == Placement.STORED:
            self._note(event, identity, received.size)
            return StoreStatus.SUCCESS, ""
        return self._repeated(identity, placement)

    def _note(self, event: Event, identity: InstanceIdentity, size: int) -> None:
        uids = (identity.series_instance_uid, identity.study_instance_uid)
        self._ledger.note_instance(*uids, _calling(event), size, utc_now())

    def _repeated(self, identity: InstanceIdentity, placement: Placement) -> tuple[StoreStatus, str]:
        """Answer for an instance that the spool had before.

        A changed data set under a known UID gets the warning B000: what this node goes on to use under
        the UID differs from what was sent. B007 would say that the data set does not fit its SOP Class,
        and a failure would make a sender try again for ever.
        """
        series_uid = identity.series_instance_uid
        if placement == Placement.CONFLICT:
            text = f"instance {identity.sop_instance_uid} came again with other content; the first one is used"
            self._ledger.note_warning(series_uid, text, utc_now())
            _LOGGER.warning("series %s: %s", series_uid, text)
            return StoreStatus.COERCION, "another object has this SOP Instance UID; the first is used"
        spooled = self._spool.series(series_uid)
        if spooled is not None:
            # The first time round the ledger may have been out of reach.
            self._ledger.reconcile(spooled, self._spool)
        return StoreStatus.SUCCESS, ""

    def _count(self, event: Event, status: StoreStatus, comment: str) -> None:
        taken = status in {StoreStatus.SUCCESS, StoreStatus.COERCION}
        with self._feeds_lock:
            feed = self._feeds.setdefault(event.assoc, _Feed())
            feed.stored += taken
            feed.refused += not taken
        if not taken:
            _LOGGER.warning("instance from %s refused with 0x%04X: %s", _calling(event), status, comment)


def _shut_down(server: ThreadedAssociationServer) -> None:
    """Stop listening and abort what is established.

    `ApplicationEntity.shutdown` also aborts associations that are just ending, which pynetdicom's state
    machine does not allow: its thread dies with a traceback.
    """
    server.shutdown()
    for association in server.active_associations:
        if association.is_established:
            association.abort()


def _is_open(association: Association) -> bool:
    return association.ident is None or association.is_alive()


def _on_rejected(event: Event) -> None:
    called = getattr(event.assoc.requestor.primitive, "called_ae_title", "")
    _LOGGER.warning("association from %s to %s rejected", _calling(event), called)


def _calling(event: Event) -> str:
    return str(event.assoc.requestor.ae_title).strip()


def _refusal(error: FewshotNodeError) -> str:
    """Say to the peer what to do; paths are for the log of this node."""
    _LOGGER.error("instance refused: %s", error)
    return "node is out of resources; send again later"


def _prefer_as_proposed(event: Event) -> None:
    """Accept the transfer syntax that the requestor names first.

    pynetdicom goes by the acceptor's order, which would make a sender decompress that offers its images
    compressed and, as the last resort, uncompressed. The contexts are the association's own copies.
    """
    primitive = event.assoc.requestor.primitive
    proposed: dict[str, dict[str, None]] = {}
    for context in getattr(primitive, "presentation_context_definition_list", ()):
        syntaxes = proposed.setdefault(str(context.abstract_syntax), {})
        syntaxes.update(dict.fromkeys(str(syntax) for syntax in context.transfer_syntax))
    for supported in event.assoc.acceptor.supported_contexts:
        order = proposed.get(str(supported.abstract_syntax))
        if order:
            known: list[Any] = [syntax for syntax in order if syntax in supported.transfer_syntax]
            supported.transfer_syntax = known or list(supported.transfer_syntax)
