"""The ledger: transitions, their atomicity, and what it says when it cannot be used."""

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fewshot_node.dicom.identity import InstanceIdentity, encode_file_meta
from fewshot_node.dicom.ledger import (
    Ledger,
    LostShadow,
    SeriesNote,
    SeriesState,
    ShadowOutcome,
    ShadowState,
    TaskOutcome,
)
from fewshot_node.dicom.spool import Spool
from fewshot_node.errors import ConfigurationError, RetryableError, SeriesError
from fewshot_node.records import SeriesKey

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
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'deep' / 'ledger.sqlite'}"


@pytest.fixture
def ledger(url: str, clock: Clock) -> Iterator[Ledger]:
    ledger = Ledger(url, clock)
    yield ledger
    ledger.dispose()


def note(ledger: Ledger, series: str = "1.2", when: datetime = NOON, ae: str = "SCANNER") -> None:
    ledger.note_instances([SeriesNote.of_one(series, "1.1", ae, 100, when)])


def dispatched(ledger: Ledger, series: str = "1.2") -> SeriesKey:
    note(ledger, series)
    key = ledger.close(series)
    assert key is not None
    assert ledger.mark_dispatched(key, 1, "run-1")
    return key


def test_instances_are_counted_in_one_revision(ledger: Ledger) -> None:
    note(ledger)
    note(ledger, when=NOON + timedelta(seconds=5))
    entry = ledger.get("1.2")
    assert entry is not None
    assert (entry.key, entry.instances, entry.bytes) == (SeriesKey("1.2", 1), 2, 200)
    assert (entry.study_instance_uid, entry.calling_ae_title) == ("1.1", "SCANNER")
    assert (entry.first_received, entry.last_received) == (NOON, NOON + timedelta(seconds=5))
    assert entry.state is SeriesState.RECEIVING
    assert entry.last_received.utcoffset() == timedelta(0)


def test_times_in_another_zone_are_the_same_instant(ledger: Ledger) -> None:
    zone = datetime.fromisoformat("2024-05-01T14:00:00+02:00")
    note(ledger, when=zone)
    entry = ledger.get("1.2")
    assert entry is not None
    assert entry.first_received == NOON


def test_a_late_instance_opens_the_next_revision(ledger: Ledger) -> None:
    key = dispatched(ledger)
    note(ledger)
    late = ledger.get("1.2")
    assert late is not None
    assert (late.key.revision, late.state, late.instances, late.bytes) == (2, SeriesState.RECEIVING, 2, 200)
    first = ledger.entry(key)
    assert first is not None
    assert (first.state, first.instances) == (SeriesState.DISPATCHED, 1)


def test_close_takes_only_what_is_receiving(ledger: Ledger) -> None:
    assert ledger.close("1.2") is None
    note(ledger)
    assert ledger.close("1.2") == SeriesKey("1.2", 1)
    assert ledger.close("1.2") is None


def test_quiet_periods_go_by_the_calling_ae_title(ledger: Ledger) -> None:
    note(ledger, "1.2", ae="FAST")
    note(ledger, "1.3", ae="SLOW")
    note(ledger, "1.4", ae="FAST")
    periods = {"FAST": 10.0, "SLOW": 60.0}
    assert ledger.close_quiet(NOON + timedelta(seconds=9.9), periods.__getitem__) == []
    after = NOON + timedelta(seconds=10)
    assert ledger.close_quiet(after, periods.__getitem__, busy={"1.4"}) == [SeriesKey("1.2", 1)]
    later = NOON + timedelta(seconds=60)
    assert set(ledger.close_quiet(later, periods.__getitem__)) == {SeriesKey("1.3", 1), SeriesKey("1.4", 1)}


def test_waiting_gives_the_oldest_first_and_no_more_than_asked(ledger: Ledger) -> None:
    for number, seconds in ((1, 30), (2, 10), (3, 20)):
        note(ledger, f"1.{number}", NOON + timedelta(seconds=seconds))
        ledger.close(f"1.{number}")
    note(ledger, "1.9")
    assert [entry.key.series_instance_uid for entry in ledger.waiting()] == ["1.2", "1.3", "1.1"]
    assert [entry.key.series_instance_uid for entry in ledger.waiting(limit=1)] == ["1.2"]


def test_a_revision_is_dispatched_once(ledger: Ledger) -> None:
    key = dispatched(ledger)
    assert not ledger.mark_dispatched(key, 1, "run-2")
    entry = ledger.entry(key)
    assert entry is not None
    assert (entry.state, entry.submission_id) == (SeriesState.DISPATCHED, "run-1")
    assert ledger.waiting() == ()


def test_a_claim_excludes_other_workers_and_other_attempts(ledger: Ledger) -> None:
    key = dispatched(ledger)
    assert not ledger.claim(key, 2, "a", 30)
    assert ledger.claim(key, 1, "a", 30)
    assert ledger.claim(key, 1, "a", 30)
    assert not ledger.claim(key, 1, "b", 30)
    assert ledger.renew(key, "a", 30)
    assert not ledger.renew(key, "b", 30)


def test_a_worker_quicker_than_the_dispatcher_gets_its_claim(ledger: Ledger) -> None:
    note(ledger)
    key = ledger.close("1.2")
    assert key is not None
    assert ledger.claim(key, 1, "a", 30)
    assert ledger.waiting() == ()
    assert ledger.mark_dispatched(key, 1, "run-1")
    entry = ledger.entry(key)
    assert entry is not None
    assert (entry.claimed_by, entry.submission_id) == ("a", "run-1")


@pytest.mark.parametrize("state", [SeriesState.DELIVERED, SeriesState.NO_TASK, SeriesState.FAILED])
def test_only_the_holder_of_the_claim_finishes(ledger: Ledger, state: SeriesState) -> None:
    key = dispatched(ledger)
    outcome = TaskOutcome("liver", 3, SeriesState.DELIVERED, "", "1.2.3", "1.2.4", {"encode": 1.5})
    assert not ledger.finish(key, "a", state, "early", [outcome])
    ledger.claim(key, 1, "a", 30)
    assert not ledger.finish(key, "b", state, "thief", [outcome])
    assert ledger.finish(key, "a", state, "why", [outcome])
    assert not ledger.finish(key, "a", state, "twice", [])
    entry = ledger.get("1.2")
    assert entry is not None
    assert (entry.state, entry.reason, entry.outcomes) == (state, "why", (outcome,))
    assert (entry.claimed_by, entry.lease_until) == (None, None)


def test_finish_takes_final_states_only(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="complete"):
        ledger.finish(dispatched(ledger), "a", SeriesState.COMPLETE, "", [])


def test_a_shadow_is_noted_beside_the_outcomes_and_ends_no_series(ledger: Ledger) -> None:
    key = dispatched(ledger)
    assert ledger.claim(key, 1, "a", 60)
    live = TaskOutcome("liver", 1, SeriesState.FAILED, "no")
    begun = ShadowOutcome("liver", 2, ShadowState.RUNNING)
    assert ledger.finish(key, "a", SeriesState.FAILED, "liver: no", [live, begun])
    assert shadows(ledger) == (begun,)
    kept = ShadowOutcome("liver", 2, ShadowState.KEPT, "", "1.9", "1.8", {"encode": 0.5})
    assert ledger.note_shadow(key, "a", kept)
    entry = ledger.get("1.2")
    assert entry is not None
    assert (entry.state, entry.outcomes, entry.shadows) == (SeriesState.FAILED, (live,), (kept,))


def test_a_series_computed_again_begins_without_shadows(ledger: Ledger) -> None:
    key = in_shadow(ledger, "liver", "spleen")
    ledger.note_shadow(key, "a", ShadowOutcome("liver", 2, ShadowState.KEPT))
    ledger.retry("1.2")
    assert ledger.claim(key, 2, "b", 60)
    assert ledger.finish(key, "b", SeriesState.NO_TASK, "", [])
    assert shadows(ledger) == ()


def in_shadow(ledger: Ledger, *tasks: str, worker: str = "a", lease_s: float = 30) -> SeriesKey:
    """Let a worker end the series, with shadows that it runs now."""
    key = dispatched(ledger)
    assert ledger.claim(key, 1, worker, lease_s)
    begun = [ShadowOutcome(task, 2, ShadowState.RUNNING) for task in tasks]
    assert ledger.finish(key, worker, SeriesState.NO_TASK, "", begun)
    return key


def shadows(ledger: Ledger) -> tuple[ShadowOutcome, ...]:
    entry = ledger.get("1.2")
    assert entry is not None
    return entry.shadows


def test_shadows_of_a_dead_worker_fail_and_say_what_to_do(ledger: Ledger, clock: Clock) -> None:
    key = in_shadow(ledger, "liver", "spleen")
    kept = ShadowOutcome("liver", 2, ShadowState.KEPT)
    assert ledger.note_shadow(key, "a", kept)
    assert ledger.fail_lost_shadows(clock.forward(29)) == []
    assert ledger.fail_lost_shadows(clock.forward(2)) == [LostShadow(key, "spleen", "a")]
    first, second = shadows(ledger)
    assert (first, second.state) == (kept, ShadowState.FAILED)
    assert "its worker died or was stopped" in second.reason
    assert "series retry --recompute" in second.reason
    entry = ledger.get("1.2")
    assert entry is not None
    assert (entry.state, entry.reason, entry.attempt) == (SeriesState.NO_TASK, "", 1), "the series is left alone"
    assert ledger.fail_lost_shadows(clock.forward(3600)) == []


def test_a_worker_that_lives_keeps_its_shadows(ledger: Ledger, clock: Clock) -> None:
    key = in_shadow(ledger, "liver")
    clock.forward(20)
    assert ledger.renew_shadows(key, "a", 30)
    assert ledger.fail_lost_shadows(clock.forward(29)) == []
    assert ledger.note_shadow(key, "a", ShadowOutcome("liver", 2, ShadowState.KEPT))
    assert not ledger.renew_shadows(key, "a", 30), "there is nothing left to run"


def test_a_worker_that_was_taken_for_dead_notes_no_shadow(ledger: Ledger, clock: Clock) -> None:
    key = in_shadow(ledger, "liver")
    ledger.fail_lost_shadows(clock.forward(31))
    late = ShadowOutcome("liver", 2, ShadowState.KEPT)
    assert not ledger.renew_shadows(key, "a", 30)
    assert not ledger.note_shadow(key, "a", late)
    ledger.retry("1.2")
    assert ledger.claim(key, 2, "b", 30)
    begun = ShadowOutcome("liver", 2, ShadowState.RUNNING)
    assert ledger.finish(key, "b", SeriesState.NO_TASK, "", [begun])
    assert not ledger.note_shadow(key, "a", late)
    assert shadows(ledger) == (begun,)


def test_a_dead_worker_gives_its_series_back_and_cannot_finish_it(ledger: Ledger, clock: Clock) -> None:
    key = dispatched(ledger)
    ledger.claim(key, 1, "a", lease_s=30)
    assert ledger.release_expired(clock.forward(29), max_attempts=2) == []
    (expired,) = ledger.release_expired(clock.forward(2), max_attempts=2)
    assert (expired.key, expired.worker, expired.state) == (key, "a", SeriesState.COMPLETE)
    assert not ledger.finish(key, "a", SeriesState.DELIVERED, "", [])
    assert not ledger.renew(key, "a", 30)
    (waiting,) = ledger.waiting()
    assert (waiting.attempt, waiting.submission_id) == (2, None)
    assert ledger.mark_dispatched(key, 2, "run-2")
    assert not ledger.claim(key, 1, "a", 30)  # the old submission
    assert ledger.claim(key, 2, "b", 30)
    (expired,) = ledger.release_expired(clock.forward(31), max_attempts=2)
    assert expired.state is SeriesState.FAILED
    entry = ledger.get("1.2")
    assert entry is not None
    assert (entry.state, entry.reason) == (SeriesState.FAILED, entry.reason)
    assert entry.reason.startswith("worker died 2 times: ")


def test_an_operators_retry_starts_the_count_of_deaths_anew(ledger: Ledger, clock: Clock) -> None:
    key = dispatched(ledger)
    assert ledger.retry("1.2") is None
    ledger.claim(key, 1, "a", 30)
    ledger.release_expired(clock.forward(31), max_attempts=1)
    assert ledger.retry("1.2") == key
    (entry,) = ledger.waiting()
    assert (entry.attempt, entry.reason) == (2, "")
    ledger.claim(key, 2, "a", 30)
    (expired,) = ledger.release_expired(clock.forward(31), max_attempts=2)
    assert expired.state is SeriesState.COMPLETE
    assert ledger.retry("9.9") is None


def test_a_submission_that_nobody_claims_is_found_and_taken_back(ledger: Ledger, clock: Clock) -> None:
    key = dispatched(ledger)
    assert ledger.stalled(clock.forward(59), older_than_s=60) == ()
    (entry,) = ledger.stalled(clock.forward(2), older_than_s=60)
    assert (entry.key, entry.attempt, entry.submission_id) == (key, 1, "run-1")
    assert not ledger.requeue(key, 2)
    assert ledger.requeue(key, 1)
    assert [(found.key, found.attempt) for found in ledger.waiting()] == [(key, 2)]
    assert not ledger.requeue(key, 2)


def test_a_busy_node_takes_back_only_what_was_passed_over(ledger: Ledger, clock: Clock) -> None:
    passed, later, waiting = (dispatched(ledger, uid) for uid in ("1.1", "1.2", "1.3") if clock.forward(1))
    assert ledger.claim(later, 1, "a", lease_s=600)
    found = [entry.key for entry in ledger.stalled(clock.forward(120), older_than_s=60)]
    assert found == [passed]
    assert waiting not in found
    ledger.note_instances(
        [SeriesNote.of_one("1.2", "1", "CT1", 1, clock.forward(1))]
    )  # a new revision does not hide the lease
    assert [entry.key for entry in ledger.stalled(clock.forward(1), older_than_s=60)] == [passed]


def test_a_worker_gives_a_series_back(ledger: Ledger, clock: Clock) -> None:
    key = dispatched(ledger)
    ledger.claim(key, 1, "a", lease_s=30)
    assert not ledger.give_back(key, "b")
    assert ledger.give_back(key, "a")
    (entry,) = ledger.waiting()
    assert (entry.attempt, entry.claimed_by) == (2, None)
    assert not ledger.finish(key, "a", SeriesState.DELIVERED, "", [])


def test_series_and_counts_look_at_the_newest_revision(ledger: Ledger) -> None:
    dispatched(ledger, "1.2")
    note(ledger, "1.2", NOON + timedelta(seconds=9))
    note(ledger, "1.3", NOON)
    ledger.close("1.3")
    ledger.note_instances((), {"1.3": [("odd", NOON)]})
    assert [str(entry.key) for entry in ledger.series()] == ["1.2@2", "1.3@1"]
    (complete,) = ledger.series(SeriesState.COMPLETE)
    assert [warning.text for warning in complete.warnings] == ["odd"]
    counts = ledger.counts()
    assert counts == {state: int(state in {"receiving", "complete"}) for state in SeriesState}
    assert len(ledger.series(limit=1)) == 1


def test_received_gives_all_files_of_the_series(ledger: Ledger, tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    key = dispatched(ledger)
    with pytest.raises(SeriesError, match=r"1\.2@1 is not in the spool"):
        ledger.received(key, spool)
    folder = spool.root / "series" / "1.2"
    folder.mkdir()
    for name in ("1.2.1.dcm", "1.2.2.dcm"):
        (folder / name).touch()
    received = ledger.received(key, spool)
    assert (received.key, received.study_instance_uid, received.calling_ae_title) == (key, "1.1", "SCANNER")
    assert [path.name for path in received.files] == ["1.2.1.dcm", "1.2.2.dcm"]
    with pytest.raises(SeriesError, match=r"1\.9@1 is not in the ledger"):
        ledger.received(SeriesKey("1.9"), spool)


@pytest.fixture
def spooled(tmp_path: Path, make_instance: Any, encode_instance: Any) -> Callable[[Spool, int], None]:
    """Put an instance into a spool, as the receiver does."""

    def put(spool: Spool, number: int) -> None:
        dataset = make_instance(number)
        uids = (dataset.SOPClassUID, dataset.SOPInstanceUID)
        meta = encode_file_meta(uids, dataset.file_meta.TransferSyntaxUID, "SCANNER", "FEWSHOT")
        file, path = spool.open_incoming()
        with file:
            file.write(meta + encode_instance(dataset))
        identity = InstanceIdentity(*uids, dataset.StudyInstanceUID, dataset.SeriesInstanceUID)
        spool.place(path, len(meta), identity)

    return put


def test_rebuild_makes_the_ledger_from_the_spool(
    ledger: Ledger, tmp_path: Path, spooled: Callable[[Spool, int], None]
) -> None:
    spool = Spool(tmp_path / "spool")
    spooled(spool, 1)
    spooled(spool, 2)
    assert ledger.rebuild(spool) == 1
    (entry,) = ledger.series()
    assert (entry.state, entry.instances, entry.calling_ae_title) == (SeriesState.RECEIVING, 2, "SCANNER")
    newest = max(path.stat().st_mtime for path in spool.series_files(entry.key.series_instance_uid))
    assert entry.last_received.timestamp() == pytest.approx(newest, abs=1e-3)
    assert ledger.rebuild(spool) == 0


def test_rebuild_counts_what_the_ledger_missed(
    ledger: Ledger, tmp_path: Path, spooled: Callable[[Spool, int], None]
) -> None:
    spool = Spool(tmp_path / "spool")
    spooled(spool, 1)
    ledger.rebuild(spool)
    spooled(spool, 2)
    assert ledger.rebuild(spool) == 1
    (entry,) = ledger.series()
    assert (entry.key.revision, entry.instances) == (1, 2)
    ledger.close(entry.key.series_instance_uid)
    spooled(spool, 3)
    assert ledger.rebuild(spool) == 1
    (entry,) = ledger.series()
    assert (entry.key.revision, entry.instances, entry.state) == (2, 3, SeriesState.RECEIVING)


def test_rebuild_leaves_out_what_this_node_did_not_write(
    ledger: Ledger, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = Spool(tmp_path / "spool")
    folder = spool.root / "series" / "1.2.3"
    folder.mkdir()
    (folder / "1.dcm").write_bytes(b"not DICOM")
    (spool.root / "series" / "lost+found").mkdir()
    assert ledger.rebuild(spool) == 0
    assert ledger.series() == ()
    assert "series 1.2.3 left out" in caplog.text


CLAIMER = """
import sys
from fewshot_node.dicom.ledger import Ledger, SeriesState
from fewshot_node.records import SeriesKey
ledger = Ledger(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[3])):
    key = SeriesKey(f"1.{number}")
    if ledger.claim(key, 1, sys.argv[2], 60):
        print(key.series_instance_uid, ledger.finish(key, sys.argv[2], SeriesState.DELIVERED, "", []))
"""

NOTER = """
import sys
from datetime import UTC, datetime
from fewshot_node.dicom.ledger import Ledger, SeriesNote
ledger = Ledger(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for _ in range(int(sys.argv[3])):
    ledger.note_instances([SeriesNote.of_one("1.2", "1.1", sys.argv[2], 10, datetime.now(UTC))])
"""


def race(script: str, url: str, rounds: int) -> list[str]:
    """Run a script in two processes that begin at the same moment; give what each printed."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, url, name, str(rounds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("a", "b")
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    printed = []
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        printed.append(process.communicate(timeout=60)[0])
        assert process.returncode == 0
    return printed


def test_of_two_processes_that_claim_at_once_one_wins(ledger: Ledger, url: str) -> None:
    for number in range(40):
        dispatched(ledger, f"1.{number}")
    won = [line for printed in race(CLAIMER, url, 40) for line in printed.splitlines()]
    assert sorted(won) == sorted(f"1.{number} True" for number in range(40))
    assert ledger.counts()[SeriesState.DELIVERED] == 40


def test_two_processes_count_into_one_revision(ledger: Ledger, url: str) -> None:
    race(NOTER, url, 50)
    (entry,) = ledger.series()
    assert (entry.key.revision, entry.instances, entry.bytes) == (1, 100, 1000)


def test_a_damaged_file_is_named_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"this is no database " * 100)
    with pytest.raises(ConfigurationError, match=r"ledger\.sqlite cannot be used.*move it away.*rebuilt"):
        Ledger(f"sqlite:///{path}")


@pytest.mark.parametrize("statement", ["UPDATE ledger_version SET version = 0", "DROP TABLE ledger_version"])
def test_a_ledger_of_another_version_is_named_with_the_remedy(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "ledger.sqlite"
    Ledger(f"sqlite:///{path}").dispose()
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()
    with pytest.raises(ConfigurationError, match=r"ledger\.sqlite.*version (0|None).*move it away"):
        Ledger(f"sqlite:///{path}")


def test_an_url_that_is_none_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="ledger URL"):
        Ledger("no url at all")


def test_a_busy_database_is_worth_another_try(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fewshot_node.dicom.ledger.schema.BUSY_TIMEOUT_S", 0.05)
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(f"sqlite:///{path}")
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(RetryableError, match="locked"):
        note(ledger)
    blocker.execute("ROLLBACK")
    blocker.close()
    note(ledger)
    assert len(ledger.series()) == 1
    ledger.dispose()


def test_naive_times_are_refused(ledger: Ledger) -> None:
    with pytest.raises(Exception, match="time zone"):
        note(ledger, when=datetime(2024, 5, 1))  # noqa: DTZ001


VERSION_1 = """
CREATE TABLE ledger_version (
    version INTEGER NOT NULL,
    PRIMARY KEY (version)
);
CREATE TABLE outcomes (
    series_instance_uid VARCHAR(64) NOT NULL,
    revision INTEGER NOT NULL,
    task_name VARCHAR(255) NOT NULL,
    task_revision INTEGER NOT NULL,
    state VARCHAR(16) NOT NULL,
    reason TEXT NOT NULL,
    segmentation_instance_uid VARCHAR(64),
    report_instance_uid VARCHAR(64),
    seconds JSON NOT NULL,
    PRIMARY KEY (series_instance_uid, revision, task_name)
);
CREATE TABLE series (
    series_instance_uid VARCHAR(64) NOT NULL,
    revision INTEGER NOT NULL,
    study_instance_uid VARCHAR(64) NOT NULL,
    calling_ae_title VARCHAR(16) NOT NULL,
    instances INTEGER NOT NULL,
    bytes BIGINT NOT NULL,
    first_received DATETIME NOT NULL,
    last_received DATETIME NOT NULL,
    state VARCHAR(16) NOT NULL,
    reason TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    deaths INTEGER NOT NULL,
    submission_id VARCHAR(64),
    dispatched_at DATETIME,
    claimed_by VARCHAR(255),
    lease_until DATETIME,
    updated DATETIME NOT NULL,
    PRIMARY KEY (series_instance_uid, revision)
);
CREATE TABLE warnings (
    id INTEGER NOT NULL,
    series_instance_uid VARCHAR(64) NOT NULL,
    text TEXT NOT NULL,
    time DATETIME NOT NULL,
    PRIMARY KEY (id)
);
INSERT INTO ledger_version VALUES (1);
INSERT INTO series VALUES ('1.2', 1, '1.1', 'CT1', 3, 300, '2024-05-01 12:00:00', '2024-05-01 12:01:00',
    'delivered', '', 1, 0, NULL, NULL, NULL, NULL, '2024-05-01 12:05:00');
INSERT INTO outcomes VALUES ('1.2', 1, 'liver', 4, 'delivered', '', '1.9', '1.8', '{"encode": 2.5}');
"""


def test_a_ledger_of_version_1_goes_on_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    old = sqlite3.connect(path)
    old.executescript(VERSION_1)
    old.close()
    for _ in range(2):  # the second time it is of the present version already
        ledger = Ledger(f"sqlite:///{path}")
        entry = ledger.get("1.2")
        assert entry is not None
        assert (entry.state, entry.instances, entry.expected, entry.removed_at) == ("delivered", 3, None, None)
        assert entry.outcomes[0].segmentation_instance_uid == "1.9"
        assert entry.shadows == ()
        ledger.dispose()
    ledger = Ledger(f"sqlite:///{path}")
    ledger.note_instances([SeriesNote.of_one("1.2", "1.1", "CT1", 100, NOON, 4)])
    late = ledger.get("1.2")
    assert late is not None
    assert (late.key.revision, late.instances, late.expected) == (2, 4, 4)
    ledger.dispose()


def test_shadows_that_version_6_left_running_are_ended(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    Ledger(f"sqlite:///{path}").dispose()
    old = sqlite3.connect(path)
    old.executescript(
        """
        ALTER TABLE shadows DROP COLUMN claimed_by;
        ALTER TABLE shadows DROP COLUMN lease_until;
        UPDATE ledger_version SET version = 6;
        INSERT INTO shadows VALUES ('1.2', 1, 'liver', 4, 'running', '', NULL, NULL, '{}');
        INSERT INTO shadows VALUES ('1.2', 1, 'spleen', 4, 'kept', '', '1.9', NULL, '{}');
        """
    )
    old.close()
    ledger = Ledger(f"sqlite:///{path}", lambda: NOON)
    note(ledger)
    assert ledger.fail_lost_shadows(NOON) == [LostShadow(SeriesKey("1.2", 1), "liver", None)]
    assert [(one.task_name, one.state.value) for one in shadows(ledger)] == [("liver", "failed"), ("spleen", "kept")]
    ledger.dispose()
