"""Completion: quiet periods, open associations, and a loop that outlives a busy ledger."""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fewshot_node.config import ReceiveSettings
from fewshot_node.dicom.completion import CompletionLoop, close_quiet_series
from fewshot_node.dicom.ledger import Ledger, SeriesState
from fewshot_node.errors import RetryableError
from fewshot_node.records import SeriesKey

NOON = datetime(2024, 5, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    yield ledger
    ledger.dispose()


def test_each_calling_ae_has_its_quiet_period(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    settings = ReceiveSettings(quiet_period_s=30, quiet_period_s_by_ae={"SLOW_MR": 120})
    ledger.note_instance("1.2", "1.1", "CT1", 1, NOON)
    ledger.note_instance("1.3", "1.1", "SLOW_MR", 1, NOON)
    assert close_quiet_series(ledger, settings, (), NOON + timedelta(seconds=29)) == []
    assert close_quiet_series(ledger, settings, (), NOON + timedelta(seconds=30)) == [SeriesKey("1.2")]
    assert close_quiet_series(ledger, settings, (), NOON + timedelta(seconds=119)) == []
    assert close_quiet_series(ledger, settings, (), NOON + timedelta(seconds=120)) == [SeriesKey("1.3")]
    assert "series 1.2@1 complete" in caplog.text


def test_a_series_that_is_still_fed_is_left_alone(ledger: Ledger) -> None:
    ledger.note_instance("1.2", "1.1", "CT1", 1, NOON)
    late = NOON + timedelta(hours=1)
    assert close_quiet_series(ledger, ReceiveSettings(), {"1.2"}, late) == []
    assert close_quiet_series(ledger, ReceiveSettings(), set(), late) == [SeriesKey("1.2")]


def test_the_loop_closes_series_and_stops(ledger: Ledger, eventually: Callable[..., Any]) -> None:
    ledger.note_instance("1.2", "1.1", "CT1", 1, NOON)
    with CompletionLoop(ledger, ReceiveSettings(quiet_period_s=0.05), tuple):
        eventually(lambda: ledger.counts()[SeriesState.COMPLETE] == 1)
    assert not [thread for thread in threading.enumerate() if thread.name == "completion"]


def test_the_loop_outlives_a_busy_ledger(
    ledger: Ledger, eventually: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    ledger.note_instance("1.2", "1.1", "CT1", 1, NOON)
    failures = iter([RetryableError("ledger is busy")])

    def open_associations() -> tuple[str, ...]:
        for failure in failures:
            raise failure
        return ()

    with CompletionLoop(ledger, ReceiveSettings(quiet_period_s=0.05), open_associations):
        eventually(lambda: ledger.counts()[SeriesState.COMPLETE] == 1)
    assert "quiet series not closed: ledger is busy" in caplog.text
