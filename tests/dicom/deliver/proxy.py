"""A TCP proxy between a node and its PACS that delays, cuts and duplicates, as it is told by number of connection."""

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Self

_CHUNK = 4096
_P_DATA = 0x04
_STORE_SUCCESS = re.compile(
    rb"\x00\x00\x00\x01\x02\x00\x00\x00\x01\x80.*\x00\x00\x00\x09\x02\x00\x00\x00\x00\x00", re.DOTALL
)
"""Command Field C-STORE-RSP and Status 0000."""
_STORE_REQUEST = re.compile(rb"\x00\x00\x00\x10.\x00\x00\x00([0-9.]+)", re.DOTALL)
"""Affected SOP Instance UID (0000,1000) of a command set: the node sends it in C-STORE requests only."""


@dataclass(frozen=True)
class Fault:
    """What happens to one connection.

    `cut_request` and `cut_answer` are the bytes after which it is cut, by direction; `cut_once_stored` cuts it when
    the PACS answers a C-STORE, so that the node never hears of it; `twice` repeats what the node said to the
    PACS over another connection.
    """

    delay_s: float = 0.0
    cut_request: int | None = None
    cut_answer: int | None = None
    cut_once_stored: bool = False
    twice: bool = False


NO_FAULT = Fault()


@dataclass
class Proxy:
    """Listens, and relays each connection with the fault that `plan` gives for its number."""

    target: int
    plan: Callable[[int], Fault] = lambda _number: NO_FAULT
    connections: int = 0
    cuts: int = 0
    said: list[bytearray] = field(default_factory=list)
    repeated: list[bytearray] = field(default_factory=list)
    port: int = 0
    is_open: bool = True
    _listener: socket.socket | None = None
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.05)
        self.port = self._listener.getsockname()[1]
        self._begin(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        listener, self._listener = self._listener, None
        for thread in self._threads:
            thread.join(10)
        assert listener is not None
        listener.close()

    def sent(self) -> list[str]:
        """SOP Instance UIDs of the C-STORE requests that reached the PACS, at least their commands."""
        return [uid for said in self.said for uid in _stored_by(said)]

    def stored_twice(self) -> list[str]:
        """SOP Instance UIDs of the C-STORE requests that the proxy repeated, if the PACS answered them."""
        return [uid for said in self.repeated for uid in _stored_by(said)]

    def _begin(self, target: Callable[..., None], *arguments: object) -> threading.Thread:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def _accept(self) -> None:
        while (listener := self._listener) is not None:
            try:
                near, _ = listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            if not self.is_open:
                near.close()
                continue
            self.connections += 1
            self._begin(self._relay, near, self.plan(self.connections))

    def _relay(self, near: socket.socket, fault: Fault) -> None:
        said = bytearray()
        self.said.append(said)
        near.settimeout(20)
        with near, socket.create_connection(("127.0.0.1", self.target), 20) as far:
            back = self._begin(self._hear, far, near, fault, said)
            self._speak(near, far, fault, said)
            back.join(20)
        if fault.twice:
            self._repeat(bytes(said))

    def _speak(self, near: socket.socket, far: socket.socket, fault: Fault, said: bytearray) -> None:
        """Relay what the node says."""

        def cut(data: bytes) -> int | None:
            limit = fault.cut_request
            return None if limit is None or len(said) + len(data) < limit else limit - len(said)

        self._pump(near, far, fault.delay_s, cut, said)

    def _hear(self, far: socket.socket, near: socket.socket, fault: Fault, said: bytearray) -> None:
        """Relay what the PACS says."""
        heard = bytearray()

        def cut(data: bytes) -> int | None:
            if fault.cut_once_stored and data[0] == _P_DATA and _stored_by(said):
                return 0
            limit = fault.cut_answer
            return None if limit is None or len(heard) + len(data) < limit else limit - len(heard)

        self._pump(far, near, fault.delay_s, cut, heard)

    def _pump(
        self,
        source: socket.socket,
        sink: socket.socket,
        delay_s: float,
        cut: Callable[[bytes], int | None],
        relayed: bytearray,
    ) -> None:
        with suppress(OSError):
            while data := source.recv(_CHUNK):
                time.sleep(delay_s)
                kept = cut(data)
                relayed.extend(data[:kept])
                sink.sendall(data[:kept])
                if kept is not None:
                    self.cuts += 1
                    break
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _repeat(self, said: bytes) -> None:
        """Say everything once more to the PACS, as something on the way might."""
        heard = bytearray()
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.target), 20) as far:
            far.settimeout(0.5)  # it may wait for what was not said; its threads are few
            far.sendall(said)
            while data := far.recv(_CHUNK):
                heard.extend(data)
        if _STORE_SUCCESS.search(bytes(heard)):
            self.repeated.append(bytearray(said))


def _stored_by(said: bytearray) -> list[str]:
    return [uid.decode() for uid in _STORE_REQUEST.findall(bytes(said))]


@contextmanager
def closed(proxy: Proxy, seconds: float) -> Iterator[None]:
    """Take no connection for a while."""
    proxy.is_open = False

    def reopen() -> None:
        time.sleep(seconds)
        proxy.is_open = True

    thread = threading.Thread(target=reopen, daemon=True)
    thread.start()
    yield
    thread.join()
