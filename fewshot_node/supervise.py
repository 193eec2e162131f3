"""The processes of a node on one machine: started together, restarted when they die, stopped together."""

import ctypes
import logging
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from fewshot_node.errors import ConfigurationError, PortInUseError

logger = logging.getLogger(__name__)

EXIT_UNUSABLE = 78
"""Exit status of a process that would fail again in the same way (sysexits' EX_CONFIG)."""

_STOP_GRACE_S = 10.0
_MAX_BACKOFF_S = 30.0
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One child process; its output is appended to `log`, or shared with this process when None."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    log: Path | None = None


def require_free_port(host: str, port: int, setting: str) -> None:
    """Raise PortInUseError, naming the setting to change, when a TCP port is taken."""
    if port == 0:
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            message = f"{host}:{port} cannot be listened on ({error.strerror}): free it or change {setting}"
            raise PortInUseError(message) from error


def free_port() -> int:
    """Return a TCP port on loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(url: str, timeout_s: float = 5.0) -> bool:
    """Tell whether an HTTP server answers at this address, and with success."""
    try:
        return httpx.get(url, timeout=timeout_s).is_success
    except (httpx.HTTPError, httpx.InvalidURL):
        return False


class Supervisor:
    """Keeps a set of processes running until it is stopped."""

    def __init__(self, specs: Sequence[ProcessSpec]) -> None:
        self._specs = tuple(specs)
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._deaths: dict[str, int] = {}
        self._not_before: dict[str, float] = {}

    def __enter__(self) -> "Supervisor":
        for spec in self._specs:
            self._start(spec)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def pid(self, name: str) -> int:
        """Process id of a running child."""
        return self._running[name].pid

    def run(self, stop: threading.Event, poll_s: float = 0.5) -> None:
        """Restart what dies until `stop` is set.

        Raises
        ------
        ConfigurationError
            A child ended with `EXIT_UNUSABLE`: restarting it cannot help.
        """
        while not stop.wait(poll_s):
            self.restart_dead()

    def restart_dead(self) -> None:
        """Start every child again that has ended and whose back-off is over."""
        for spec in self._specs:
            if self._running[spec.name].poll() is None:
                continue
            if spec.name not in self._not_before:
                self._note_death(spec)
            if time.monotonic() >= self._not_before[spec.name]:
                del self._not_before[spec.name]
                self._start(spec)

    def stop(self) -> None:
        """Ask every child to end, and kill what has not ended in time."""
        for child in reversed(self._running.values()):
            _signal_group(child, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_GRACE_S
        for child in self._running.values():
            try:
                child.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                logger.warning("process %d did not end in %g s: killing it", child.pid, _STOP_GRACE_S)
            _signal_group(child, signal.SIGKILL)
            child.wait()

    def _start(self, spec: ProcessSpec) -> None:
        environment = {**os.environ, **spec.environment}
        output = None if spec.log is None else spec.log.open("ab")
        try:
            self._running[spec.name] = subprocess.Popen(  # noqa: S603  our own commands, no shell
                list(spec.command),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if output else None,
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509  a single prctl call, safe before exec
            )
        finally:
            if output:
                output.close()

    def _note_death(self, spec: ProcessSpec) -> None:
        status = self._running[spec.name].returncode
        if status == EXIT_UNUSABLE:
            where = f" in {spec.log}" if spec.log else " above"
            message = f"{spec.name} cannot run with these settings; its message stands{where}"
            raise ConfigurationError(message)
        deaths = self._deaths[spec.name] = self._deaths.get(spec.name, 0) + 1
        wait_s = min(_MAX_BACKOFF_S, 0.5 * 2 ** (deaths - 1))
        self._not_before[spec.name] = time.monotonic() + wait_s
        logger.warning("%s ended with status %s; starting it again in %g s", spec.name, status, wait_s)


def _die_with_parent() -> None:
    """Ask the kernel to end this child when its parent dies, even by kill -9 (Linux only)."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "prctl"):
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _signal_group(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    try:
        os.killpg(child.pid, number)
    except ProcessLookupError:
        return
