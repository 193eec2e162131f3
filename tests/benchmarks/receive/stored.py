"""What the receiver holds, read without it: the files under ``spool/series`` and the counts of the ledger."""

import hashlib
import struct
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from fewshot_node.dicom.ledger import Ledger

_META_START = 132  # preamble and prefix (PS3.10 7.1)
_LEDGER_WAIT_S = 5.0


def digest(dataset: bytes) -> str:
    return hashlib.sha256(dataset).hexdigest()


def file_digest(path: Path) -> str:
    """Give the digest of the data set of a file, without its File Meta Information; "" when it has none."""
    with path.open("rb") as file:
        head = file.read(_META_START + 12)
        if len(head) < _META_START + 12 or head[128:_META_START] != b"DICM":
            return ""
        file.seek(_META_START + 12 + struct.unpack_from("<I", head, _META_START + 8)[0])
        return hashlib.file_digest(file, "sha256").hexdigest()


def stored_files(home: Path, series_instance_uid: str = "") -> list[Path]:
    """List the visible instances, of one series when it is named."""
    folder = home / "spool" / "series" / series_instance_uid
    return sorted(path for path in folder.rglob("*") if path.is_file())


def stored_digests(home: Path, series: Iterable[str] = ("",)) -> dict[str, str]:
    """Map SOP Instance UIDs, which the files are named by, to digests of the data sets."""
    return {path.stem: file_digest(path) for uid in series for path in stored_files(home, uid)}


def sent_digests(folders: Iterable[Path]) -> dict[str, str]:
    """Map SOP Instance UIDs of files that are sent to digests of their data sets."""
    from pydicom import dcmread

    files = [path for folder in folders for path in sorted(folder.iterdir())]
    return {str(dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID): file_digest(path) for path in files}


def unfinished_files(home: Path) -> list[Path]:
    return [path for path in (home / "spool" / "incoming").rglob("*") if path.is_file()]


def ledger_disagrees(home: Path, series: Iterable[str]) -> Mapping[str, tuple[int, int]]:
    """Give instances in the spool and in the ledger, of series where these stay different."""
    ledger = Ledger(f"sqlite:///{home / 'ledger.sqlite'}")
    try:
        return _disagreement(ledger, {uid: len(stored_files(home, uid)) for uid in series})
    finally:
        ledger.dispose()


def _disagreement(ledger: Ledger, spooled: Mapping[str, int]) -> Mapping[str, tuple[int, int]]:
    deadline = time.monotonic() + _LEDGER_WAIT_S  # the ledger may be told after the sender
    while True:
        counted = {uid: entry.instances if (entry := ledger.get(uid)) else 0 for uid in spooled}
        different = {uid: (spooled[uid], counted[uid]) for uid in spooled if spooled[uid] != counted[uid]}
        if not different or time.monotonic() > deadline:
            return different
        time.sleep(0.05)
