"""One try at a delivery: what each way of failing leads to, and what is read again."""

import os
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fewshot_node.config import DeliverySettings
from fewshot_node.dicom.deliver.attempts import Attempts
from fewshot_node.dicom.deliver.backoff import waiting_time
from fewshot_node.dicom.deliver.carrier import Receipt
from fewshot_node.dicom.deliver.expiry import remove_confirmed, remove_rejected
from fewshot_node.dicom.deliver.parcels import unpack
from fewshot_node.dicom.deliver.report import CommitmentReport
from fewshot_node.dicom.ledger import Confirmation, Delivery, DeliveryState, SeriesState, TryEnd
from fewshot_node.errors import (
    ConfigurationError,
    DeliveryError,
    NotDicomError,
    PeerTroubleError,
    PeerUnavailableError,
    PermanentError,
)


class Carrier:
    """Keeps what it is given, or fails as it is told to."""

    def __init__(self) -> None:
        self.carried: list[list[str]] = []
        self.bytes: list[bytes] = []
        self.transactions: list[str | None] = []
        self.failures: list[Exception] = []
        self.by: Confirmation | None = Confirmation.FIND

    def carry(self, paths: Sequence[Path], transaction_uid: str | None) -> Receipt:
        self.transactions.append(transaction_uid)
        self.carried.append([path.name for path in paths])
        self.bytes.append(b"".join(path.read_bytes() for path in paths))
        if self.failures:
            raise self.failures.pop(0)
        return Receipt(self.by)


@pytest.fixture
def carrier() -> Carrier:
    return Carrier()


@pytest.fixture
def attempt(office: Any, clock: Any, carrier: Carrier) -> Callable[[], TryEnd | None]:
    """Make the try that is due, if one is."""
    attempts = Attempts(office.ledger, office.settings, clock, random.Random(1), lambda *_: carrier)

    def make() -> TryEnd | None:
        due = office.ledger.due_deliveries(clock.now)
        return attempts.make(due[0]) if due else None

    return make


def only(office: Any) -> Delivery:
    (delivery,) = office.ledger.deliveries()
    found: Delivery = delivery
    return found


def test_a_try_sends_what_is_referred_to_before_what_refers_to_it(office: Any, attempt: Any, carrier: Carrier) -> None:
    key = office.post(objects=3)
    assert attempt().state is DeliveryState.CONFIRMED
    assert carrier.carried == [["a1.dcm", "a2.dcm", "report.dcm"]]
    assert office.ledger.entry(key).state is SeriesState.DELIVERED
    assert attempt() is None


def test_an_outage_of_an_hour_is_waited_out_with_growing_waits(
    office: Any, clock: Any, attempt: Any, carrier: Carrier
) -> None:
    key = office.post()
    down = clock.now
    carrier.failures = [PeerUnavailableError("PACS does not answer")] * 1000
    waits = []
    while (clock.now - down).total_seconds() < 3600:
        end = attempt()
        assert end is not None
        assert (end.state, end.out_of_reach) == (DeliveryState.WAITING, True)
        waits.append((end.next_try - clock.now).total_seconds())
        entry = office.ledger.entry(key)
        assert (entry.state, only(office).reason) == (SeriesState.DELIVERING, "PACS does not answer")
        clock.now = end.next_try
    carrier.failures = []
    assert attempt().state is DeliveryState.CONFIRMED
    assert office.ledger.entry(key).state is SeriesState.DELIVERED
    assert len(set(carrier.bytes)) == 1, "the same bytes each time"
    assert len(waits) < 40
    assert all(150 <= wait <= 300 for wait in waits[9:])
    assert all(0.5 * 2 * 2**number <= wait <= 2 * 2**number for number, wait in enumerate(waits[:7]))


def test_an_outage_of_days_is_a_dead_letter_in_the_end(office: Any, clock: Any, attempt: Any, carrier: Carrier) -> None:
    key = office.post()
    carrier.failures = [PeerUnavailableError("PACS does not answer")] * 2
    attempt()
    clock.forward(72 * 3600)
    assert attempt().state is DeliveryState.DEAD
    entry = office.ledger.entry(key)
    assert (entry.state, entry.reason) == (SeriesState.FAILED, "liver: pacs: PACS does not answer")
    assert office.ledger.redeliver(key.series_instance_uid) == key
    assert attempt().state is DeliveryState.CONFIRMED, "the time counts anew"


def test_refusals_are_counted_and_trouble_is_not(office: Any, clock: Any, attempt: Any, carrier: Carrier) -> None:
    office.post()
    carrier.failures = [PeerTroubleError("aborts"), DeliveryError("refuses")] * 8
    ends = []
    while only(office).state is DeliveryState.WAITING:
        ends.append(attempt())
        clock.now = ends[-1].next_try
    assert len(ends) == 16
    assert [end.refused for end in ends] == [False, True] * 8
    assert not any(end.out_of_reach for end in ends), "one that breaks off keeps no others"
    assert (only(office).state, only(office).refusals) == (DeliveryState.DEAD, 8)


@pytest.mark.parametrize("error", [NotDicomError("no file"), ConfigurationError("no address")])
def test_what_another_try_cannot_mend_is_a_dead_letter_at_once(
    office: Any, attempt: Any, carrier: Carrier, error: Exception
) -> None:
    office.post()
    carrier.failures = [error]
    assert attempt().state is DeliveryState.DEAD
    assert only(office).reason == str(error)


def test_a_fault_of_ours_quotes_nothing(
    office: Any, attempt: Any, carrier: Carrier, caplog: pytest.LogCaptureFixture
) -> None:
    office.post()
    carrier.failures = [KeyError("SECRET^PERSON")]
    attempt()
    assert "internal error (KeyError)" in only(office).reason
    assert "SECRET" not in only(office).reason + caplog.text


def test_a_lost_file_is_seen_before_anything_is_sent(office: Any, attempt: Any, carrier: Carrier) -> None:
    key = office.post()
    office.files(key)[0].unlink()
    assert attempt().state is DeliveryState.DEAD
    assert "holds 1 of 2 results" in only(office).reason
    assert "--recompute" in only(office).reason
    assert carrier.carried == []
    office.files(key)[0].unlink()
    with pytest.raises(PermanentError, match="holds no results"):
        unpack(office.settings.outbox, only(office))


def test_a_commitment_that_does_not_come_is_followed_by_a_question(
    office: Any, clock: Any, attempt: Any, carrier: Carrier
) -> None:
    key = office.post()
    carrier.by = None
    assert attempt().state is DeliveryState.SENT
    assert office.ledger.entry(key).state is SeriesState.DELIVERING
    assert attempt() is None
    clock.forward(60)
    carrier.by = Confirmation.FIND
    assert attempt().confirmed_by is Confirmation.FIND
    assert [one is None for one in carrier.transactions] == [False, True]


def test_a_commitment_confirms_what_it_names(office: Any, clock: Any, attempt: Any, carrier: Carrier) -> None:
    key = office.post()
    carrier.by = None
    attempt()
    attempts = Attempts(office.ledger, office.settings, clock)
    instances = frozenset(only(office).instances)
    transaction = str(only(office).transaction_uid)
    assert not attempts.take_report(CommitmentReport("1.2.3", instances, {}))
    assert attempts.take_report(CommitmentReport(transaction, instances, {}))
    assert (only(office).state, only(office).confirmed_by) == (DeliveryState.CONFIRMED, Confirmation.COMMITMENT)
    assert office.ledger.entry(key).state is SeriesState.DELIVERED
    assert not attempts.take_report(CommitmentReport(transaction, instances, {})), "nothing awaits it any more"


def test_a_failed_commitment_is_a_refusal(office: Any, clock: Any, attempt: Any, carrier: Carrier) -> None:
    office.post()
    carrier.by = None
    attempt()
    delivery = only(office)
    first, second = delivery.instances
    report = CommitmentReport(str(delivery.transaction_uid), frozenset({first}), {second: 0x0112})
    assert Attempts(office.ledger, office.settings, clock).take_report(report)
    assert (only(office).state, only(office).refusals) == (DeliveryState.WAITING, 1)
    assert "0x0112" in only(office).reason
    clock.forward(60)
    attempt()
    assert None not in carrier.transactions, "it is asked for anew"


def test_one_out_of_reach_holds_its_own_and_hastens_them_when_it_is_back(
    office: Any, clock: Any, attempt: Any, carrier: Carrier
) -> None:
    for number in range(5):
        office.post(f"1.2.{number}")
    carrier.failures = [PeerUnavailableError("down")]
    end = attempt()
    assert attempt() is None, "one try tells for all"
    clock.now = end.next_try
    for _ in range(5):
        assert attempt().state is DeliveryState.CONFIRMED


def test_waits_differ_from_node_to_node(office: Any) -> None:
    waits = {waiting_time(5, office.settings.delivery, random.Random(seed)) for seed in range(10)}
    assert len(waits) == 10
    assert waiting_time(10**6, office.settings.delivery, random.Random(0)).total_seconds() <= 300


def test_results_stay_until_they_are_confirmed_long_ago(
    office: Any, clock: Any, attempt: Any, carrier: Carrier
) -> None:
    key, other = office.post("1.2.1"), office.post("1.2.2")
    carrier.failures = [DeliveryError("refuses")]
    attempt(), attempt()
    (office.settings.outbox / "1.2.3@1" / "liver.rejected").mkdir(parents=True)
    (office.settings.outbox / "not a series").mkdir()
    outbox, ledger = office.settings.outbox, office.ledger
    assert remove_confirmed(outbox, ledger, None, clock.forward(86400)) == []
    assert remove_confirmed(outbox, ledger, 2.0, clock.now) == []
    (removed,) = remove_confirmed(outbox, ledger, 1.0, clock.now)
    kept = key if removed == other else other
    assert sorted(path.name for path in outbox.iterdir()) == sorted([str(kept), "1.2.3@1", "not a series"])
    assert remove_confirmed(outbox / "absent", ledger, 1.0, clock.now) == []


def test_refused_objects_are_kept_for_a_time_and_in_number(tmp_path: Path) -> None:
    now = datetime(2026, 3, 1, tzinfo=UTC)
    for days in range(5):
        folder = tmp_path / f"1.2.{days}@1" / "liver.rejected"
        folder.mkdir(parents=True)
        (folder / "report.dcm").write_text("refused")
        written = (now - timedelta(days=days)).timestamp()
        os.utime(folder, (written, written))
    (tmp_path / "1.2.4@1" / "spleen").mkdir()

    def left() -> list[str]:
        return sorted(path.parent.name for path in tmp_path.glob("*/*.rejected"))

    assert remove_rejected(tmp_path, DeliverySettings(), now) == []
    remove_rejected(tmp_path, DeliverySettings(keep_rejected_days=3.5), now)
    assert left() == ["1.2.0@1", "1.2.1@1", "1.2.2@1", "1.2.3@1"]
    assert (tmp_path / "1.2.4@1" / "spleen").is_dir()
    remove_rejected(tmp_path, DeliverySettings(keep_rejected=1), now)
    assert left() == ["1.2.0@1"]
    assert not (tmp_path / "1.2.3@1").exists()
    assert remove_rejected(tmp_path / "absent", DeliverySettings(), now) == []
