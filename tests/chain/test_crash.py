"""kill -9 in mid-run: the series is still delivered, and once."""

import httpx
import pytest

from fewshot_node.demo.cases import Lesson
from fewshot_node.dicom.ledger import SeriesState
from flows.environment import server_address
from tests.chain.running_node import RunningNode, wait_for

pytestmark = [pytest.mark.orthanc, pytest.mark.dcmtk, pytest.mark.prefect, pytest.mark.timeout(400)]


def test_receiver_and_worker_killed_in_mid_run(node: RunningNode, lessons: tuple[Lesson, Lesson]) -> None:
    case = lessons[0].pushed[1]
    half = len(case.files) // 2
    assert node.push(case.files[:half]).returncode == 0
    node.kill("receive")
    wait_for(lambda: node.push(case.files[half:]).returncode == 0, "the receiver to be back")
    wait_for(
        lambda: (entry := node.entry(case.series_instance_uid)) and entry.claimed_by, "a worker to claim the series"
    )
    killed = node.kill("worker")
    entry = node.ended(case.series_instance_uid)
    assert entry.state is SeriesState.DELIVERED
    assert entry.attempt > 1, "the worker was killed too late to show anything"
    assert entry.instances == len(case.files)
    assert node.instances(case.study_instance_uid, "SEG") == [entry.outcomes[0].segmentation_instance_uid]
    assert node.instances(case.study_instance_uid, "SR") == [entry.outcomes[0].report_instance_uid]
    worker = wait_for(lambda: node.child("worker"), "the worker to be back")
    assert worker.pid != killed


def test_a_run_that_died_is_not_shown_running_for_ever(node: RunningNode, lessons: tuple[Lesson, Lesson]) -> None:
    node.ended(lessons[0].pushed[1].series_instance_uid)

    def running() -> list[str]:
        answer = httpx.post(
            f"{node.settings.prefect.api_url}/flow_runs/filter",
            json={"flow_runs": {"state": {"type": {"any_": ["RUNNING", "PENDING"]}}}},
        )
        return [run["name"] for run in answer.json()]

    wait_for(lambda: not running(), "no run to be shown as running", seconds=30)


def test_a_prefect_server_that_forgets_its_queue(node: RunningNode, lessons: tuple[Lesson, Lesson]) -> None:
    """The worker is gone, the series submitted, the server killed: its queue was in its memory."""
    case = lessons[1].pushed[1]
    stopped = wait_for(lambda: node.child("worker"), "the worker to run")
    stopped.suspend()
    assert node.push(case.files).returncode == 0
    wait_for(
        lambda: (entry := node.entry(case.series_instance_uid)) and entry.state == "dispatched",
        "the series to be submitted",
    )
    node.kill(str(server_address(node.settings)[1]))
    stopped.kill()
    entry = node.ended(case.series_instance_uid)
    assert (entry.state, entry.reason) == (SeriesState.DELIVERED, "")
    assert node.instances(case.study_instance_uid, "SR") == [entry.outcomes[0].report_instance_uid]
