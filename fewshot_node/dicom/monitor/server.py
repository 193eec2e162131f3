"""``/healthz`` and ``/metrics`` over HTTP, for Prometheus and whatever restarts the receiver.

The server shares the receiver's process, so whoever talks to it must not be able to harm the intake: a fixed
number of connections, each with a short time for its request and one answer; when all are taken the oldest
makes room. What is asked of spool and ledger is asked at most once a second.
"""

import json
import logging
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from typing import Any, cast

from prometheus_client.exposition import CONTENT_TYPE_LATEST

from fewshot_node.config import MonitorSettings
from fewshot_node.dicom.listening import listening_on
from fewshot_node.dicom.monitor.health import OK, Check, Health
from fewshot_node.dicom.monitor.metrics import IntakeMetrics
from fewshot_node.dicom.running import Running

logger = logging.getLogger(__name__)

MAX_CONNECTIONS = 16
REQUEST_S = 3.0
"""How long a client may take for its request, and again for taking the answer."""
_LONGEST_HEAD = 16384
_MAKE_ROOM_S = 0.5

Page = Callable[[], tuple[HTTPStatus, str, bytes]]
"""Gives the status, the content type and the body of an answer."""


class MonitorServer(Running):
    """Serves health and metrics while the context is entered; without a port it does nothing.

    Parameters
    ----------
    checks
        What ``/healthz`` answers with 503 for, by name: see `fewshot_node.dicom.monitor.health.intake_checks`.
    """

    def __init__(self, settings: MonitorSettings, metrics: IntakeMetrics, checks: Mapping[str, Check]) -> None:
        self._settings = settings
        self._metrics = metrics
        self._health = Health(checks)
        self._server: _Server | None = None

    @property
    def port(self) -> int | None:
        """The port that is listened on, the real one when the settings say 0; None when nothing is served."""
        return None if self._server is None else int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to listen.

        Raises
        ------
        PortInUseError
            Another process listens on the port.
        ConfigurationError
            The address is not this machine's.
        """
        if self._settings.port is None:
            return
        self._server = _listen(self._settings, {"/metrics": self._show_metrics, "/healthz": self._show_health})
        threading.Thread(target=self._server.serve_forever, args=(0.1,), name="monitor", daemon=True).start()
        logger.info("health and metrics at http://%s:%s", self._settings.host, self.port)

    def stop(self) -> None:
        """Close the port; harmless when not started."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def _show_metrics(self) -> tuple[HTTPStatus, str, bytes]:
        return HTTPStatus.OK, CONTENT_TYPE_LATEST, self._metrics.text()

    def _show_health(self) -> tuple[HTTPStatus, str, bytes]:
        report = self._health.report()
        healthy = set(report.values()) <= {OK}
        body = json.dumps({"status": OK if healthy else "failing", "checks": report})
        status = HTTPStatus.OK if healthy else HTTPStatus.SERVICE_UNAVAILABLE
        return status, "application/json", body.encode()


def _listen(settings: MonitorSettings, pages: Mapping[str, Page]) -> "_Server":
    host, port = settings.host, settings.port or 0
    with listening_on(host, port, "monitor"):
        return _Server((host, port), pages)


class _Server(socketserver.ThreadingTCPServer):
    """A thread for each of a bounded number of connections.

    Not `http.server.HTTPServer`, which asks the name service for its own name before it listens.
    """

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128  # room for those that wait until the oldest has been dropped

    def __init__(self, address: tuple[str, int], pages: Mapping[str, Page]) -> None:
        self.pages = pages
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._connections: dict[socket.socket, None] = {}  # those that came first, first
        self._lock = threading.Lock()
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Exchange)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Begin to serve a connection; the oldest is dropped when there are too many."""
        if not self._free.acquire(blocking=False):
            self._drop(1)
            if not self._free.acquire(timeout=_MAKE_ROOM_S):
                self.shutdown_request(request)
                return
        with self._lock:
            self._connections[request] = None
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no more threads can be started
            self._leave(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one connection to its end."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._leave(request)

    def server_close(self) -> None:
        """Stop listening and end what is open."""
        super().server_close()
        self._drop(MAX_CONNECTIONS)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Note a connection that failed; that clients go away or are too slow is no news."""
        error = sys.exc_info()[1]
        level = logging.DEBUG if isinstance(error, OSError) else logging.WARNING
        logger.log(level, "monitor connection ended by %s", type(error).__name__)

    def _leave(self, request: socket.socket) -> None:
        with self._lock:
            self._connections.pop(request, None)
        self._free.release()

    def _drop(self, count: int) -> None:
        with self._lock:
            for connection in list(self._connections)[:count]:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # it has ended by itself


class _Exchange(BaseHTTPRequestHandler):
    """One request and its answer."""

    timeout = REQUEST_S

    def setup(self) -> None:
        """Read the request as a whole: one deadline for all of it, not one for each byte."""
        super().setup()
        self.rfile.close()
        self.rfile = BytesIO(_read_head(self.connection))
        self.connection.settimeout(REQUEST_S)

    def handle(self) -> None:
        """Answer GET and HEAD of the pages that there are."""
        self.close_connection = True
        self.raw_requestline = self.rfile.readline()
        if not self.raw_requestline or not self.parse_request():
            return
        page = cast("_Server", self.server).pages.get(self.path.partition("?")[0])
        if self.command not in {"GET", "HEAD"}:
            self._answer(HTTPStatus.METHOD_NOT_ALLOWED, "text/plain", b"GET and HEAD only\n")
        elif page is None:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"/healthz and /metrics only\n")
        else:
            self._answer(*page())

    def _answer(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        if status is HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def version_string(self) -> str:
        """Name no versions of what runs here."""
        return "fewshot-node"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name that the base class has
        """Log nothing: scrapes are many, and their text is the client's."""


def _read_head(connection: socket.socket) -> bytes:
    """Read up to the end of the headers, the end of the stream, or the most that is taken."""
    end = time.monotonic() + REQUEST_S
    head = bytearray()
    while b"\r\n\r\n" not in head and b"\n\n" not in head and len(head) < _LONGEST_HEAD:
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)
        received = connection.recv(4096)
        if not received:
            break
        head += received
    return bytes(head)
