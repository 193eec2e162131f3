"""UIDs that are paths, or no UIDs at all: refused, and nothing written outside the spool."""

import tempfile
from pathlib import Path

from tests.benchmarks.bars import Board
from tests.benchmarks.receive.peers import Peer, receiver
from tests.benchmarks.receive.stored import stored_files, unfinished_files
from tests.dicom.wire import CT_IMAGE_STORAGE, AssociationEndedError, NoAnswerError, Text, WireSender, instance

_GOOD, _SERIES, _STUDY = (f"1.2.826.0.1.3680043.8.498.55.{number}" for number in (1, 2, 3))
_PLACES = ("sop_instance_uid", "series_instance_uid", "study_instance_uid", "sop_class_uid", "command")
_ENDED, _SILENCE = -1, -2
_STORED = {0x0000, 0xB000, 0xB006, 0xB007}


def hostile_uids(outside: Path) -> dict[str, Text]:
    """Name UIDs that must not be taken; some would lead to files in the folder `outside`."""
    return {
        "traversal": "../../../escaped",
        "long traversal": "../" * 12 + f"{outside}/escaped".lstrip("/"),
        "absolute": f"{outside}/escaped",
        "dots": "..",
        "empty": "",
        "slash inside": "1.2/3",
        "backslash": "..\\..\\escaped",
        "NUL inside": b"1.2\x003.4",
        "NUL and path": b"1.2.3\x00/../../escaped",
        "65 characters": "1." * 32 + "1",
        "300 characters": "1." * 149 + "11",
        "300 characters of path": "../" * 97 + "escaped01",
        "latin-1": b"1.2.\xe9",
        "digits of another script": "1.2.\u0663",
        "full width": "\uff11.2",
        "newline": "1.2\n3",
        "two dots": "1..2",
        "letters": "escaped",
        "wildcard": "1.2.*",
        "two values": "1.2\\1.3",
    }


def paths(board: Board) -> None:
    """Put each hostile UID into each place of a C-STORE request."""
    home = board.scratch / "paths" / "inner" / "home"
    with receiver(home, min_free_mb=0, reject_below_free_mb=0) as peer:
        before = _outside(board.scratch, home)
        statuses = _statuses(peer, hostile_uids(board.scratch))
        taken = [f"{case} was answered 0x{status:04X}" for case, status in statuses.items() if status in _STORED]
        unanswered = [f"{case} was not answered" for case, status in statuses.items() if status == _SILENCE]
        ended = sum(status == _ENDED for status in statuses.values())
        board.detail(f"{len(statuses)} requests: {len(statuses) - ended} answered, {ended} ended the association")
        with WireSender(peer.port, calling="../../escaped") as sender:
            served = sender.store(_GOOD, instance(_GOOD, _SERIES)) if sender.rejected is None else 0
        with WireSender(peer.port) as sender:
            served += sender.store(f"{_GOOD}.1", instance(f"{_GOOD}.1", _SERIES))
        new = sorted(_outside(board.scratch, home) - before)
        asked = {f"{_GOOD}.dcm", f"{_GOOD}.1.dcm"}
        unasked = [path.name for path in stored_files(home) if path.name not in asked]
        for text in (*taken, *unanswered, *map(str, new), *unasked):
            board.detail(text)
        board.bar("receive-hostile-uids-accepted", len(taken) + len(unasked), "=", 0)
        board.bar("receive-hostile-uids-not-answered", len(unanswered), "=", 0)
        board.bar("receive-hostile-uids-files-outside", len(new), "=", 0)
        board.bar("receive-hostile-uids-left-in-incoming", len(unfinished_files(home)), "=", 0)
        board.bar("receive-hostile-uids-good-instance-after-status", served, "=", 0)
        board.bar("receive-hostile-uids-deaths", int(not peer.is_alive()), "=", 0)


def _statuses(peer: Peer, uids: dict[str, Text]) -> dict[str, int]:
    return {f"{kind} as {place}": _status(peer, uid, place) for kind, uid in uids.items() for place in _PLACES}


def _status(peer: Peer, uid: Text, place: str) -> int:
    """Send one request; `_ENDED` when the receiver ended the association over it."""
    values: dict[str, Text] = {"sop_instance_uid": _GOOD, "series_instance_uid": _SERIES}
    values |= {"study_instance_uid": _STUDY, "sop_class_uid": CT_IMAGE_STORAGE}
    if place != "command":
        values[place] = uid
    dataset = instance(**values)
    named = values["sop_instance_uid"] if place != "command" else uid
    try:
        with WireSender(peer.port, timeout_s=10.0) as sender:
            return sender.store(named, dataset, sop_class_uid=values["sop_class_uid"])
    except NoAnswerError:
        return _SILENCE
    except AssociationEndedError:
        return _ENDED


def _outside(scratch: Path, home: Path) -> set[Path]:
    """List everything that is not a stored instance: what an escape makes is new there."""
    above = {path for path in (*Path("/").iterdir(), *Path(tempfile.gettempdir()).iterdir()) if "escaped" in path.name}
    stored = home / "spool" / "series"
    ours = {path for path in scratch.rglob("*") if stored in path.parents or path.name.startswith("ledger.sqlite")}
    return above | set(scratch.rglob("*")) - ours
