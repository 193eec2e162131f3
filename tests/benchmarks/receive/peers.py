"""The processes of the benchmark: our receiver, dcmtk's storescp and storescu, Orthanc with its defaults."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.dicom.wire import AssociationEndedError, WireSender

START_S = 60.0
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"


@dataclass(frozen=True)
class Peer:
    """A listening process and the folder that it fills."""

    name: str
    process: subprocess.Popen[bytes]
    port: int
    home: Path
    http_port: int = 0

    @property
    def log(self) -> str:
        return (self.home / "log").read_text(errors="replace")

    def resident_bytes(self) -> int:
        """Add up the resident memory of the process and its children."""
        process = psutil.Process(self.process.pid)
        return sum(each.memory_info().rss for each in (process, *process.children(recursive=True)))

    def is_alive(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        """Kill -9 the whole process group."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def tool(name: str) -> str | None:
    return shutil.which(name, path=_PATH)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


@contextmanager
def receiver(home: Path, *, port: int = 0, prefix: Sequence[str] = (), **receive: Any) -> Iterator[Peer]:
    """Run ``fewshot-node receive``; `receive` are settings of that section, `prefix` a command to run it under."""
    home.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    settings = {"host": "127.0.0.1", "port": port, "quiet_period_s": 3600.0} | receive
    lines = [f"home = {json.dumps(str(home))}", "[receive]", *(f"{k} = {json.dumps(v)}" for k, v in settings.items())]
    (home / "node.toml").write_text("\n".join(lines) + "\n")
    command = [sys.executable, "-m", "fewshot_node", "--config", str(home / "node.toml"), "receive"]
    with _running("ours", [*prefix, *command], port, home) as peer:
        yield peer


@contextmanager
def storescp(home: Path, *, nodelay: bool) -> Iterator[Peer]:
    """Run dcmtk's storescp as it comes; `nodelay` sets dcmtk's own switch against Nagle's algorithm."""
    port = free_port()
    command = [tool("storescp") or "storescp", "-od", str(home / "stored"), str(port)]
    (home / "stored").mkdir(parents=True)
    with _running("storescp", command, port, home, _dcmtk_environment(nodelay)) as peer:
        yield peer


@contextmanager
def orthanc(home: Path, *, nodelay: bool) -> Iterator[Peer]:
    """Run Orthanc with its default settings but for ports and folders."""
    port, http_port = free_port(), free_port()
    home.mkdir(parents=True)
    settings = {
        "DicomPort": port,
        "HttpPort": http_port,
        "StorageDirectory": str(home / "storage"),
        "IndexDirectory": str(home / "storage"),
    }
    (home / "orthanc.json").write_text(json.dumps(settings))
    command = [tool("Orthanc") or "Orthanc", str(home / "orthanc.json")]
    with _running("orthanc", command, port, home, _dcmtk_environment(nodelay), http_port) as peer:
        yield peer


def orthanc_instances(peer: Peer) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{peer.http_port}/statistics", timeout=30) as answer:
        return int(json.load(answer)["CountInstances"])


def storescu(
    port: int, *paths: Path, nodelay: bool = True, calling: str = "STORESCU"
) -> "subprocess.CompletedProcess[str]":
    """Send files and folders with dcmtk."""
    command = [tool("storescu") or "storescu", "-aet", calling, "-aec", "FEWSHOT", "+sd", "127.0.0.1", str(port)]
    environment = _dcmtk_environment(nodelay)
    return subprocess.run([*command, *map(str, paths)], capture_output=True, text=True, timeout=300, env=environment)


def _dcmtk_environment(nodelay: bool) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name != "TCP_NODELAY"}
    return inherited | ({"TCP_NODELAY": "1"} if nodelay else {})


@contextmanager
def _running(
    name: str, command: list[str], port: int, home: Path, env: dict[str, str] | None = None, http_port: int = 0
) -> Iterator[Peer]:
    with (home / "log").open("ab") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=home, env=env, start_new_session=True
        )
    peer = Peer(name, process, port, home, http_port)
    try:
        _wait_until_served(peer)
        yield peer
    finally:
        _end(process)


def _wait_until_served(peer: Peer) -> None:
    """Return after the first C-ECHO that is answered."""
    deadline = time.monotonic() + START_S
    while True:
        try:
            with WireSender(peer.port, timeout_s=5.0) as sender:
                if sender.rejected is None and sender.echo() == 0:
                    sender.release()
                    return
        except AssociationEndedError:
            pass
        if not peer.is_alive() or time.monotonic() > deadline:
            raise RuntimeError(f"{peer.name} does not answer on port {peer.port}:\n{peer.log[-3000:]}")
        time.sleep(0.02)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process group, which is named by its first process, also when that one has ended."""
    for number, patience_s in ((signal.SIGTERM, 20.0), (signal.SIGKILL, 20.0)):
        try:
            os.killpg(process.pid, number)
            process.wait(patience_s)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    process.wait()
