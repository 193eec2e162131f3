"""The demonstration ends as it began: no process and no port left, also when it is interrupted."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.chain.running_node import wait_for

pytestmark = [pytest.mark.prefect, pytest.mark.timeout(300)]


def test_interrupting_leaves_no_process_and_no_port(tmp_path: Path) -> None:
    """In its middle: the PACS and the node are up or on their way up."""
    command = [sys.executable, "-m", "fewshot_node", "demo", "--keep", "--folder", str(tmp_path / "runs")]
    with (tmp_path / "out").open("wb") as out:
        demo = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
    wait_for(lambda: list((tmp_path / "runs").glob("*/home/prefect")), "the node's processes to start")
    children = psutil.Process(demo.pid).children(recursive=True)
    assert len(children) >= 4
    (config,) = (tmp_path / "runs").glob("*/node.toml")
    ports = [
        int(port)
        for port in re.findall(r"port = (\d+)|127\.0\.0\.1:(\d+)/api", config.read_text())
        for port in port
        if port
    ]
    assert len(ports) == 3

    os.kill(demo.pid, signal.SIGINT)
    assert demo.wait(60) == 130, (tmp_path / "out").read_text()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
    assert "interrupted" in (tmp_path / "out").read_text()
