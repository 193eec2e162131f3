import numpy as np
import pytest

from fewshot_node.evaluation.memory import PeakMemory


def test_a_block_that_is_held_counts() -> None:
    with PeakMemory() as before:
        pass
    with PeakMemory() as during:
        block = np.ones(64 * 2**20 // 8)
    assert during.peak_mib >= before.peak_mib + 50
    assert block[0] == 1
    del block
    with PeakMemory() as after:
        pass
    assert after.peak_mib <= during.peak_mib - 50  # what one row needed is not charged to the next


def test_an_error_ends_the_watch() -> None:
    watch = PeakMemory()
    with pytest.raises(ZeroDivisionError), watch:
        raise ZeroDivisionError
    assert not watch._thread.is_alive()
