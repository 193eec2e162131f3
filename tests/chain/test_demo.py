"""The demonstration ends as it began: no process and no port left, also when it is interrupted."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
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


@pytest.mark.orthanc
@pytest.mark.timeout(400)
def test_the_demonstration_succeeds_and_shows_what_it_did(tmp_path: Path, require_tool: Callable[[str], str]) -> None:
    """As `make demo` runs it: exit status, tables, pictures, progress, and the same commands by hand."""
    require_tool("Orthanc")
    command = [sys.executable, "-m", "fewshot_node", "demo", "--folder", str(tmp_path / "runs")]
    demo = subprocess.run(command, capture_output=True, text=True, timeout=380)
    assert demo.returncode == 0, demo.stdout + demo.stderr
    (run,) = (tmp_path / "runs").iterdir()

    overlays = [Path(path) for path in re.findall(r"^overlay +(.+)$", demo.stdout, re.MULTILINE)]
    assert len(overlays) == 4
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in overlays)
    for name in ("Liver", "Spleen", "Left kidney", "Right kidney", "KPB", "KAL", "KPLIP"):
        assert len(re.findall(rf"│ {name} +│", demo.stdout)) == 2, f"{name} in two series\n{demo.stdout}"
    assert len(re.findall(r">= 0\.75 ok|<= 6\.0 mm ok", demo.stdout)) == 4
    assert demo.stdout.count(": delivered") == 4
    assert demo.stdout.count("the same by hand:") == 2
    by_hand = re.findall(r"^ *\$ (.+)$", demo.stdout, re.MULTILINE)
    assert len(by_hand) == 2 * 3 + 2 + 3
    assert all(line.startswith(f"fewshot-node --config {run / 'node.toml'} ") for line in by_hand)
