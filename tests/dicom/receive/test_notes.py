"""Counts on their way to the ledger: none is lost, none is counted twice, and nobody waits."""

import threading
from datetime import UTC, datetime
from typing import Any

import pytest

from fewshot_node.dicom.identity import InstanceIdentity
from fewshot_node.dicom.ledger import Ledger
from fewshot_node.dicom.receive.notes import IntakeNotes
from fewshot_node.errors import RetryableError


def identity(number: int, series: str = "1.2", stated: int | None = None) -> InstanceIdentity:
    return InstanceIdentity("1.2.840.10008.5.1.4.1.1.2", f"{series}.{number}", "1.1", series, stated)


def test_nothing_is_written_before_its_time_and_everything_at_the_end(ledger: Ledger) -> None:
    with IntakeNotes(ledger, flush_s=3600) as notes:
        notes.instance(identity(1, stated=7), "CT1", 100)
        notes.instance(identity(2), "CT1", 50)
        notes.warning("1.2", "odd")
        assert ledger.get("1.2") is None
        assert notes.unflushed() == {"1.2"}
    entry = ledger.get("1.2")
    assert entry is not None
    assert (entry.instances, entry.bytes, entry.calling_ae_title, entry.expected) == (2, 150, "CT1", 7)
    assert [warning.text for warning in entry.warnings] == ["odd"]
    assert notes.unflushed() == set()


def test_twenty_threads_lose_no_count(ledger: Ledger) -> None:
    def note(thread: int) -> None:
        for number in range(100):
            notes.instance(identity(number, f"1.{thread % 5}"), "CT1", 1)

    with IntakeNotes(ledger, flush_s=0.001) as notes:
        threads = [threading.Thread(target=note, args=(thread,)) for thread in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert {entry.key.series_instance_uid: entry.instances for entry in ledger.series()} == {
        f"1.{number}": 400 for number in range(5)
    }


def test_a_ledger_that_is_away_gets_it_all_later_and_is_complained_of_once(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, eventually: Any
) -> None:
    tries: list[int] = []

    def away(*_arguments: Any) -> None:
        tries.append(1)
        raise RetryableError("ledger is out of reach")

    caplog.set_level("INFO")
    with IntakeNotes(ledger, flush_s=0.001) as notes:
        with monkeypatch.context() as patch:
            patch.setattr(ledger, "note_instances", away)
            notes.instance(identity(1), "CT1", 10)
            notes.warning("1.2", "odd")
            eventually(lambda: len(tries) > 3)
            notes.instance(identity(2), "CT1", 10)
            notes.instance(identity(1, "1.3"), "CT1", 10)
            assert notes.unflushed() == {"1.2", "1.3"}
        eventually(lambda: not notes.unflushed())
    counted = {entry.key.series_instance_uid: entry.instances for entry in ledger.series()}
    assert counted == {"1.2": 2, "1.3": 1}
    assert len(ledger.get("1.2").warnings) == 1  # type: ignore[union-attr]
    messages = [record.getMessage() for record in caplog.records if record.name.endswith("periodic")]
    assert len(messages) == 2
    assert "stored but not counted yet: ledger is out of reach" in messages[0]


def test_a_note_that_is_being_written_is_not_flushed_yet(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[set[str]] = []
    write = ledger.note_instances

    def watched(*arguments: Any) -> None:
        seen.append(notes.unflushed())
        write(*arguments)

    monkeypatch.setattr(ledger, "note_instances", watched)
    notes = IntakeNotes(ledger)
    notes.instance(identity(1), "CT1", 10)
    notes.flush()
    notes.flush()
    assert seen == [{"1.2"}]
    assert notes.unflushed() == set()


def test_times_are_those_of_reception(ledger: Ledger) -> None:
    times = iter([datetime(2024, 5, 1, 12, minute, tzinfo=UTC) for minute in (1, 2, 3)])
    notes = IntakeNotes(ledger, clock=lambda: next(times))
    for number in range(3):
        notes.instance(identity(number), "CT1", 10)
    notes.flush()
    entry = ledger.get("1.2")
    assert entry is not None
    assert (entry.first_received.minute, entry.last_received.minute) == (1, 3)


def test_what_fails_in_a_way_that_nobody_foresaw_is_not_lost(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, eventually: Any
) -> None:
    tries: list[int] = []

    def broken(*_arguments: Any) -> None:
        tries.append(1)
        raise UnicodeEncodeError("utf-8", "DOE^JANE", 0, 1, "surrogates not allowed")

    with IntakeNotes(ledger, flush_s=0.001) as notes:
        with monkeypatch.context() as patch:
            patch.setattr(ledger, "note_instances", broken)
            notes.instance(identity(1), "CT1", 100)
            notes.warning("1.2", "odd")
            eventually(lambda: len(tries) > 3)
            assert notes.unflushed() == {"1.2"}
        eventually(lambda: not notes.unflushed())
    entry = ledger.get("1.2")
    assert entry is not None
    assert (entry.instances, len(entry.warnings)) == (1, 1)
    assert caplog.text.count("not counted yet: UnicodeEncodeError") == 1
    assert "JANE" not in caplog.text


def test_a_remark_that_is_made_for_ever_is_kept_once(ledger: Ledger) -> None:
    notes = IntakeNotes(ledger)
    for _ in range(3):
        for number in (1, 2, 1, 2):
            notes.warning("1.2", f"instance {number} came again")
        notes.instance(identity(1), "CT1", 1)
        notes.flush()
    entry = ledger.get("1.2")
    assert entry is not None
    assert [warning.text for warning in entry.warnings] == ["instance 1 came again", "instance 2 came again"]
