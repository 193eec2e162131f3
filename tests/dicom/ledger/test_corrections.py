"""What the ledger keeps of results, and of what corrects them."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fewshot_node.dicom.ledger import CorrectionLink, Ledger, SeriesNote, SeriesState, TaskOutcome
from fewshot_node.records import SeriesKey, TrackedLabel
from tests.dicom.ledger.old_ledgers import ledger_without_later_tables

NOON = datetime(2024, 5, 1, 12, 0, tzinfo=UTC)
LIVER = TrackedLabel("2.25.11", 1, "2.25.1", mask_digest="aa")
TOP = TrackedLabel("2.25.12", 2, "2.25.1", point_mm=(1.5, -2.0, 3.25))
LINK = CorrectionLink("9.1", "9", SeriesKey("1.2", 1), "organs", 4, "2.25.1", (1, 3))


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}", lambda: NOON)
    yield ledger
    ledger.dispose()


def finish(ledger: Ledger, *labels: TrackedLabel) -> SeriesKey:
    if ledger.get("1.2") is None:
        ledger.note_instances([SeriesNote.of_one("1.2", "1.1", "SCANNER", 100, NOON)])
        ledger.close("1.2")
    else:
        ledger.retry("1.2")
    (waiting,) = ledger.waiting()
    assert ledger.claim(waiting.key, waiting.attempt, "worker", 30)
    outcome = TaskOutcome("organs", 4, SeriesState.FAILED, "nobody took it", tracked=labels)
    assert ledger.finish(waiting.key, "worker", SeriesState.FAILED, "", [outcome])
    return waiting.key


def test_a_label_is_found_by_its_tracking_uid(ledger: Ledger) -> None:
    key = finish(ledger, LIVER, TOP)
    (found,) = ledger.tracked(["2.25.12", "2.25.99"])
    assert (found.label, found.key, found.task_name, found.task_revision) == (TOP, key, "organs", 4)
    assert [one.label for one in ledger.tracked_in("2.25.1")] == [LIVER, TOP]
    assert ledger.tracked([]) == ()


def test_what_an_earlier_computation_made_stays_known(ledger: Ledger) -> None:
    finish(ledger, LIVER)
    finish(ledger, TrackedLabel("2.25.21", 1, "2.25.2", mask_digest="bb"))
    assert [one.label.instance_uid for one in ledger.tracked(["2.25.11", "2.25.21"])] == ["2.25.1", "2.25.2"]


def test_the_same_object_made_again_is_one(ledger: Ledger) -> None:
    for _ in range(2):
        finish(ledger, LIVER)
    assert len(ledger.tracked(["2.25.11"])) == 1


def test_any_number_of_uids_can_be_asked_for(ledger: Ledger) -> None:
    finish(ledger, LIVER)
    asked = [f"2.25.1{number}" for number in range(40_000)]
    assert [one.label for one in ledger.tracked(asked)] == [LIVER]


def test_a_correction_is_linked_once_and_found_from_both_sides(ledger: Ledger) -> None:
    for link in (LINK, replace(LINK, labels=(2,))):
        ledger.note_correction(link)
    assert ledger.corrections("9") == ledger.corrections("1.2") == (LINK,)
    assert ledger.corrections("7") == ()


def test_a_ledger_of_version_4_gets_the_tables(tmp_path: Path) -> None:
    url = ledger_without_later_tables(tmp_path / "old.sqlite", 4)
    for _ in range(2):
        ledger = Ledger(url)
        assert ledger.corrections("9") == ()
        ledger.dispose()
