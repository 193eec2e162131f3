"""Completion: quiet periods, open associations, and a loop that outlives a busy ledger."""

import threading
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fewshot_node.config import ReceiveSettings
from fewshot_node.dicom.ledger import Ledger, SeriesNote, SeriesState
from fewshot_node.dicom.receive.completion import close_quiet_series, completion_loop
from fewshot_node.errors import RetryableError
from fewshot_node.records import SeriesKey

NOON = datetime(2024, 5, 1, 12, 0, tzinfo=UTC)


def test_each_calling_ae_has_its_quiet_period(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    settings = ReceiveSettings(quiet_period_s=30, quiet_period_s_by_ae={"SLOW_MR": 120})
    ledger.note_instances([SeriesNote.of_one("1.2", "1.1", "CT1", 1, NOON)])
    ledger.note_instances([SeriesNote.of_one("1.3", "1.1", "SLOW_MR", 1, NOON)])
    assert close_quiet_series(ledger, settings, (), NOON + timedelta(seconds=29)) == []
    assert close_quiet_series(ledger, settings, (), NOON + timedelta(seconds=30)) == [SeriesKey("1.2")]
    assert close_quiet_series(ledger, settings, (), NOON + timedelta(seconds=119)) == []
    assert close_quiet_series(ledger, settings, (), NOON + timedelta(seconds=120)) == [SeriesKey("1.3")]
    assert "series 1.2@1 complete" in caplog.text


def test_a_series_that_is_still_fed_is_left_alone(ledger: Ledger) -> None:
    ledger.note_instances([SeriesNote.of_one("1.2", "1.1", "CT1", 1, NOON)])
    late = NOON + timedelta(hours=1)
    assert close_quiet_series(ledger, ReceiveSettings(), {"1.2"}, late) == []
    assert close_quiet_series(ledger, ReceiveSettings(), set(), late) == [SeriesKey("1.2")]


def test_the_loop_closes_series_and_stops(ledger: Ledger, eventually: Callable[..., Any]) -> None:
    ledger.note_instances([SeriesNote.of_one("1.2", "1.1", "CT1", 1, NOON)])
    with completion_loop(ledger, ReceiveSettings(quiet_period_s=0.05), tuple):
        eventually(lambda: ledger.counts()[SeriesState.COMPLETE] == 1)
    assert not [thread for thread in threading.enumerate() if thread.name == "completion"]


def test_the_loop_outlives_a_busy_ledger(
    ledger: Ledger, eventually: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    ledger.note_instances([SeriesNote.of_one("1.2", "1.1", "CT1", 1, NOON)])
    failures = iter([RetryableError("ledger is busy")])

    def open_associations() -> tuple[str, ...]:
        for failure in failures:
            raise failure
        return ()

    with completion_loop(ledger, ReceiveSettings(quiet_period_s=0.05), open_associations):
        eventually(lambda: ledger.counts()[SeriesState.COMPLETE] == 1)
    assert "quiet series not closed: ledger is busy" in caplog.text


def come(ledger: Ledger, instances: int, stated: int | None, series: str = "1.2") -> None:
    for _ in range(instances):
        ledger.note_instances([SeriesNote.of_one(series, "1.1", "CT1", 1, NOON, stated)])


def close(ledger: Ledger, seconds: float = 0, busy: Collection[str] = ()) -> list[str]:
    settings = ReceiveSettings(quiet_period_s=30)
    closed = close_quiet_series(ledger, settings, busy, NOON + timedelta(seconds=seconds))
    return [str(key) for key in closed]


def test_a_series_with_all_its_instances_is_complete_at_once(ledger: Ledger) -> None:
    come(ledger, 2, stated=3)
    assert close(ledger) == []
    come(ledger, 1, stated=3)
    assert close(ledger, busy=["1.2"]) == []  # its association is still open
    assert close(ledger) == [str(SeriesKey("1.2"))]
    assert ledger.get("1.2").warnings == ()


def test_a_series_that_goes_quiet_too_early_is_closed_with_a_warning(ledger: Ledger) -> None:
    come(ledger, 87, stated=120)
    assert close(ledger, seconds=29) == []
    assert close(ledger, seconds=30) == [str(SeriesKey("1.2"))]
    (warning,) = ledger.get("1.2").warnings
    assert warning.text == "revision 1: 87 of 120 instances came; send the others"


def test_a_number_that_was_too_small_does_not_close_a_later_revision_at_once(ledger: Ledger) -> None:
    come(ledger, 10, stated=10)
    assert close(ledger) == [str(SeriesKey("1.2"))]
    come(ledger, 1, stated=10)
    assert close(ledger) == []
    assert close(ledger, seconds=30) == [str(SeriesKey("1.2", 2))]
    assert ledger.get("1.2").warnings == ()


def test_whoever_knows_of_most_instances_is_believed(ledger: Ledger) -> None:
    come(ledger, 1, stated=3)
    assert ledger.note_expected(SeriesKey("1.2"), 4)  # the PACS
    come(ledger, 2, stated=3)
    assert close(ledger) == []
    come(ledger, 1, stated=None)
    assert close(ledger) == [str(SeriesKey("1.2"))]


def test_an_operator_who_closes_too_early_leaves_a_warning(ledger: Ledger) -> None:
    come(ledger, 1, stated=3)
    assert ledger.close("1.2") == SeriesKey("1.2")
    assert [warning.text for warning in ledger.get("1.2").warnings] == [
        "revision 1: 1 of 3 instances came; send the others"
    ]
