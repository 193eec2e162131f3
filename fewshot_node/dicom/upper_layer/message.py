"""One DIMSE message on its way in: a command set, then fragments of a data set (PS3.7 6.3, PS3.8 Annex E)."""

import time
from typing import Protocol

from fewshot_node.dicom.upper_layer.command import Command, decode_command
from fewshot_node.dicom.upper_layer.negotiation import AcceptedContext
from fewshot_node.errors import ProtocolError

LONGEST_COMMAND_BYTES = 16384
_LONGEST_HELD_BYTES = 5 * 2**20


class Sink(Protocol):
    """Where the data set of a message goes."""

    def write(self, data: memoryview) -> None:
        """Take the next bytes, valid during the call only; must not raise."""

    def close(self) -> None:
        """Let go of everything that nobody has taken away; called once, whatever happened."""


class HeldDataSet:
    """Sink that holds a small data set in memory; of one that is too long nothing is kept."""

    def __init__(self) -> None:
        self._content: bytearray | None = bytearray()

    @property
    def content(self) -> bytes | None:
        """The encoded data set; None when it was too long."""
        return None if self._content is None else bytes(self._content)

    def write(self, data: memoryview) -> None:
        """Take the next bytes."""
        if self._content is not None:
            self._content += data
            if len(self._content) > _LONGEST_HELD_BYTES:
                self._content = None

    def close(self) -> None:
        """Nothing to let go of."""


class IncomingMessage:
    """Collects the command set of one message, and knows where its data set goes."""

    def __init__(self, context: AcceptedContext) -> None:
        self.context = context
        self.sink: Sink | None = None
        self.started = time.monotonic()
        self._encoded = bytearray()
        self._command: Command | None = None

    @property
    def command(self) -> Command:
        """The decoded command set.

        Raises
        ------
        ProtocolError
            It has not come as a whole yet.
        """
        if self._command is None:
            raise ProtocolError("a data set came before its command set")
        return self._command

    def add_command(self, fragment: bytes, *, is_last: bool) -> None:
        """Take a fragment of the command set.

        Raises
        ------
        ProtocolError
            It is too long, is no command set, or was complete before.
        """
        self._encoded += fragment
        if self._command is not None or len(self._encoded) > LONGEST_COMMAND_BYTES:
            raise ProtocolError("a command set goes on after its end, or is too long")
        if is_last:
            self._command = decode_command(bytes(self._encoded))

    def close(self) -> None:
        """Let go of a data set that nobody has taken away."""
        if self.sink is not None:
            self.sink.close()
