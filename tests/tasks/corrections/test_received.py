"""A correction on the way that it takes: from a viewer's C-STORE to a proposal."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from fewshot_node.config import ReceiveSettings
from fewshot_node.dicom.ledger import SeriesState
from fewshot_node.dicom.receive.completion import completion_loop
from fewshot_node.dicom.receive.receiver import Receiver
from fewshot_node.tasks.corrections.proposals import Proposals
from fewshot_node.work import work_on
from tests.chain.running_node import wait_for
from tests.tasks.conftest import Example
from tests.tasks.corrections.conftest import Bench, edited_segmentation

pytestmark = pytest.mark.dcmtk


def test_a_viewer_sends_a_correction(
    bench: Bench, pushed: Example, tmp_path: Path, require_tool: Callable[[str], str]
) -> None:
    def change(masks: NDArray[np.uint8]) -> None:
        masks[1, :4, :4, 0] = 1

    ours = bench.result("SEG")
    edited = edited_segmentation(ours, pushed, tmp_path / "edited.dcm", change)
    settings = ReceiveSettings(host="127.0.0.1", port=0, min_free_mb=1, reject_below_free_mb=1, quiet_period_s=0.2)
    ledger = bench.node.ledger
    with (
        Receiver(settings, bench.node.spool, ledger) as receiver,
        completion_loop(ledger, settings, receiver.busy_series),
    ):
        command = [require_tool("storescu"), "-R", "-aec", "FEWSHOT", "127.0.0.1", str(receiver.port)]
        subprocess.run([*command, str(edited), str(ours)], check=True, capture_output=True, timeout=60)
        waiting = wait_for(lambda: ledger.waiting() if len(ledger.waiting()) == 2 else (), "both series")
    for entry in waiting:
        work_on(bench.node, bench.models, entry.key, 1, "worker")
    ended = {path: ledger.get(str(pydicom.dcmread(path).SeriesInstanceUID)) for path in (edited, ours)}
    reasons = {path: entry.reason for path, entry in ended.items() if entry and entry.state is SeriesState.NO_TASK}
    (proposal,) = Proposals(bench.node.settings.tasks).of_task("organs")
    assert reasons[ours] == "our own result came back"
    assert f"proposed as template {proposal.name}" in reasons[edited]
