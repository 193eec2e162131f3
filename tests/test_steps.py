"""Stages run by name, timed, and their errors passed on."""

import pytest

from fewshot_node.steps import Stopwatch, run_directly


def test_a_stage_gives_its_value() -> None:
    assert run_directly("name", lambda: 5) == 5


def test_the_watch_passes_name_and_retryability_on_and_adds_up() -> None:
    seen = []

    def runner(name, stage):
        seen.append(name)
        return stage()

    watch = Stopwatch(runner)
    assert watch("encode", lambda: "features") == "features"
    first = watch.seconds["encode"]
    watch("encode", lambda: None)
    watch("deliver", lambda: None)
    assert seen == ["encode", "encode", "deliver"]
    assert watch.seconds["encode"] >= first
    assert set(watch.seconds) == {"encode", "deliver"}


def test_a_failing_stage_is_timed_and_fails() -> None:
    watch = Stopwatch()
    with pytest.raises(ZeroDivisionError):
        watch("encode", lambda: 1 / 0)
    assert "encode" in watch.seconds
