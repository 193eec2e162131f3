"""Deliveries in the ledger: one holder at a time, and what they make of their series."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fewshot_node.dicom.ledger import (
    Confirmation,
    Delivery,
    DeliveryState,
    Ledger,
    Parcel,
    SeriesNote,
    SeriesState,
    TaskOutcome,
    TryEnd,
)
from fewshot_node.records import SeriesKey
from tests.dicom.ledger.old_ledgers import ledger_without_later_tables

NOON = datetime(2024, 5, 1, 12, 0, tzinfo=UTC)


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now

    def forward(self, seconds: float) -> datetime:
        self.now += timedelta(seconds=seconds)
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Iterator[Ledger]:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}", clock)
    yield ledger
    ledger.dispose()


def finished(ledger: Ledger, *parcels: Parcel, series: str = "1.2", failed: str = "") -> SeriesKey:
    """A series whose work has ended with these parcels, and perhaps with a task that failed by itself."""
    ledger.note_instances([SeriesNote.of_one(series, "1.1", "SCANNER", 100, NOON)])
    key = ledger.close(series)
    assert key is not None
    assert ledger.mark_dispatched(key, 1, "run")
    assert ledger.claim(key, 1, "worker", 30)
    names = {parcel.task_name for parcel in parcels}
    outcomes = [TaskOutcome(name, 1, SeriesState.DELIVERING, seconds={"encode": 1.5}) for name in sorted(names)]
    if failed:
        outcomes.append(TaskOutcome(failed, 1, SeriesState.FAILED, "no slices"))
    assert ledger.finish(key, "worker", SeriesState.DELIVERING, "", outcomes, parcels)
    return key


def parcel(destination: str = "pacs", task: str = "liver") -> Parcel:
    return Parcel(task, destination, ("1.2.3", "1.2.4"))


def due(ledger: Ledger, clock: Clock) -> list[str]:
    return [one.destination for one in ledger.due_deliveries(clock.now)]


def claimed(ledger: Ledger, clock: Clock, transaction: str = "9.9") -> Delivery:
    delivery = ledger.claim_delivery(ledger.due_deliveries(clock.now)[0], "me", 30, transaction)
    assert delivery is not None
    return delivery


def confirmed(by: Confirmation = Confirmation.FIND) -> TryEnd:
    return TryEnd(DeliveryState.CONFIRMED, NOON, confirmed_by=by, seconds=0.5)


def dead(reason: str = "refused") -> TryEnd:
    return TryEnd(DeliveryState.DEAD, NOON, reason, refused=True)


def state(ledger: Ledger, key: SeriesKey) -> tuple[SeriesState, str]:
    entry = ledger.entry(key)
    assert entry is not None
    return entry.state, entry.reason


def test_a_series_is_delivered_once_every_destination_has_confirmed(ledger: Ledger, clock: Clock) -> None:
    key = finished(ledger, parcel("pacs"), parcel("share"))
    assert state(ledger, key) == (SeriesState.DELIVERING, "")
    first = claimed(ledger, clock)
    assert (first.destination, first.tries, first.instances) == ("pacs", 1, ("1.2.3", "1.2.4"))
    assert due(ledger, clock) == ["share"]
    assert ledger.end_delivery(first, "me", confirmed())
    assert state(ledger, key) == (SeriesState.DELIVERING, "")
    assert ledger.end_delivery(claimed(ledger, clock), "me", confirmed(Confirmation.READ_BACK))
    assert state(ledger, key) == (SeriesState.DELIVERED, "")
    by = {one.destination: one.confirmed_by for one in ledger.deliveries(key=key)}
    assert by == {"pacs": Confirmation.FIND, "share": Confirmation.READ_BACK}
    entry = ledger.entry(key)
    assert entry is not None
    assert entry.outcomes[0].seconds == {"encode": 1.5, "deliver": 1.0}
    assert entry.outcomes[0].state is SeriesState.DELIVERED


def test_a_dead_letter_fails_the_series_and_says_where_and_why(ledger: Ledger, clock: Clock) -> None:
    key = finished(ledger, parcel("pacs"), parcel("share"))
    assert ledger.end_delivery(claimed(ledger, clock), "me", dead())
    assert state(ledger, key)[0] is SeriesState.DELIVERING, "the other destination is still to get it"
    assert ledger.end_delivery(claimed(ledger, clock), "me", confirmed())
    assert state(ledger, key) == (SeriesState.FAILED, "liver: pacs: refused")
    assert ledger.redeliver("1.2") == key
    assert state(ledger, key) == (SeriesState.DELIVERING, "")
    assert due(ledger, clock) == ["pacs"], "what was confirmed is not sent again"
    assert ledger.end_delivery(claimed(ledger, clock), "me", confirmed())
    assert state(ledger, key) == (SeriesState.DELIVERED, "")
    assert ledger.redeliver("1.2") is None
    assert ledger.redeliver("7.7") is None


def test_a_task_that_failed_by_itself_is_not_forgotten(ledger: Ledger, clock: Clock) -> None:
    key = finished(ledger, parcel(), failed="knee")
    assert ledger.end_delivery(claimed(ledger, clock), "me", confirmed())
    assert state(ledger, key) == (SeriesState.FAILED, "knee: no slices")


def test_one_process_at_a_time_has_a_delivery(ledger: Ledger, clock: Clock) -> None:
    finished(ledger, parcel())
    (delivery,) = ledger.due_deliveries(clock.now)
    assert ledger.claim_delivery(delivery, "me", 30, "9.1")
    assert ledger.claim_delivery(delivery, "you", 30, "9.2") is None
    clock.forward(20)
    assert ledger.renew_delivery(delivery, "me", 30)
    clock.forward(20)
    assert due(ledger, clock) == []
    clock.forward(11)  # "me" has died
    taken = ledger.claim_delivery(delivery, "you", 30, "9.2")
    assert taken is not None
    assert taken.tries == 2
    assert not ledger.renew_delivery(delivery, "me", 30)
    assert not ledger.end_delivery(delivery, "me", dead())
    assert ledger.end_delivery(taken, "you", confirmed())
    assert not ledger.end_delivery(taken, "you", dead()), "what is over stays as it ended"


def test_what_failed_waits_until_its_time(ledger: Ledger, clock: Clock) -> None:
    key = finished(ledger, parcel())
    later = clock.now + timedelta(seconds=60)
    end = TryEnd(DeliveryState.WAITING, later, "busy", refused=True)
    assert ledger.end_delivery(claimed(ledger, clock), "me", end)
    (waiting,) = ledger.deliveries(DeliveryState.WAITING)
    assert (waiting.next_try, waiting.reason, waiting.tries, waiting.refusals) == (later, "busy", 1, 1)
    clock.forward(59)
    assert due(ledger, clock) == []
    clock.forward(1)
    assert due(ledger, clock) == ["pacs"]
    assert state(ledger, key) == (SeriesState.DELIVERING, "")


def test_one_tries_a_destination_out_of_reach_and_the_others_wait_for_it(ledger: Ledger, clock: Clock) -> None:
    for number in range(3):
        finished(ledger, parcel("pacs"), parcel("share"), series=f"1.{number}")
    first = claimed(ledger, clock)
    later = clock.now + timedelta(seconds=60)
    ledger.end_delivery(first, "me", TryEnd(DeliveryState.WAITING, later, "no answer", out_of_reach=True))
    ledger.postpone("pacs", later)
    assert due(ledger, clock) == ["share"] * 3
    assert ledger.has_trouble("pacs")
    assert not ledger.has_trouble("share")
    tries = [one.tries for one in ledger.deliveries(destination="pacs")]
    assert sorted(tries) == [0, 0, 1]
    ledger.hasten("pacs")
    assert due(ledger, clock).count("pacs") == 3


def test_a_refused_one_is_not_hastened(ledger: Ledger, clock: Clock) -> None:
    finished(ledger, parcel())
    end = TryEnd(DeliveryState.WAITING, clock.now + timedelta(seconds=60), "busy", refused=True)
    ledger.end_delivery(claimed(ledger, clock), "me", end)
    ledger.hasten("pacs")
    assert due(ledger, clock) == []


def test_a_commitment_may_come_before_the_try_has_ended(ledger: Ledger, clock: Clock) -> None:
    key = finished(ledger, parcel())
    delivery = claimed(ledger, clock, "9.1")
    known = ledger.awaiting_commitment("9.1")
    assert known == delivery
    assert ledger.awaiting_commitment("9.2") is None
    assert ledger.end_commitment(delivery, confirmed(Confirmation.COMMITMENT))
    assert not ledger.end_delivery(delivery, "me", TryEnd(DeliveryState.SENT, clock.now))
    assert state(ledger, key) == (SeriesState.DELIVERED, "")
    assert ledger.awaiting_commitment("9.1") is None, "told twice, known once"


def test_the_commitment_of_an_earlier_try_counts_no_more(ledger: Ledger, clock: Clock) -> None:
    finished(ledger, parcel())
    old = claimed(ledger, clock, "9.1")
    assert ledger.end_delivery(old, "me", TryEnd(DeliveryState.SENT, clock.now))
    claimed(ledger, clock, "9.2")
    assert not ledger.end_commitment(old, confirmed(Confirmation.COMMITMENT))


def test_work_ends_in_delivering_with_parcels_and_only_then(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="0 parcels"):
        ledger.finish(SeriesKey("1.2"), "worker", SeriesState.DELIVERING, "", [])
    with pytest.raises(ValueError, match="1 parcels"):
        ledger.finish(SeriesKey("1.2"), "worker", SeriesState.FAILED, "", [], [parcel()])


def test_a_series_that_is_done_again_is_delivered_again(ledger: Ledger, clock: Clock) -> None:
    key = finished(ledger, parcel("pacs"), parcel("share"))
    for _ in range(2):
        ledger.end_delivery(claimed(ledger, clock), "me", confirmed())
    assert ledger.retry("1.2") == key
    assert ledger.claim(key, 2, "worker", 30)
    assert ledger.finish(key, "worker", SeriesState.DELIVERING, "", [], [parcel("pacs")])
    assert [(one.destination, one.state) for one in ledger.deliveries(key=key)] == [("pacs", DeliveryState.WAITING)]


def test_a_series_that_is_being_delivered_cannot_be_done_again(ledger: Ledger) -> None:
    finished(ledger, parcel())
    assert ledger.retry("1.2") is None


def test_deliveries_are_counted_by_destination(ledger: Ledger, clock: Clock) -> None:
    finished(ledger, parcel("pacs"), parcel("share"))
    ledger.end_delivery(claimed(ledger, clock), "me", dead())
    assert ledger.delivery_counts() == {("pacs", DeliveryState.DEAD): 1, ("share", DeliveryState.WAITING): 1}


def test_a_ledger_of_version_2_gets_the_table_of_deliveries(tmp_path: Path) -> None:
    url = ledger_without_later_tables(tmp_path / "old.sqlite", 2)
    for _ in range(2):
        ledger = Ledger(url)
        assert ledger.deliveries() == ()
        ledger.dispose()
