"""Folders and files on disk: whole or not there, whoever else writes the same ones."""

import errno
import os
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from fewshot_node.disk import is_full, make_folder, whole_file, whole_folder


def content(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def put(path: Path, text: str, name: str = "file") -> None:
    with whole_folder(path, replace=True) as temporary:
        (temporary / name).write_text(text)


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "above" / "folder"
    with whole_folder(path) as temporary:
        (temporary / "file").write_text("new")
        assert not path.exists()
    assert content(path) == {"file": "new"}
    assert [inside.name for inside in path.parent.iterdir()] == ["folder"]


def test_an_existing_folder_is_refused_and_left(tmp_path: Path) -> None:
    put(tmp_path / "folder", "old")
    with pytest.raises(FileExistsError), whole_folder(tmp_path / "folder") as temporary:
        (temporary / "file").write_text("new")
    assert content(tmp_path / "folder") == {"file": "old"}
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("name", ["file", "other"])
def test_an_existing_folder_is_replaced_as_a_whole(tmp_path: Path, name: str) -> None:
    put(tmp_path / "folder", "old")
    put(tmp_path / "folder", "new", name)
    assert content(tmp_path / "folder") == {name: "new"}
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_with_the_same_bytes_stays(tmp_path: Path) -> None:
    put(tmp_path / "folder", "old")
    before = (tmp_path / "folder").stat().st_ino
    put(tmp_path / "folder", "old")
    assert (tmp_path / "folder").stat().st_ino == before


def test_a_failed_block_changes_nothing(tmp_path: Path) -> None:
    put(tmp_path / "folder", "old")
    with (
        suppress(RuntimeError),
        whole_folder(tmp_path / "folder", replace=True) as temporary,
    ):
        (temporary / "file").write_text("half")
        raise RuntimeError
    assert content(tmp_path / "folder") == {"file": "old"}
    assert len(list(tmp_path.iterdir())) == 1


def test_an_empty_folder_is_made_too(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "folder", replace=True):
        pass
    assert content(tmp_path / "folder") == {}


def test_many_writers_of_one_folder_disturb_none(tmp_path: Path) -> None:
    errors: list[Exception] = []
    start = threading.Barrier(4)

    def run(text: str) -> None:
        start.wait()
        try:
            for turn in range(25):
                put(tmp_path / "folder", f"{text} {turn}")
        except Exception as error:
            errors.append(error)

    writers = [threading.Thread(target=run, args=(text,)) for text in "abcd"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(timeout=60)
    assert errors == []
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    assert content(tmp_path / "folder")["file"].endswith(" 24")


def test_a_file_is_replaced_whole_or_left(tmp_path: Path) -> None:
    path = tmp_path / "above" / "file.json"
    with whole_file(path) as temporary:
        temporary.write_text("old")
    with suppress(RuntimeError), whole_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert content(path.parent) == {"file.json": "old"}


def test_a_folder_that_is_not_durable_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, "as the kernel says")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="as the kernel says"):
            make_folder(tmp_path / "one" / "two")
    assert list(tmp_path.iterdir()) == []
    make_folder(tmp_path / "one" / "two")
    make_folder(tmp_path / "one" / "two")
    assert (tmp_path / "one" / "two").is_dir()


@pytest.mark.parametrize(("number", "full"), [("ENOSPC", True), ("EDQUOT", True), ("EIO", False), ("EACCES", False)])
def test_full_is_told_from_broken(number: str, full: bool) -> None:
    assert is_full(OSError(getattr(errno, number), "")) is full
