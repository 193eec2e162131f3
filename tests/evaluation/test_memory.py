import mmap

import pytest

from fewshot_node.evaluation.memory import PeakMemory

_BLOCK_MIB = 64


def test_a_block_that_is_held_counts() -> None:
    with PeakMemory() as before:
        pass
    with PeakMemory() as during:
        block = mmap.mmap(-1, _BLOCK_MIB * 2**20)  # of the system, not of an allocator that may hold freed pages
        for page in range(0, len(block), mmap.PAGESIZE):
            block[page] = 1
    assert during.peak_mib >= before.peak_mib + _BLOCK_MIB - 14
    block.close()
    with PeakMemory() as after:
        pass
    assert after.peak_mib <= during.peak_mib - _BLOCK_MIB + 14  # what one row needed is not charged to the next


def test_an_error_ends_the_watch() -> None:
    watch = PeakMemory()
    with pytest.raises(ZeroDivisionError), watch:
        raise ZeroDivisionError
    assert not watch._thread.is_alive()
