import os
import subprocess
import sys
import time

import numpy as np
import pytest

from fewshot_node.errors import ConfigurationError, DiskFullError
from fewshot_node.vision import feature_cache, feature_store
from fewshot_node.vision.feature_cache import FolderCache, MemoryCache

SHAPE = (2, 4, 8, 16)
ONE = 2 * 4 * 8 * 16 * 2
ON_DISK = ONE + 1000
"""With the file's header and checksum."""


def filler(value):
    """Fill with a value, and count how often."""

    def fill(array):
        fill.times += 1
        array[...] = value

    fill.times = 0
    return fill


def refuse(array):
    raise AssertionError("it was to be kept")


@pytest.fixture(params=["memory", "folder"])
def cache_of(request, tmp_path):
    """Build a cache with room for so many entries."""
    if request.param == "memory":
        return lambda entries: MemoryCache(entries * ON_DISK)
    return lambda entries: FolderCache(tmp_path / "cache", entries * ON_DISK)


def test_what_was_made_is_given_again(cache_of):
    cache = cache_of(3)
    np.testing.assert_array_equal(cache.fetch("a", SHAPE, filler(1)), np.ones(SHAPE))
    kept = cache.fetch("a", SHAPE, refuse)
    assert kept.dtype == np.float16
    np.testing.assert_array_equal(kept, np.ones(SHAPE))
    np.testing.assert_array_equal(cache.fetch("b", SHAPE, filler(2)), np.full(SHAPE, 2))


def test_what_was_asked_for_longest_ago_goes(cache_of):
    cache = cache_of(2)
    first = cache.fetch("a", SHAPE, filler(1))
    for key, value in (("b", 2), ("a", None), ("c", 3)):
        time.sleep(0.01)  # file systems tell times apart in steps of some milliseconds
        cache.fetch(key, SHAPE, refuse if value is None else filler(value))
    cache.fetch("a", SHAPE, refuse)
    cache.fetch("c", SHAPE, refuse)
    again = filler(2)
    cache.fetch("b", SHAPE, again)
    assert again.times == 1
    np.testing.assert_array_equal(first, np.ones(SHAPE))  # gone or not, who has it keeps it


def test_what_is_larger_than_the_cache_is_given_but_not_kept(cache_of, tmp_path):
    cache, shape = cache_of(1), (100, *SHAPE[1:])
    for times in (1, 2):
        np.testing.assert_array_equal(cache.fetch("a", shape, filler(times)), np.full(shape, times))
    assert not list(tmp_path.glob("cache/*"))


def test_a_fault_while_filling_leaves_nothing(cache_of, tmp_path):
    cache = cache_of(2)
    with pytest.raises(KeyboardInterrupt):
        cache.fetch("a", SHAPE, lambda array: (_ for _ in ()).throw(KeyboardInterrupt))
    assert not list(tmp_path.glob("cache/*"))
    np.testing.assert_array_equal(cache.fetch("a", SHAPE, filler(1)), np.ones(SHAPE))


@pytest.mark.parametrize("cache", [MemoryCache, lambda limit: FolderCache(None, limit)])
def test_a_cache_of_no_size_is_refused(cache):
    with pytest.raises(ConfigurationError, match="give a size above 0"):
        cache(0)


def test_changes_by_the_caller_stay_the_callers(tmp_path):
    cache = FolderCache(tmp_path, 10 * ON_DISK)
    for fill in (filler(1), refuse):
        cache.fetch("a", SHAPE, fill)[...] = 7
    np.testing.assert_array_equal(cache.fetch("a", SHAPE, refuse), np.ones(SHAPE))


def _cut(path):
    os.truncate(path, path.stat().st_size // 2)


def _empty(path):
    os.truncate(path, 0)


def _zeros(path):
    path.write_bytes(bytes(path.stat().st_size))


def _one_bit(path):
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)


def _no_checksum(path):
    os.truncate(path, path.stat().st_size - 4)


def _pickled(path):
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)


def _other_shape(path):
    np.save(path, np.ones((1, 2, 3, 4), dtype=np.float16))


def _other_type(path):
    np.save(path, np.ones(SHAPE, dtype=np.float32))


@pytest.mark.parametrize("damage", [_cut, _empty, _zeros, _one_bit, _no_checksum, _pickled, _other_shape, _other_type])
def test_damaged_files_are_discarded_and_made_again(damage, tmp_path, caplog):
    cache = FolderCache(tmp_path, 10 * ON_DISK)
    cache.fetch("a", SHAPE, filler(1))
    damage(tmp_path / "a.npy")
    again = filler(2)
    np.testing.assert_array_equal(cache.fetch("a", SHAPE, again), np.full(SHAPE, 2))
    assert again.times == 1
    assert "discarded damaged features a.npy" in caplog.text
    cache.fetch("a", SHAPE, refuse)


def test_the_folder_keeps_below_its_limit(tmp_path):
    cache = FolderCache(tmp_path, 3 * ON_DISK)
    for number in range(8):
        cache.fetch(str(number), SHAPE, filler(number))
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 3 * ON_DISK
    assert sorted(path.name for path in tmp_path.iterdir())[-1] == "7.npy"


def test_what_a_killed_process_left_goes_and_what_one_is_filling_stays(tmp_path):
    cache = FolderCache(tmp_path, 10 * ON_DISK)
    for name, age in ((".part-dead.npy", 7200), (".part-alive.npy", 5)):
        (tmp_path / name).write_bytes(bytes(100))
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    cache.fetch("a", SHAPE, filler(1))
    assert sorted(path.name for path in tmp_path.iterdir()) == [".part-alive.npy", "a.npy"]


def test_a_full_disk_is_said_before_anything_is_written(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(feature_store.os, "posix_fallocate", full)
    with pytest.raises(DiskFullError, match=r"No space left on device.*free space there"):
        FolderCache(tmp_path, 10 * ON_DISK).fetch("a", SHAPE, refuse)
    assert not list(tmp_path.iterdir())


_PROCESS = """
import sys
from pathlib import Path
import numpy as np
from fewshot_node.vision.feature_cache import FolderCache

cache = FolderCache(Path(sys.argv[1]), int(sys.argv[2]))
for turn in range(150):
    key = (turn * 7 + int(sys.argv[3])) % 5
    def fill(array):
        array[...] = key
    features = cache.fetch(str(key), (2, 4, 8, 16), fill)
    assert (np.asarray(features) == key).all(), key
"""


def test_several_processes_share_a_folder(tmp_path):
    """Room for two of five keys: every process removes all the time what others read."""
    command = [sys.executable, "-c", _PROCESS, str(tmp_path), str(2 * ON_DISK)]
    peers = [subprocess.Popen([*command, str(number)], stderr=subprocess.PIPE, text=True) for number in range(3)]
    errors = [peer.communicate(timeout=60)[1] for peer in peers]
    assert [peer.returncode for peer in peers] == [0, 0, 0], errors
    assert "discarded" not in "".join(errors)
    assert not list(tmp_path.glob(f"{feature_cache._PART}*"))
    FolderCache(tmp_path, 2 * ON_DISK).fetch("last", SHAPE, filler(1))
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2 * ON_DISK
