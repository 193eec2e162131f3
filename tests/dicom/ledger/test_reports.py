"""Which reports the ledger has in mind for a series when it is processed again."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fewshot_node.dicom.ledger import DeliveryState, Ledger, Parcel, SeriesNote, SeriesState, TaskOutcome, TryEnd
from fewshot_node.dicom.spool import Spool
from fewshot_node.records import MadeReport, ReportReference, SeriesKey
from tests.dicom.ledger.old_ledgers import ledger_without_later_tables

NOON = datetime(2024, 5, 1, 12, 0, tzinfo=UTC)
OLD = ReportReference("1.1", "1.5", "1.5.1")
NEW = ReportReference("1.1", "1.6", "1.6.1")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ticks = (NOON + timedelta(seconds=second) for second in range(1000))
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}", lambda: next(ticks))
    yield ledger
    ledger.dispose()


def arrived(ledger: Ledger) -> SeriesKey:
    """The next revision of the series."""
    ledger.note_instances([SeriesNote.of_one("1.2", "1.1", "SCANNER", 100, NOON)])
    key = ledger.close("1.2")
    assert key is not None
    return key


def worked(ledger: Ledger, key: SeriesKey, *reports: MadeReport) -> None:
    entry = ledger.entry(key)
    assert entry is not None
    assert ledger.claim(key, entry.attempt, "worker", 30)
    outcomes = [TaskOutcome(one.task_name, 1, SeriesState.DELIVERING, report=one) for one in reports]
    parcels = [Parcel(one.task_name, "pacs", (one.reference.sop_instance_uid,)) for one in reports]
    assert ledger.finish(key, "worker", SeriesState.DELIVERING, "", outcomes, parcels)


def tried(ledger: Ledger, key: SeriesKey, state: DeliveryState = DeliveryState.CONFIRMED) -> None:
    for delivery in ledger.due_deliveries(NOON + timedelta(hours=1), key):
        held = ledger.claim_delivery(delivery, "me", 30, "9.9")
        assert held is not None
        assert ledger.end_delivery(held, "me", TryEnd(state, NOON, "refused"))


@pytest.fixture
def remembered(ledger: Ledger, tmp_path: Path) -> "Remembered":
    return Remembered(ledger, tmp_path)


class Remembered:
    """What a worker that takes a revision gets to know."""

    def __init__(self, ledger: Ledger, folder: Path) -> None:
        self.ledger, self.spool = ledger, Spool(folder / "spool")

    def __call__(self, key: SeriesKey, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, bool, str | None]]:
        monkeypatch.setattr(Spool, "series_files", lambda *_: (Path("one.dcm"),))
        return [
            (
                one.task_name,
                one.reference.sop_instance_uid,
                one.delivered,
                one.predecessor and one.predecessor.sop_instance_uid,
            )
            for one in self.ledger.received(key, self.spool).reports
        ]


def test_reports_are_remembered_through_revisions(
    ledger: Ledger, remembered: Remembered, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = arrived(ledger)
    assert remembered(first, monkeypatch) == []
    worked(ledger, first, MadeReport("liver", OLD, "1.5.1"))
    assert remembered(first, monkeypatch) == [("liver", "1.5.1", False, None)]
    tried(ledger, first)
    assert remembered(first, monkeypatch) == [("liver", "1.5.1", True, None)]
    second = arrived(ledger)
    worked(ledger, second, MadeReport("liver", NEW, "1.7", OLD))
    assert remembered(second, monkeypatch) == [("liver", "1.6.1", False, "1.5.1"), ("liver", "1.5.1", True, None)]
    assert remembered(first, monkeypatch) == [("liver", "1.5.1", True, None)], "the first knows of no later one"


def test_a_report_that_is_made_again_is_the_newest_and_keeps_what_is_known_of_it(
    ledger: Ledger, remembered: Remembered, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = arrived(ledger)
    for report in (MadeReport("liver", OLD, "1.5.1"), MadeReport("liver", NEW, "1.7", OLD)):
        worked(ledger, key, report)
        tried(ledger, key)
        assert ledger.retry("1.2") == key
    assert remembered(key, monkeypatch) == [("liver", "1.6.1", True, "1.5.1"), ("liver", "1.5.1", True, None)]
    worked(ledger, key, MadeReport("liver", OLD, "1.5.1"))
    assert remembered(key, monkeypatch) == [("liver", "1.5.1", True, None), ("liver", "1.6.1", True, "1.5.1")]


@pytest.mark.parametrize("state", [DeliveryState.DEAD, DeliveryState.SENT, DeliveryState.WAITING])
def test_only_a_confirmed_report_is_delivered(
    ledger: Ledger, remembered: Remembered, monkeypatch: pytest.MonkeyPatch, state: DeliveryState
) -> None:
    key = arrived(ledger)
    worked(ledger, key, MadeReport("liver", OLD, "1.5.1"), MadeReport("spleen", NEW, "1.6.1"))
    tried(ledger, key, state)
    assert {one[2] for one in remembered(key, monkeypatch)} == {False}


def test_a_ledger_of_version_5_gets_the_table(tmp_path: Path) -> None:
    url = ledger_without_later_tables(tmp_path / "old.sqlite", 5)
    for _ in range(2):
        ledger = Ledger(url)
        assert ledger.reports(SeriesKey("1.2")) == ()
        ledger.dispose()
