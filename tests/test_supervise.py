"""Processes: started, restarted, stopped, and none left behind."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psutil
import pytest

from fewshot_node.errors import ConfigurationError, PortInUseError
from fewshot_node.supervise import EXIT_UNUSABLE, ProcessSpec, Supervisor, answers, require_free_port

WAIT_S = 20.0


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.02)


def sleeper(tmp_path: Path, name: str = "sleeper") -> ProcessSpec:
    code = f"import os,time; open({str(tmp_path / name)!r}, 'a').write(f'{{os.getpid()}}\\n'); time.sleep(600)"
    return ProcessSpec(name, [sys.executable, "-c", code])


def starts(tmp_path: Path, name: str = "sleeper") -> list[int]:
    path = tmp_path / name
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def test_a_killed_child_is_started_again(tmp_path: Path) -> None:
    with Supervisor([sleeper(tmp_path)]) as supervisor:
        until(lambda: len(starts(tmp_path)) == 1)
        os.kill(starts(tmp_path)[0], signal.SIGKILL)
        until(lambda: (supervisor.restart_dead(), len(starts(tmp_path)) == 2)[1])
        assert supervisor.pid("sleeper") == starts(tmp_path)[1]
    assert not psutil.pid_exists(starts(tmp_path)[1])


def test_a_child_that_cannot_run_is_not_started_for_ever(tmp_path: Path) -> None:
    spec = ProcessSpec("bad", [sys.executable, "-c", f"raise SystemExit({EXIT_UNUSABLE})"], log=tmp_path / "log")
    with Supervisor([spec]) as supervisor, pytest.raises(ConfigurationError, match=r"bad cannot run.*log"):
        until(lambda: bool(supervisor.restart_dead()))


def test_a_deaf_child_and_its_own_child_are_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fewshot_node.supervise._STOP_GRACE_S", 0.5)
    code = (
        "import os,signal,subprocess,sys,time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import signal,time;"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)'])\n"
        f"open({str(tmp_path / 'pids')!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        "time.sleep(600)\n"
    )
    with Supervisor([ProcessSpec("deaf", [sys.executable, "-c", code])]):
        until(lambda: len((tmp_path / "pids").read_text().split()) == 2 if (tmp_path / "pids").exists() else False)
    for pid in (tmp_path / "pids").read_text().split():
        until(lambda pid=pid: not psutil.pid_exists(int(pid)) or psutil.Process(int(pid)).status() == "zombie")


def test_children_end_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    script = (
        "import sys,time\n"
        "from fewshot_node.supervise import ProcessSpec, Supervisor\n"
        f"code = \"import os,time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(600)\"\n"
        "with Supervisor([ProcessSpec('child', [sys.executable, '-c', code])]):\n"
        "    time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script])
    until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text() != "")
    child = int((tmp_path / "pid").read_text())
    parent.kill()
    parent.wait()
    until(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == "zombie")


def test_a_taken_port_is_named_with_the_setting_to_change() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortInUseError, match=rf"127\.0\.0\.1:{port} .* change receive\.port"):
            require_free_port("127.0.0.1", port, "receive.port")


@pytest.mark.parametrize(("status", "expected"), [(200, True), (503, False)])
def test_a_server_answers_when_it_answers_with_success(status: int, expected: bool) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        assert answers(f"http://127.0.0.1:{server.server_port}/health") is expected
        thread.join()


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/health", "no address", "http://[", "ftp://127.0.0.1/"])
def test_no_server_and_no_address_do_not_answer(url: str) -> None:
    assert answers(url, timeout_s=1.0) is False
