"""A question in a thread of its own, when there are no more threads."""

import threading

import pytest

from fewshot_node.dicom.monitor.probe import Probe


def test_a_question_that_no_thread_could_ask_is_asked_again() -> None:
    probe = Probe(lambda: 42, fresh_s=0.0)

    def no_more(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_more)
        with pytest.raises(RuntimeError, match="new thread"):
            probe.answer(10)
    assert probe.answer(10) == 42
