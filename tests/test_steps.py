"""Stages run by name, timed, and their errors passed on."""

import pytest

from fewshot_node.steps import Stopwatch, run_directly


def test_a_stage_gives_its_value() -> None:
    assert run_directly("name", lambda: 5, retryable=True) == 5


def test_the_watch_passes_name_and_retryability_on_and_adds_up() -> None:
    seen = []

    def runner(name, stage, *, retryable=False):
        seen.append((name, retryable))
        return stage()

    watch = Stopwatch(runner)
    assert watch("encode", lambda: "features") == "features"
    first = watch.seconds["encode"]
    watch("encode", lambda: None)
    watch("deliver", lambda: None, retryable=True)
    assert seen == [("encode", False), ("encode", False), ("deliver", True)]
    assert watch.seconds["encode"] >= first
    assert set(watch.seconds) == {"encode", "deliver"}


def test_a_failing_stage_is_timed_and_fails() -> None:
    watch = Stopwatch()
    with pytest.raises(ZeroDivisionError):
        watch("encode", lambda: 1 / 0)
    assert "encode" in watch.seconds
