"""A few hundred mutants of ``mutations``, against a receiver in this process; ``make bench-receive`` sends 10,000."""

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.dicom.mutations import mutated_association, mutated_dataset, play, store_mutated
from tests.dicom.wire import WireSender, instance

ASSOCIATIONS, DATASETS, BATCH = 200, 300, 50
STATUSES = {0x0000, 0xA900, 0xB000, 0xC000}
GOOD_UID, GOOD_SERIES = "1.2.826.0.1.3680043.8.498.90.1", "1.2.826.0.1.3680043.8.498.90"


@pytest.fixture
def thread_deaths(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Threads that an exception ended; nothing in the receiver may die of what a peer sends."""
    deaths: list[str] = []
    monkeypatch.setattr(
        threading, "excepthook", lambda args: deaths.append(f"{args.exc_type.__name__} in {args.thread}")
    )
    return deaths


def serves(port: int, number: int) -> bool:
    with WireSender(port) as sender:
        uid = f"{GOOD_UID}.{number + 1}"
        served = sender.rejected is None and sender.echo() == sender.store(uid, instance(uid, GOOD_SERIES)) == 0
        sender.release()
    return served


def unfinished(intake: Any) -> list[Path]:
    return list((intake.spool.root / "incoming").iterdir())


def test_mutants_are_the_same_for_the_same_seed() -> None:
    assert [mutated_association(seed) for seed in range(50)] == [mutated_association(seed) for seed in range(50)]
    assert [mutated_dataset(seed) for seed in range(50)] == [mutated_dataset(seed) for seed in range(50)]
    assert len({mutated_association(seed).pdus for seed in range(50)}) == 50


@pytest.mark.parametrize("first", range(0, ASSOCIATIONS, BATCH))
def test_a_broken_association_costs_only_itself(
    intake: Any, eventually: Any, thread_deaths: list[str], first: int
) -> None:
    for seed in range(first, first + BATCH):
        assert play(intake.receiver.port, mutated_association(seed)).served, f"seed {seed}"
    assert serves(intake.receiver.port, first)
    eventually(lambda: not unfinished(intake))
    intake.receiver.stop()
    assert thread_deaths == []


# What pydicom remarks about odd values is no concern here.
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize("first", range(0, DATASETS, BATCH))
def test_a_broken_data_set_costs_only_itself(
    intake: Any, eventually: Any, thread_deaths: list[str], first: int
) -> None:
    statuses: Counter[int | None] = Counter()
    with WireSender(intake.receiver.port) as sender:
        for seed in range(first, first + BATCH):
            status = store_mutated(sender, seed)
            assert status in STATUSES, f"seed {seed}"
            statuses[status] += 1
        sender.release()
    assert statuses[0x0000] > 0
    assert statuses[0xC000] > 0
    assert serves(intake.receiver.port, first)
    eventually(lambda: not unfinished(intake))
    stored = list((intake.spool.root / "series").rglob("*.dcm"))
    assert len(stored) == statuses[0x0000] + 1
    intake.receiver.stop()
    assert thread_deaths == []
