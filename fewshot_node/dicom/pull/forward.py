"""Instances that come over a C-GET, passed on to our own receiver by C-STORE, so that there is one way in.

A data set goes from the one association to the other as the bytes that it is: pynetdicom's own way would be
to decode and encode it again. It waits in a file between them, so that memory stays bounded.
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from io import BytesIO
from itertools import count
from pathlib import Path
from tempfile import TemporaryFile
from time import sleep
from typing import IO, Any, cast

from pydicom.uid import UID
from pynetdicom import build_context, evt
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ, DIMSEMessage
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu_primitives import P_DATA

from fewshot_node.config import PacsSettings, ReceiveSettings
from fewshot_node.dicom.association import SUCCESS, EventHandler, associate
from fewshot_node.errors import RefusedError, RetryableError

logger = logging.getLogger(__name__)
_FRAGMENT_BYTES = 2**17
_MOST_WAITING_PDUS = 16
_PDU_POLL_S = 0.001
_OUT_OF_RESOURCES = 0xA700
_NOT_SUPPORTED = 0x0122
_PROCESSING_FAILURE = 0x0110
_CANNOT_UNDERSTAND = 0xC000
_WARNING_CLASS = 0xB
_PDV_HEADER_BYTES = 6
_LAST, _NOT_LAST = b"\x02", b"\x00"  # message control headers of a data set (PS3.8 E.2)
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  what is listened on, and how it is called


def reachable_host(receive: ReceiveSettings) -> str:
    """Return the address that our own receiver is called at."""
    return _ANY_ADDRESS.get(receive.host, receive.host)


class WaitingDataset:
    """File object that pynetdicom writes the fragments of a data set to.

    Parameters
    ----------
    open_ones
        Holds this object while its file is open, for whoever has to close what is left over.
    """

    def __init__(self, folder: Path, open_ones: "set[WaitingDataset]") -> None:
        self._folder = folder
        self._open_ones = open_ones
        self._file: IO[bytes] | None = None
        self.problem: OSError | None = None

    @property
    def file(self) -> "WaitingDataset":
        """The object that pynetdicom flushes after each fragment."""
        return self

    @property
    def is_empty(self) -> bool:
        """Whether nothing was written."""
        return self._file is None

    def flush(self) -> None:
        """Leave the buffer alone: the file is read by this process only."""

    def write(self, data: bytes) -> None:
        """Take one fragment; a full disk is remembered and not raised into pynetdicom's state machine."""
        try:
            if self.problem is None:
                self._opened().write(data)
        except OSError as error:
            self.problem = error

    def pieces(self, size: int) -> Iterator[tuple[bytes, bool]]:
        """Give the data set in pieces, and with each whether it is the last."""
        file = self._opened()
        rest = file.seek(0, os.SEEK_END)
        file.seek(0)
        while rest > 0:
            piece = file.read(size)
            rest -= len(piece)
            yield piece, rest <= 0

    def close(self) -> None:
        """Give the room back; the file has no name and is gone."""
        self._open_ones.discard(self)
        if self._file is not None:
            with suppress(OSError):  # a full disk does not take what is still in the buffer
                self._file.close()

    def _opened(self) -> IO[bytes]:
        if self._file is None:
            self._file = cast("IO[bytes]", TemporaryFile(dir=self._folder))  # noqa: SIM115  `close` does
            self._open_ones.add(self)
        return self._file


class WaitingDimse(DIMSEServiceProvider):
    """DIMSE provider of one association, whose incoming data sets wait in files."""

    def __init__(self, association: Association, make_waiting: Callable[[], WaitingDataset]) -> None:
        super().__init__(association)
        self._make_waiting = make_waiting

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take a P-DATA primitive; the first of a message prepares the file for its data set."""
        if self.message is None:
            self.message = DIMSEMessage()
            self.message._data_set_file = cast("Any", self._make_waiting())
        message, waiting = self.message, cast("WaitingDataset", self.message._data_set_file)
        super().receive_primitive(primitive)
        if self.message is None and not isinstance(message, C_STORE_RQ):
            waiting.close()  # the identifier of a final C-GET answer: nobody reads it


class Forwarder:
    """C-STORE SCP of a C-GET that asks our own receiver before it answers.

    Attributes
    ----------
    forwarded, refused
        How many instances our receiver took, and did not take.
    problem
        Why it cannot take any more now; from then on every instance is answered with 0xA700.
    """

    def __init__(self, receive: ReceiveSettings, pacs: PacsSettings, folder: Path) -> None:
        # In the name of the PACS, as in a C-MOVE: lists of who may send and rules hold for both ways alike.
        address = {"host": reachable_host(receive), "port": receive.port, "ae_title": receive.ae_title}
        self._peer = pacs.model_copy(update=address | {"calling_ae_title": pacs.ae_title})
        self._folder = folder
        self._numbers = count(1)
        self._waiting: set[WaitingDataset] = set()
        self._opened = ExitStack()
        self._association: Association | None = None
        self.forwarded = 0
        self.refused = 0
        self.problem: RefusedError | None = None

    @property
    def handlers(self) -> tuple[EventHandler, ...]:
        """What the association with the PACS is to be opened with."""
        return ((evt.EVT_CONN_OPEN, self._prepare), (evt.EVT_C_STORE, self._on_store))

    def close(self) -> None:
        """Release the association with our receiver, and give back the room of what was not forwarded."""
        self._opened.close()
        for dataset in tuple(self._waiting):
            dataset.close()

    def _prepare(self, event: evt.Event) -> None:
        event.assoc.dimse = WaitingDimse(event.assoc, lambda: WaitingDataset(self._folder, self._waiting))

    def _on_store(self, event: evt.Event) -> int:
        """Answer one C-STORE request of the PACS."""
        request = cast("C_STORE", event.request)
        dataset = cast("WaitingDataset", request._dataset_file)
        try:
            status = _OUT_OF_RESOURCES if self.problem else self._forward(event.assoc, request, dataset)
        except RefusedError as error:
            self.problem, status = error, _OUT_OF_RESOURCES
        except Exception as error:  # noqa: BLE001  the PACS needs a status, whatever happened
            # Only the kind: the text of a foreign exception can hold values of the data set.
            logger.warning("instance not forwarded: internal error %s", type(error).__name__)
            status = _PROCESSING_FAILURE
        finally:
            dataset.close()
        taken = status == SUCCESS or status >> 12 == _WARNING_CLASS
        self.forwarded += taken
        self.refused += not taken
        return status

    def _forward(self, pacs: Association, request: C_STORE, dataset: WaitingDataset) -> int:
        if dataset.problem is not None:
            reason = dataset.problem.strerror
            raise RefusedError(f"{self._folder} does not take an instance ({reason}): free disk space")
        if dataset.is_empty:
            return _CANNOT_UNDERSTAND
        association = self._receiver(pacs)
        context = pacs._accepted_cx[request._context_id or 0]
        syntax = context.transfer_syntax[0]
        wanted = (context.abstract_syntax, syntax)
        accepted = {(one.abstract_syntax, one.transfer_syntax[0]): one for one in association.accepted_contexts}
        if wanted not in accepted:
            class_name = UID(str(context.abstract_syntax)).name
            logger.warning("%s does not accept %s in %s", self._name, class_name, syntax.name)
            return _NOT_SUPPORTED
        status = self._store(association, accepted[wanted].context_id or 0, request, dataset)
        if status >> 8 == _OUT_OF_RESOURCES >> 8:
            message = f"{self._name} is out of resources (0x{status:04X}): free disk space, and look at its log"
            raise RefusedError(message)
        return status

    def _receiver(self, pacs: Association) -> Association:
        """Return the association with our receiver; it is opened again when it ended in a pause of the PACS."""
        if self._association is None or not self._association.is_established:
            self._opened.close()
            contexts = [
                build_context(str(one.abstract_syntax), one.transfer_syntax[0])
                for one in pacs.accepted_contexts
                if one.as_scp
            ]
            try:
                self._association = self._opened.enter_context(associate(self._peer, contexts))
            except RetryableError as error:
                raise self._unreachable() from error
        return self._association

    def _store(self, association: Association, context_id: int, request: C_STORE, dataset: WaitingDataset) -> int:
        """Send one data set as it is, and return the status (as `Association.send_c_store` does)."""
        command = C_STORE()
        command.MessageID = next(self._numbers) % 2**16
        command.AffectedSOPClassUID = request.AffectedSOPClassUID
        command.AffectedSOPInstanceUID = request.AffectedSOPInstanceUID
        command.Priority = request.Priority
        command.DataSet = BytesIO()
        message = C_STORE_RQ()
        message.primitive_to_message(command)
        longest = association.dimse.maximum_pdu_size or _FRAGMENT_BYTES
        association._reactor_checkpoint.clear()  # or the association's own thread takes the answer
        while not association._is_paused:
            if not association.is_alive():  # it ended just now, and will never pause
                raise self._unreachable()
            sleep(_PDU_POLL_S)
        for primitive in message.encode_msg(context_id, longest):
            association.dul.send_pdu(primitive)
        for piece, is_last in dataset.pieces(min(longest, _FRAGMENT_BYTES) - _PDV_HEADER_BYTES):
            _send_piece(association, context_id, (_LAST if is_last else _NOT_LAST) + piece)
        _, answer = association.dimse.get_msg(block=True)
        association._reactor_checkpoint.set()
        if not isinstance(answer, C_STORE) or answer.Status is None:
            association.abort()
            raise self._unreachable()
        return int(answer.Status)

    def _unreachable(self) -> RefusedError:
        caller = self._peer.calling_ae_title
        remedy = f"start `fewshot-node serve`, and see that it lets {caller} send (receive.calling_ae_titles)"
        return RefusedError(f"{self._name} takes no association from {caller} or ended it: {remedy}")

    @property
    def _name(self) -> str:
        return f"our receiver {self._peer.ae_title} at {self._peer.host}:{self._peer.port}"


def _send_piece(association: Association, context_id: int, fragment: bytes) -> None:
    """Send a fragment of a data set once few are waiting: pynetdicom would keep the whole in its queue."""
    while association.dul.to_provider_queue.qsize() >= _MOST_WAITING_PDUS and association.is_established:
        sleep(_PDU_POLL_S)
    primitive = P_DATA()
    primitive.presentation_data_value_list.append((context_id, fragment))
    association.dul.send_pdu(primitive)
