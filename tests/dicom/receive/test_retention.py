"""Retention: what goes, what never goes, and what happens when something comes in between."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fewshot_node.config import RetentionSettings
from fewshot_node.dicom.ledger import Ledger, SeriesState
from fewshot_node.dicom.pull.pull import held_instances
from fewshot_node.dicom.receive.retention import remove_expired, retention_loop
from fewshot_node.dicom.spool import Spool
from fewshot_node.errors import RefusedError, RetryableError

SERIES = "1.2.826.0.1.3680043.8.498.2"
WEEK = RetentionSettings(delivered_days=7)
LATER = datetime.now(UTC) + timedelta(days=8)


def end(intake: Any, state: SeriesState) -> None:
    """Take the series through its work to a final state."""
    intake.settle()
    key = intake.ledger.close(SERIES)
    assert intake.ledger.claim(key, 1, "worker", 60)
    assert intake.ledger.finish(key, "worker", state, "", [])


@pytest.fixture
def delivered(intake: Any, connect: Any, make_instance: Any) -> Any:
    sender = connect(intake.receiver.port)
    for number in (1, 2, 3):
        assert sender.store(make_instance(number)) == 0
    assert sender.store(make_instance(1, PixelData=b"\x07" * 32)) == 0xB000  # a conflict is kept aside
    end(intake, SeriesState.DELIVERED)
    return intake


def files(spool: Spool) -> list[str]:
    return [path.name for path in spool.root.rglob("*.dcm")]


def test_what_was_delivered_long_enough_ago_goes_as_a_whole(delivered: Any) -> None:
    now = datetime.now(UTC)
    assert remove_expired(delivered.spool, delivered.ledger, WEEK, now + timedelta(days=6)) == []
    assert len(files(delivered.spool)) == 4
    assert remove_expired(delivered.spool, delivered.ledger, WEEK, LATER) == [SERIES]
    assert files(delivered.spool) == []
    entry = delivered.ledger.get(SERIES)
    assert (entry.state, entry.instances, entry.removed_at) == (SeriesState.DELIVERED, 3, LATER)
    assert delivered.ledger.retry(SERIES) is None
    assert remove_expired(delivered.spool, delivered.ledger, WEEK, LATER) == []


def test_nothing_goes_unless_the_settings_say_so(delivered: Any) -> None:
    assert remove_expired(delivered.spool, delivered.ledger, RetentionSettings(no_task_days=0), LATER) == []
    assert remove_expired(delivered.spool, delivered.ledger, RetentionSettings(), LATER) == []
    assert len(files(delivered.spool)) == 4


@pytest.mark.parametrize("state", ["receiving", "complete", "dispatched", "failed", "no task"])
def test_what_was_not_delivered_stays(intake: Any, connect: Any, make_instance: Any, state: str) -> None:
    connect(intake.receiver.port).store(make_instance())
    if state in {"failed", "no task"}:
        end(intake, SeriesState(state))
    elif state != "receiving":
        intake.settle()
        key = intake.ledger.close(SERIES)
        assert state == "complete" or intake.ledger.mark_dispatched(key, 1, "run")
    assert intake.entry(SERIES).state == state
    assert remove_expired(intake.spool, intake.ledger, RetentionSettings(delivered_days=0), LATER) == []
    assert len(files(intake.spool)) == 1


def test_what_no_task_wanted_goes_only_when_asked(intake: Any, connect: Any, make_instance: Any) -> None:
    connect(intake.receiver.port).store(make_instance())
    end(intake, SeriesState.NO_TASK)
    assert remove_expired(intake.spool, intake.ledger, RetentionSettings(no_task_days=1), LATER) == [SERIES]


def test_a_late_instance_stands_alone_and_says_so(delivered: Any, connect: Any, make_instance: Any) -> None:
    remove_expired(delivered.spool, delivered.ledger, WEEK, LATER)
    assert connect(delivered.receiver.port).store(make_instance(4)) == 0
    entry = delivered.entry(SERIES)
    assert (entry.key.revision, entry.instances, entry.removed_at) == (2, 1, None)
    assert "3 earlier instances were removed" in entry.warnings[-1].text


def late_after_marking(
    delivered: Any,
    connect: Any,
    make_instance: Any,
    patch: pytest.MonkeyPatch,
    then: Callable[[], None] = lambda: None,
) -> None:
    """Let an instance come after the ledger was told and before the files go."""
    sender = connect(delivered.receiver.port)
    mark = delivered.ledger.mark_removed

    def late(*arguments: Any) -> bool:
        marked: bool = mark(*arguments)
        assert sender.store(make_instance(4)) == 0
        then()  # with `settle` the ledger counts it, and believes the others to be removed
        return marked

    patch.setattr(delivered.ledger, "mark_removed", late)


def test_an_instance_that_comes_in_between_keeps_the_series(
    delivered: Any, connect: Any, make_instance: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    late_after_marking(delivered, connect, make_instance, monkeypatch)
    assert remove_expired(delivered.spool, delivered.ledger, WEEK, LATER) == []
    assert len(delivered.spool.series_files(SERIES)) == 4
    assert delivered.entry(SERIES).key.revision == 2


def test_a_retry_in_between_wins_or_is_refused(delivered: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = delivered.ledger.mark_removed

    def retried_first(*arguments: Any) -> bool:
        assert delivered.ledger.retry(SERIES) is not None
        return bool(mark(*arguments))

    monkeypatch.setattr(delivered.ledger, "mark_removed", retried_first)
    assert remove_expired(delivered.spool, delivered.ledger, WEEK, LATER) == []
    assert len(delivered.spool.series_files(SERIES)) == 3
    assert delivered.ledger.get(SERIES).removed_at is None


def test_a_crash_between_ledger_and_files_is_made_good(
    delivered: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_arguments: Any) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(delivered.spool, "remove_series", killed)
        with pytest.raises(KeyboardInterrupt):
            remove_expired(delivered.spool, delivered.ledger, WEEK, LATER)
    delivered.receiver.stop()
    spool, ledger = Spool(tmp_path / "spool"), Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    assert ledger.rebuild(spool) == 0  # it does not come back as received
    assert remove_expired(spool, ledger, WEEK, LATER) == [SERIES]
    assert files(spool) == []
    ledger.dispose()


def test_a_crash_between_moving_aside_and_removing_is_swept(delivered: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.rmtree", lambda *_arguments, **_options: None)
    assert remove_expired(delivered.spool, delivered.ledger, WEEK, LATER) == [SERIES]
    assert delivered.spool.series_files(SERIES) == ()
    assert len(files(delivered.spool)) == 4
    monkeypatch.undo()
    delivered.receiver.stop()
    delivered.spool.sweep()
    assert files(delivered.spool) == []


def test_the_loop_removes_while_it_runs(delivered: Any, eventually: Any) -> None:
    settings = RetentionSettings(delivered_days=0, every_s=0.01)
    with retention_loop(delivered.spool, delivered.ledger, settings):
        eventually(lambda: not delivered.spool.series_files(SERIES))
    with retention_loop(delivered.spool, delivered.ledger, RetentionSettings()):
        pass


def test_a_spool_that_cannot_be_listed_for_a_moment_does_not_end_the_loop(
    delivered: Any, eventually: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    list_them, failures = delivered.spool.series_instance_uids, iter([PermissionError(13, "denied", "SECRET")])

    def fails_once() -> tuple[str, ...]:
        for failure in failures:
            raise failure
        return list_them()  # type: ignore[no-any-return]

    monkeypatch.setattr(delivered.spool, "series_instance_uids", fails_once)
    with retention_loop(delivered.spool, delivered.ledger, RetentionSettings(delivered_days=0, every_s=0.01)):
        eventually(lambda: not delivered.spool.series_files(SERIES))
    assert "retention is tried again later: PermissionError" in caplog.text
    assert "SECRET" not in caplog.text


def test_a_late_instance_that_is_counted_in_between_is_counted_with_the_others(
    delivered: Any, connect: Any, make_instance: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        late_after_marking(delivered, connect, make_instance, patch, delivered.settle)
        assert remove_expired(delivered.spool, delivered.ledger, WEEK, LATER) == []
    assert [entry.removed_at for entry in delivered.ledger.series()] == [None]
    entry = delivered.entry(SERIES)
    assert (entry.key.revision, entry.instances, len(delivered.spool.series_files(SERIES))) == (2, 4, 4)
    assert not any("were removed" in warning.text for warning in entry.warnings)
    assert delivered.ledger.rebuild(delivered.spool) == 0
    key = delivered.ledger.close(SERIES)
    assert delivered.ledger.claim(key, 1, "worker", 60)
    assert delivered.ledger.finish(key, "worker", SeriesState.DELIVERED, "", [])
    assert remove_expired(delivered.spool, delivered.ledger, WEEK, LATER) == [SERIES]


def test_a_crash_does_not_lose_what_came_just_before_it(
    delivered: Any, connect: Any, make_instance: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger was told, the files are there, and so is an instance that was not counted any more."""
    entry = delivered.ledger.get(SERIES)
    monkeypatch.setattr(delivered.ledger, "note_instances", lambda *_arguments: _raise())
    assert connect(delivered.receiver.port).store(make_instance(4)) == 0
    assert delivered.ledger.mark_removed(entry.key, entry.state, entry.instances, LATER)
    delivered.receiver.stop()
    spool, ledger = Spool(tmp_path / "spool"), Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    assert ledger.rebuild(spool) == 1
    late = ledger.get(SERIES)
    assert late is not None
    assert (late.key.revision, late.state, late.instances) == (2, SeriesState.RECEIVING, 4)
    assert not any("were removed" in warning.text for warning in late.warnings)
    assert remove_expired(spool, ledger, WEEK, LATER) == []
    assert len(spool.series_files(SERIES)) == 4
    ledger.dispose()


def test_a_late_instance_that_only_the_next_start_counts_says_that_it_stands_alone(
    delivered: Any, connect: Any, make_instance: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove_expired(delivered.spool, delivered.ledger, WEEK, LATER)
    monkeypatch.setattr(delivered.ledger, "note_instances", lambda *_arguments: _raise())
    assert connect(delivered.receiver.port).store(make_instance(4)) == 0
    delivered.receiver.stop()
    spool, ledger = Spool(tmp_path / "spool"), Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    assert ledger.rebuild(spool) == 1
    late = ledger.get(SERIES)
    assert late is not None
    assert (late.key.revision, late.instances) == (2, 1)
    assert "3 earlier instances were removed" in late.warnings[-1].text
    ledger.dispose()


def test_a_series_that_the_disk_does_not_let_go_keeps_no_other(
    delivered: Any, connect: Any, make_instance: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    other = f"{SERIES}0"
    assert connect(delivered.receiver.port).store(make_instance(1, other)) == 0
    delivered.settle()
    key = delivered.ledger.close(other)
    assert delivered.ledger.claim(key, 1, "worker", 60)
    assert delivered.ledger.finish(key, "worker", SeriesState.DELIVERED, "", [])
    remove = delivered.spool.remove_series

    def stuck(series_instance_uid: str, instances: int) -> bool:
        if series_instance_uid == SERIES:
            raise RefusedError("spool cannot be written (Input/output error): check the disk")
        return bool(remove(series_instance_uid, instances))

    monkeypatch.setattr(delivered.spool, "remove_series", stuck)
    assert remove_expired(delivered.spool, delivered.ledger, WEEK, LATER) == [other]
    assert "Input/output error" in caplog.text
    entry = delivered.ledger.get(SERIES)
    assert (entry.removed_at, len(delivered.spool.series_files(SERIES))) == (None, 3)
    assert delivered.ledger.retry(SERIES) == entry.key


def _raise() -> None:
    raise RetryableError("ledger is out of reach")


def test_what_was_removed_can_be_pulled_again(delivered: Any) -> None:
    assert held_instances(delivered.ledger, SERIES) == 3
    remove_expired(delivered.spool, delivered.ledger, WEEK, LATER)
    assert held_instances(delivered.ledger, SERIES) == 0
