"""A thread that outlives what it does, says what is wrong once, and stops when it is told to."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fewshot_node.dicom.periodic import Periodic
from fewshot_node.errors import RetryableError

Eventually = Callable[..., Any]


def named(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]


def failing_with(*errors: Exception) -> tuple[Callable[[], None], list[int]]:
    """Work that raises these one after the other and then does well; and its rounds."""
    rounds: list[int] = []
    left: Iterator[Exception] = iter(errors)

    def work() -> None:
        rounds.append(1)
        for error in left:
            raise error

    return work, rounds


def test_the_first_round_is_at_once_and_others_follow(eventually: Eventually) -> None:
    work, rounds = failing_with()
    with Periodic("beat", work, 3600, "no beat"):
        eventually(lambda: len(rounds) == 1)
        assert len(named("beat")) == 1
    assert named("beat") == []
    with Periodic("beat", work, 0.001, "no beat"):
        eventually(lambda: len(rounds) > 5)


def test_the_first_rest_may_come_first() -> None:
    work, rounds = failing_with()
    with Periodic("beat", work, 3600, "no beat", at_once=False):
        assert len(named("beat")) == 1
    assert (rounds, named("beat")) == ([], [])


def test_it_can_be_started_again_and_stopped_twice(eventually: Eventually) -> None:
    work, rounds = failing_with()
    beat = Periodic("beat", work, 3600, "no beat")
    beat.stop()  # harmless
    for times in (1, 2):
        beat.start()
        eventually(lambda times=times: len(rounds) == times)
        beat.stop()
        beat.stop()
        assert beat.is_stopping


def test_a_failure_is_logged_when_it_begins_and_when_it_is_over(
    caplog: pytest.LogCaptureFixture, eventually: Eventually
) -> None:
    caplog.set_level("INFO")
    work, rounds = failing_with(*[RetryableError("ledger is busy")] * 3, RetryableError("PACS is away"))
    with Periodic("beat", work, 0.001, "no beat"):
        eventually(lambda: len(rounds) > 5)
    assert [record.getMessage() for record in caplog.records] == [
        "no beat: ledger is busy",
        "no beat: PACS is away",
        "beat: works again",
    ]


def test_of_what_nobody_foresaw_only_the_kind_is_logged(
    caplog: pytest.LogCaptureFixture, eventually: Eventually
) -> None:
    work, rounds = failing_with(ZeroDivisionError("SECRET^PERSON"))
    with Periodic("beat", work, 0.001, "no beat"):
        eventually(lambda: len(rounds) > 2)
    assert "no beat: ZeroDivisionError" in caplog.text
    assert "SECRET" not in caplog.text


def test_what_is_slow_is_done_half_of_the_time_at_most(eventually: Eventually) -> None:
    begun: list[float] = []
    took_s = 0.05

    def slow() -> None:
        begun.append(time.monotonic())
        threading.Event().wait(took_s)

    with Periodic("beat", slow, 0.001, "no beat"):
        eventually(lambda: len(begun) == 4)
    assert begun[3] - begun[0] >= 3 * 2 * took_s * 0.95


def test_a_round_that_hangs_holds_a_bounded_stop_up_no_longer(eventually: Eventually) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        go_on.wait(20)

    beat = Periodic("beat", hang, 0.001, "no beat", stop_s=0.05)
    beat.start()
    assert begun.wait(20)
    started = time.monotonic()
    beat.stop()
    assert time.monotonic() - started < 5
    beat.start()  # beside the one that hangs, which ends when it can
    assert len(named("beat")) == 2
    go_on.set()
    eventually(lambda: len(named("beat")) == 1)
    beat.stop()
    assert named("beat") == []
