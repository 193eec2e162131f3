"""Evidence for a power cut: which system calls of the receiver come before which answer.

A kill -9 does not show that anything was synced, because the kernel keeps what a killed process wrote. So
the receiver runs under strace, and for every C-STORE response on a socket it is checked that the file was
synced after its last write, renamed to where it is visible, and its folder synced, all of that before.
"""

import os
import re
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.bars import Board
from tests.benchmarks.receive.objects import series_uid
from tests.benchmarks.receive.peers import receiver, tool
from tests.dicom.wire import P_DATA, WireSender, command_value, instance

SENDERS, EACH = 4, 25
_SYNCS = ("fsync", "fdatasync")
_MOVES = ("rename", "renameat", "renameat2", "link", "linkat")
_MAKES = ("mkdir", "mkdirat")
_WRITES = ("write", "pwrite64", "writev", "pwritev", "ftruncate")
_SENDS = ("sendto", "sendmsg", "write", "writev")
_CALL = re.compile(r"^(?P<thread>\d+)\s+(?P<rest>.*)$")
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>")
_BEHIND_DESCRIPTOR = re.compile(r"^\w+<((?:\\x[0-9a-f]{2})*)>")
_QUOTED = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_STORE_RESPONSE = 0x8001


@dataclass(frozen=True)
class Call:
    """One system call that did not fail.

    Attributes
    ----------
    began, ended
        Positions in the trace.
    behind
        What its first argument, a descriptor, stands for; "" when that is none.
    buffers
        Its quoted arguments.
    """

    name: str
    began: int
    ended: int
    behind: str
    buffers: tuple[bytes, ...]

    @property
    def strings(self) -> list[str]:
        return [buffer.decode(errors="replace") for buffer in self.buffers]


def synced_before_success(board: Board) -> None:
    """Count answers that came before their file and folder were synced."""
    strace = tool("strace")
    if strace is None:
        board.skip("receive-success-before-sync", "strace is not installed: apt-get install strace")
        return
    home = board.scratch / "traced"
    trace = board.scratch / "trace"
    calls = ",".join({*_SYNCS, *_MOVES, *_MAKES, *_WRITES, *_SENDS})
    prefix = [strace, "-f", "-y", "-xx", "-s", "512", "-e", f"trace={calls}", "-o", str(trace)]
    with receiver(home, prefix=prefix) as peer:
        threads = [threading.Thread(target=_send, args=(peer.port, number)) for number in range(SENDERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    calls_made = list(read_trace(trace))
    answered, problems = violations(calls_made)
    for problem in problems[:10]:
        board.detail(problem)
    board.detail(f"{answered} answers with success seen, of {SENDERS * EACH} sent")
    unseen = SENDERS * EACH - answered
    board.bar("receive-success-before-sync", len(problems) + unseen, "=", 0)


def violations(calls: list[Call]) -> tuple[int, list[str]]:
    """Give the number of successful C-STORE responses, and what is wrong with them."""
    answered, problems = 0, []
    for call in calls:
        for message_id in _successes(call):
            answered += 1
            uid = instance_uid(message_id)
            problem = _missing(calls, uid, call.began)
            if problem:
                problems.append(f"{uid}: {problem}")
    return answered, problems


def instance_uid(message_id: int) -> str:
    """Name the instance of a message; message IDs are unique among all senders here."""
    return f"{series_uid(message_id // 1000)}.{message_id}"


def disk_rate(folder: Path, objects: int = 100) -> float:
    """Measure how many 0.5 MB files a second one thread makes durable there: write, sync, rename, sync."""
    target = folder / "probe"
    target.mkdir()
    data = os.urandom(2**19)
    descriptor = os.open(target, os.O_RDONLY)
    started = time.monotonic()
    for number in range(objects):
        with (folder / "part").open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        (folder / "part").rename(target / str(number))
        os.fsync(descriptor)
    seconds = time.monotonic() - started
    os.close(descriptor)
    return objects / seconds


def read_trace(path: Path) -> Iterator[Call]:
    """Read ``strace -f -y -xx``; a call that was interrupted by other threads is put together again."""
    unfinished: dict[str, tuple[int, str]] = {}
    for position, line in enumerate(path.read_text(errors="replace").splitlines()):
        match = _CALL.match(line)
        if match is None:
            continue
        thread, rest = match["thread"], match["rest"]
        if rest.endswith("<unfinished ...>"):
            unfinished[thread] = (position, rest.removesuffix("<unfinished ...>"))
            continue
        began = position
        if _RESUMED.match(rest) and thread in unfinished:
            began, head = unfinished.pop(thread)
            rest = head + _RESUMED.sub("", rest, count=1)
        name, _, text = rest.partition("(")
        if not re.search(r"= -1 E", text):
            behind = _BEHIND_DESCRIPTOR.match(text)
            buffers = tuple(map(_unescaped, _QUOTED.findall(text)))
            yield Call(name, began, position, _unescaped(behind[1]).decode() if behind else "", buffers)


def _send(port: int, number: int) -> None:
    with WireSender(port, calling=f"SENDER{number}") as sender:
        for index in range(1, EACH + 1):
            message_id = (number + 1) * 1000 + index
            uid = instance_uid(message_id)
            dataset = instance(uid, series_uid(number + 1), pixels=os.urandom(60_000))
            status = sender.store(uid, dataset, message_id=message_id)
            if status:
                raise RuntimeError(f"{uid} was answered 0x{status:04X}")
        sender.release()


def _missing(calls: Iterable[Call], uid: str, answered: int) -> str:
    """Say what had not happened to an instance when the answer was begun; "" when all had."""
    before = [call for call in calls if call.ended < answered]
    moves = [call for call in before if call.name in _MOVES and uid in call.strings[-1]]
    if not moves:
        return "not renamed into place"
    source, target = moves[-1].strings
    written = max((call.ended for call in before if call.name in _WRITES and call.behind == source), default=-1)
    if not _is_synced(before, {source, target}, written):
        return "file not synced after its last write"
    folder = Path(target).parent
    if not _is_synced(before, {str(folder)}, moves[-1].ended):
        return "folder not synced after the rename"
    made = [call.ended for call in before if call.name in _MAKES and call.strings == [str(folder)]]
    if made and not _is_synced(before, {str(folder.parent)}, made[-1]):
        return "folder above a new folder not synced"
    return ""


def _is_synced(calls: Iterable[Call], paths: set[str], after: int) -> bool:
    return any(call.name in _SYNCS and call.behind in paths and call.began > after for call in calls)


def _successes(call: Call) -> Iterator[int]:
    """Give the IDs of the messages that a call on a socket answers with success."""
    if call.name not in _SENDS or not call.behind.startswith("socket:"):
        return
    data = b"".join(call.buffers)
    while len(data) >= 12 and data[0] == P_DATA:
        length = int.from_bytes(data[2:6], "big") + 6
        command = data[12:length]
        if command_value(command, 0x0100) == _STORE_RESPONSE and command_value(command, 0x0900) == 0:
            yield command_value(command, 0x0120)
        data = data[length:]


def _unescaped(text: str) -> bytes:
    """Decode ``\\x2f\\x74``."""
    return bytes.fromhex(text.replace("\\x", ""))
