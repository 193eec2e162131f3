"""Pace, work that has piled up, and a disk with little room."""

from collections.abc import Callable
from typing import Any

import pytest

from fewshot_node.dicom.ledger import SeriesState
from fewshot_node.dicom.pull.gate import Gate
from fewshot_node.dicom.pull.pull import held_instances
from tests.dicom.archive import Archive
from tests.dicom.conftest import Intake
from tests.dicom.pull.conftest import ROOT, Make, View, pacs_of, plan_of, run_pull, settings_for


def test_work_that_has_piled_up_holds_the_pull_back(
    peer: Archive, intake: Intake, make_instance: Make, connect: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    sender = connect(intake.receiver.port)
    assert sender.store(make_instance(1, f"{ROOT}.21")) == 0
    eventually(lambda: held_instances(intake.ledger, f"{ROOT}.21"))
    peer.datasets = [make_instance(1, f"{ROOT}.22")]
    settings = settings_for(intake, pacs_of(peer), by="get", max_unfinished=1)

    def finish(reason: str) -> None:
        if "pull.max_unfinished" in reason:
            key = intake.ledger.close(f"{ROOT}.21")
            assert key is not None
            assert peer.retrievals == 0
            end(intake, key)

    view = View(on_wait=finish)
    assert run_pull(settings, intake, plan_of(f"{ROOT}.22"), view).left == 0
    assert view.told[0].startswith("1 series or more")
    assert view.told[-1] == ""


def end(intake: Intake, key: Any) -> None:
    """Bring a complete series to an end as the workers do."""
    entry = intake.ledger.entry(key)
    assert entry is not None
    intake.ledger.mark_dispatched(key, entry.attempt, "run")
    intake.ledger.claim(key, entry.attempt, "worker", 30.0)
    intake.ledger.finish(key, "worker", SeriesState.NO_TASK, "", ())


def test_series_start_no_faster_than_the_rate(peer: Archive, intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("fewshot_node.dicom.pull.gate.monotonic", lambda: clock[0])
    monkeypatch.setattr("fewshot_node.dicom.pull.gate.sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    view = View()
    gate = Gate(settings_for(intake, pacs_of(peer), series_per_minute=6), intake.ledger, intake.spool, view)
    starts = []
    for _ in range(4):
        gate.wait()
        starts.append(clock[0])
    assert starts == [100, 110, 120, 130]
    assert view.told == ["pace of 6 series a minute (pull.series_per_minute)", ""] * 3


def test_a_disk_with_little_room_holds_the_pull_back(
    peer: Archive, intake: Intake, make_instance: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(intake, pacs_of(peer), by="get")
    settings = settings.model_copy(
        update={"receive": settings.receive.model_copy(update={"reject_below_free_mb": 100})}
    )
    free = [50 * 2**20]
    monkeypatch.setattr(intake.spool, "free_bytes", lambda: free[0])
    peer.datasets = [make_instance(1, f"{ROOT}.22")]

    def free_some(reason: str) -> None:
        if reason:
            assert "receive.reject_below_free_mb" in reason
            free[0] = 200 * 2**20

    assert run_pull(settings, intake, plan_of(f"{ROOT}.22"), View(on_wait=free_some)).retrieved == 1
