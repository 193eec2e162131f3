"""The bytes of one connection: read and written within a deadline, through one fixed buffer."""

import select
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import suppress

from fewshot_node.errors import PeerUnavailableError, ProtocolError

_BUFFER_BYTES = 2**18
_DRAIN_S = 2.0


class PeerStream:
    """What a peer sends, as a stream of bytes; nothing is read before it is asked for.

    Parameters
    ----------
    tls
        Context of the TLS server that the connection becomes with `secure`; None for a plain connection.

    Every method that reads or writes raises PeerUnavailableError when the peer has gone or its time is up.
    """

    def __init__(self, connection: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        self._connection = connection
        self._tls = tls
        self._buffer = bytearray(_BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0
        self._deadline = time.monotonic()

    def allow(self, seconds: float) -> None:
        """Give the reads and writes that follow so many seconds together."""
        self._deadline = time.monotonic() + seconds

    def secure(self) -> None:
        """Agree on TLS with the peer, where that is wanted.

        Raises
        ------
        PeerUnavailableError
            The peer has gone, or does not agree within the time that `allow` gave.
        """
        if self._tls is None:
            return
        try:
            self._connection.settimeout(self._remaining_s())
            self._connection = self._tls.wrap_socket(self._connection, server_side=True)
        except OSError as error:
            raise PeerUnavailableError(f"no TLS with the peer ({type(error).__name__})") from error

    def wait(self, seconds: float) -> bool:
        """Tell whether there is something to read, or the peer has gone, within so many seconds."""
        if self._start < self._end:
            return True
        if isinstance(self._connection, ssl.SSLSocket) and self._connection.pending():
            return True
        poll = select.poll()  # `select.select` cannot take descriptors above 1023
        poll.register(self._connection, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def read(self, size: int) -> bytes:
        """Read exactly `size` bytes."""
        return b"".join(bytes(chunk) for chunk in self.chunks(size))

    def chunks(self, size: int) -> Iterator[memoryview]:
        """Yield the next `size` bytes in pieces, each valid until the next is asked for."""
        while size:
            if self._start == self._end:
                self._fill()
            stop = min(self._end, self._start + size)
            chunk = self._view[self._start : stop]
            self._start, size = stop, size - len(chunk)
            yield chunk

    def send(self, data: bytes) -> None:
        """Write all of `data`.

        Raises
        ------
        PeerUnavailableError
            The peer has gone, or does not take it within the time that `allow` gave.
        """
        try:
            self._connection.settimeout(self._remaining_s())
            self._connection.sendall(data)
        except OSError as error:
            raise PeerUnavailableError("the peer takes nothing any more") from error

    def interrupt(self) -> None:
        """End a read that waits in another thread; what is written afterwards still goes out."""
        with suppress(OSError):
            # Not SSLSocket's own method, which drops the session that the other thread uses.
            socket.socket.shutdown(self._connection, socket.SHUT_RD)

    def close(self) -> None:
        """Close the connection after the peer has had time to read the last PDU (PS3.8 Sta13)."""
        with suppress(OSError):
            self.allow(_DRAIN_S)
            if isinstance(self._connection, ssl.SSLSocket):
                self._connection.settimeout(_DRAIN_S)
                self._connection.unwrap()
            else:
                self._connection.shutdown(socket.SHUT_WR)
                # Closing with unread data would reset the connection, and the peer lose our last PDU.
                while self._receive():
                    pass
        self._connection.close()

    def _fill(self) -> None:
        try:
            received = self._receive()
        except OSError as error:
            raise PeerUnavailableError(f"the peer is silent or lost ({type(error).__name__})") from error
        if not received:
            raise PeerUnavailableError("the peer closed the connection")
        self._start, self._end = 0, received

    def _receive(self) -> int:
        self._connection.settimeout(self._remaining_s())
        return self._connection.recv_into(self._buffer)

    def _remaining_s(self) -> float:
        remaining_s = self._deadline - time.monotonic()
        if remaining_s <= 0:
            raise TimeoutError
        return remaining_s


def read_bounded(stream: PeerStream, size: int, limit: int, what: str) -> bytes:
    """Read `size` bytes.

    Raises
    ------
    ProtocolError
        That is more than `limit`.
    PeerUnavailableError
        The peer has gone or its time is up.
    """
    if size > limit:
        raise ProtocolError(f"{what} of {size} bytes is longer than {limit}")
    return stream.read(size)
