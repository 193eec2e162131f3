"""Files that must not be imported: damaged on their way, altered by somebody, or made to do harm."""

import json
import os
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fewshot_node.config import ExchangeSettings
from fewshot_node.tasks.exchange import import_task
from fewshot_node.tasks.registry import Registry
from tests.tasks.exchange.conftest import Members, refused_whole

Altered = Callable[..., Path]
WEIGHTS = "revision/adapter.safetensors"


@pytest.mark.parametrize(
    "name",
    [
        "/etc/cron.d/job",
        "../../escaped.json",
        "revision/../../escaped.json",
        "revision/templates/../../escaped.json",
        "revision\\..\\escaped.json",
        "C:/escaped.json",
        "Revision/definition.json",
        "revision/DEFINITION.json",
        "revision/templates/Liver.json",
        "revision/templates/l\u0131ver.json",
        "revision/adapter.pkl",
        "revision/adapter.pt",
        "revision/templates/",
        "revision/templates/one.json/two.json",
        "revision/imported.json",
        "revision/templates/-rf.json",
        "./manifest.json",
    ],
)
def test_names_that_no_task_has(site: Registry, altered: Altered, tmp_path: Path, name: str) -> None:
    path = altered(lambda members: members.update({name: b"{}"}), fix_manifest=True)
    refused_whole(site, path, "is not a file that a task has: import the file as `task export` wrote it")
    assert not list(tmp_path.rglob("escaped*"))


def test_a_name_with_a_nul(site: Registry, altered: Altered) -> None:
    path = altered(lambda members: members.update({"revision/definition.json+x.exe": b"{}"}))
    path.write_bytes(path.read_bytes().replace(b"definition.json+x.exe", b"definition.json\0x.exe"))
    refused_whole(site, path, r"member 'revision/definition\.json\\x00x\.exe' is not a file that a task has")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_twice(site: Registry, exported: Path, tmp_path: Path) -> None:
    path = tmp_path / "twice.task"
    path.write_bytes(exported.read_bytes())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("revision/definition.json", b"{}")
    refused_whole(site, path, r"member 'revision/definition\.json' is there twice")


def test_a_link(site: Registry, exported: Path, tmp_path: Path) -> None:
    path = tmp_path / "link.task"
    with zipfile.ZipFile(exported) as old, zipfile.ZipFile(path, "w") as archive:
        for name in old.namelist():
            info = zipfile.ZipInfo(name)
            info.create_system = 3
            info.external_attr = ((stat.S_IFLNK if name == WEIGHTS else stat.S_IFREG) | 0o777) << 16
            archive.writestr(info, b"/etc/passwd" if name == WEIGHTS else old.read(name))
    refused_whole(site, path, f"member '{WEIGHTS}' is a link")


def test_a_compressed_bomb(site: Registry, exported: Path, tmp_path: Path) -> None:
    path = tmp_path / "bomb.task"
    path.write_bytes(exported.read_bytes())
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("revision/crossval.safetensors", bytes(20_000_000))
    assert path.stat().st_size < 1_000_000 + exported.stat().st_size
    refused_whole(site, path, r"member 'revision/crossval\.safetensors' is compressed, which an export never does")


def directory_entries(content: bytearray) -> dict[str, int]:
    """Offsets of the entries of a ZIP's central directory, by name."""
    entries, at = {}, struct.unpack_from("<L", content, len(content) - 6)[0]
    while content[at : at + 4] == b"PK\x01\x02":
        lengths = struct.unpack_from("<3H", content, at + 28)
        entries[bytes(content[at + 46 : at + 46 + lengths[0]]).decode()] = at
        at += 46 + sum(lengths)
    return entries


def test_members_that_overlap(site: Registry, altered: Altered) -> None:
    """One long member that many names share: a small file that would unpack to a large one."""
    names = [f"revision/templates/t{number}.json" for number in range(40)]
    path = altered(lambda members: members.update(dict.fromkeys(names, b"x")))
    with zipfile.ZipFile(path) as archive:
        long_one = archive.getinfo(WEIGHTS)
    content = bytearray(path.read_bytes())
    for name, at in directory_entries(content).items():
        if name in names:
            struct.pack_into("<2L", content, at + 20, long_one.file_size, long_one.file_size)
            struct.pack_into("<L", content, at + 42, long_one.header_offset)
    path.write_bytes(content)
    refused_whole(site, path, "states more bytes than it has")


def test_too_many_members(site: Registry, altered: Altered) -> None:
    many = {f"revision/templates/t{number}.json": b"{}" for number in range(5000)}
    path = altered(lambda members: members.update(many))
    refused_whole(site, path, "has 50[0-9]{2} members, a task has at most 4096")
    content = bytearray(path.read_bytes())
    struct.pack_into("<2H", content, len(content) - 14, 5, 5)  # a directory that states fewer than it has
    path.write_bytes(content)
    refused_whole(site, path, "members, a task has at most 4096")


def test_a_large_file_is_not_opened(site: Registry, tmp_path: Path) -> None:
    path = tmp_path / "large.task"
    with path.open("wb") as file:
        file.truncate(3 * 2**20)
    refused_whole(site, path, r"more than 1048576 are taken: raise exchange\.max_mb", ExchangeSettings(max_mb=1))


def test_a_manifest_as_large_as_the_memory(site: Registry, altered: Altered) -> None:
    path = altered(lambda members: members.update({"manifest.json": bytes(9 * 2**20)}))
    refused_whole(site, path, r"manifest\.json has 9437184 bytes, more than any task needs")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_a_file_that_was_cut_off(site: Registry, exported: Path, tmp_path: Path, share: float) -> None:
    path = tmp_path / "cut.task"
    content = exported.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    refused_whole(site, path, "copy or export it again")


@pytest.mark.parametrize("content", [b"", b"PK", b"no archive at all", bytes(100), b"PK\5\6" + bytes(18)])
def test_no_archive_at_all(site: Registry, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.task"
    path.write_bytes(content)
    refused_whole(site, path, "export")


def test_a_file_that_is_not_there(site: Registry, tmp_path: Path) -> None:
    refused_whole(site, tmp_path / "absent.task", r"absent\.task cannot be read \(No such file")


def test_a_flipped_bit(site: Registry, exported: Path, tmp_path: Path) -> None:
    path = tmp_path / "flipped.task"
    content = bytearray(exported.read_bytes())
    with zipfile.ZipFile(exported) as archive:
        content[archive.getinfo(WEIGHTS).header_offset + 1000] ^= 1
    path.write_bytes(content)
    refused_whole(site, path, f"member {WEIGHTS} is damaged: copy or export the file again")


def test_an_altered_member(site: Registry, altered: Altered) -> None:
    def alter(members: Members) -> None:
        members[WEIGHTS] = members[WEIGHTS][:-1] + b"\x7f"

    refused_whole(site, altered(alter), f"member {WEIGHTS} is not what its manifest says")
    refused_whole(site, altered(alter, fix_manifest=True), r"the revision in it cannot be used: .*altered")


def test_a_member_too_few_and_one_too_many(site: Registry, altered: Altered) -> None:
    refused_whole(site, altered(lambda members: members.pop("revision/fit.json")), r"revision/fit\.json is missing")
    more = altered(lambda members: members.update({"revision/templates/extra.json": b"{}"}))
    refused_whole(site, more, r"templates/extra\.json is not in the manifest")
    shorter = altered(lambda members: members.update({"revision/fit.json": b"{}"}))
    refused_whole(site, shorter, r"revision/fit\.json has 2 bytes, its manifest says")
    refused_whole(site, altered(lambda members: members.pop("manifest.json")), r"has no manifest\.json, so it is no")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": 2}, "is of schema version 2, this program reads 1: update fewshot-node"),
        ({"kind": "other"}, r"manifest is not acceptable \(kind\)"),
        ({"task": "../x"}, r"manifest is not acceptable \(task\)"),
        ({"surprise": 1}, r"manifest is not acceptable \(surprise\)"),
        ({"task": "hearts"}, "the revision in it cannot be used"),
        ({"digest": "0" * 64}, "another digest than its manifest says"),
    ],
)
def test_other_manifests(site: Registry, altered: Altered, changes: dict[str, object], message: str) -> None:
    def change(members: Members) -> None:
        members["manifest.json"] = json.dumps(json.loads(members["manifest.json"]) | changes).encode()

    refused_whole(site, altered(change), message)


def test_a_manifest_that_is_none(site: Registry, altered: Altered) -> None:
    for content in (b"[" * 100_000, b"\xff", b"[]", b""):
        path = altered(lambda members, content=content: members.update({"manifest.json": content}))
        refused_whole(site, path, "manifest is")


def test_an_import_that_breaks_off_leaves_nothing(
    site: Registry, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("fewshot_node.tasks.exchange.bring_in.whole_folder", full)
    with pytest.raises(OSError, match="No space left"):
        import_task(site, exported, ExchangeSettings())
    assert list(site.root.iterdir()) == []


def test_nothing_in_it_could_be_unpickled(exported: Path) -> None:
    with zipfile.ZipFile(exported) as archive:
        for name in archive.namelist():
            if not name.endswith(".safetensors"):
                json.loads(archive.read(name))
