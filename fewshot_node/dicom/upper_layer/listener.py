"""Listening for connections: one thread that accepts them and does nothing else."""

import logging
import socket
import threading
from collections.abc import Callable
from contextlib import suppress

from fewshot_node.dicom.listening import listening_on
from fewshot_node.dicom.running import Running

logger = logging.getLogger(__name__)
_BACKLOG = 256
_WITHOUT_DESCRIPTORS_S = 0.2


class Listener(Running):
    """Accepts connections and hands each over, with the address that it comes from.

    Parameters
    ----------
    take
        Takes a connection; must return at once.

    Raises
    ------
    PortInUseError
        Another process listens on the port.
    ConfigurationError
        The address is not this machine's.
    """

    def __init__(self, host: str, port: int, take: Callable[[socket.socket, str], None]) -> None:
        self._socket = _listen(host, port)
        self._take = take
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="listener", daemon=True)

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._socket.getsockname()[1])

    @property
    def is_alive(self) -> bool:
        """Whether connections are being accepted."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to accept."""
        self._thread.start()

    def stop(self) -> None:
        """Close the socket that is listened on; what was handed over goes on."""
        self._stopping.set()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread
        if self._thread.is_alive():
            self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                connection, address = self._socket.accept()
            except OSError as error:
                if not self._stopping.is_set():  # out of descriptors, or a peer that was quick to leave
                    logger.warning("a connection could not be accepted: %s", error.strerror)
                    self._stopping.wait(_WITHOUT_DESCRIPTORS_S)
                continue
            # An answer is small and waited for: Nagle's algorithm would hold it back for 40 ms.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            self._take(connection, str(address[0]))


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    both = host == "::" and socket.has_dualstack_ipv6()
    with listening_on(host, port, "receive"):
        return socket.create_server((host, port), family=family, backlog=_BACKLOG, dualstack_ipv6=both)
