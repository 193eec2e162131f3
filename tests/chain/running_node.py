"""A node in a process of its own, and what the tests ask of it."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from orthanc_api_client import OrthancApiClient
from pydicom import dcmread
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, RLELossless

from fewshot_node.config import NodeSettings, PacsSettings
from fewshot_node.demo.deployment import write_node_settings
from fewshot_node.dicom.ledger import Ledger, SeriesEntry

WAIT_S = 150.0

QUICK = {
    "receive": {"calling_ae_titles": ["STORESCU", "SCANNER"], "quiet_period_s": 1.0, "min_free_mb": 1},
    "pacs": {"timeout_s": 5.0},
    "delivery": {"backoff_s": 0.1, "longest_wait_s": 2.0, "lease_s": 3.0, "poll_s": 0.3},
    "prefect": {"poll_s": 0.3, "stalled_after_s": 10.0},
    "worker": {"threads": 1, "lease_s": 3.0},
}
"""What a test's node has otherwise than the demonstration's: it gives up and starts again sooner."""

PROPOSALS = {JPEG2000Lossless: ["-xv"], RLELossless: ["-xr"], JPEGLosslessSV1: ["-xs"]}
"""How dcmtk's storescu is told to propose a compressed transfer syntax."""


def wait_for(condition: Callable[[], Any], what: str, seconds: float = WAIT_S) -> Any:
    """Poll until `condition` gives something true, and return that."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        time.sleep(0.1)


@dataclass
class RunningNode:
    """`fewshot-node serve` in a process of its own."""

    folder: Path
    settings: NodeSettings
    orthanc: OrthancApiClient
    storescu: str
    process: subprocess.Popen[bytes]

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.settings.ledger_url)

    @property
    def log(self) -> str:
        return (self.folder / "node.log").read_text(errors="replace")

    def push(self, files: tuple[Path, ...] | list[Path], calling: str = "STORESCU") -> subprocess.CompletedProcess[str]:
        """Send files as a scanner would, with dcmtk."""
        address = ["127.0.0.1", str(self.settings.receive.port)]
        proposed = PROPOSALS.get(str(dcmread(files[0], stop_before_pixels=True).file_meta.TransferSyntaxUID), [])
        command = [self.storescu, *proposed, "-R", "-aet", calling, "-aec", "FEWSHOT", *address, *map(str, files)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    def entry(self, series_instance_uid: str) -> SeriesEntry | None:
        return self.ledger.get(series_instance_uid)

    def ended(self, series_instance_uid: str) -> SeriesEntry:
        """Wait until a series has ended, and return its ledger entry."""

        def final() -> SeriesEntry | None:
            entry = self.entry(series_instance_uid)
            return entry if entry and entry.state in {"delivered", "no task", "failed"} else None

        found: SeriesEntry = wait_for(final, f"series {series_instance_uid} to end")
        return found

    def child(self, command: str) -> psutil.Process | None:
        """The newest child process of `serve` that runs this command."""
        try:
            children = psutil.Process(self.process.pid).children()
            return next((one for one in children if one.cmdline()[-1:] == [command]), None)
        except psutil.NoSuchProcess:
            return None

    def kill(self, command: str) -> int:
        """kill -9 a child, and return the process id it had."""
        child = wait_for(lambda: self.child(command), f"{command} to run")
        os.kill(child.pid, signal.SIGKILL)
        return int(child.pid)

    def instances(self, study_instance_uid: str, modality: str) -> list[str]:
        """SOP Instance UIDs that Orthanc holds of one modality in one study, asked over REST."""
        query = {"StudyInstanceUID": study_instance_uid, "Modality": modality}
        question = {"Level": "Instance", "Query": query, "Expand": True}
        found = self.orthanc.post("tools/find", json=question).json()
        return sorted(instance["MainDicomTags"]["SOPInstanceUID"] for instance in found)


def write_settings(path: Path, pacs: PacsSettings, receive_port: int, prefect_port: int) -> NodeSettings:
    """The demonstration's settings, made quick, for a node on these ports."""
    changes = {
        "receive": {**QUICK["receive"], "port": receive_port},
        "pacs": {**QUICK["pacs"], "ae_title": pacs.ae_title, "port": pacs.port},
        "prefect": {**QUICK["prefect"], "api_url": f"http://127.0.0.1:{prefect_port}/api"},
        "delivery": QUICK["delivery"],
        "worker": QUICK["worker"],
    }
    return write_node_settings(path, changes)
