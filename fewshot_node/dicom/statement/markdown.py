"""Tables, folded sections and names of UIDs in the Markdown of the conformance statement."""

import re
from collections.abc import Iterable, Sequence
from enum import IntEnum

from pydicom.uid import UID
from pynetdicom import sop_class
from pynetdicom.sop_class import SOPClass

_KEYWORDS = {str(uid): name for name, uid in vars(sop_class).items() if isinstance(uid, SOPClass)}
_WORD_START = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")

YES, NO = "yes", "no"


def uid_name(uid: str) -> str:
    """Return the name of a UID (PS3.6 Annex A); of one newer than pydicom's dictionary by pynetdicom's keyword."""
    name = UID(uid).name
    return name if name != uid else _WORD_START.sub(" ", _KEYWORDS.get(uid, uid))


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def uid_table(title: str, uids: Iterable[str]) -> str:
    """Return a table of UIDs and their names, in the order of the names."""
    return table((title, "UID"), sorted((uid_name(uid), uid) for uid in uids))


def status_code(status: int) -> str:
    """Return a status as PS3.4 writes it: four hexadecimal digits."""
    return f"{status:04X}"


def words(member: IntEnum) -> str:
    """Return the name of a status in words."""
    return member.name.replace("_", " ").lower()


def folded(title: str, *paragraphs: str) -> str:
    """Return a section that unfolds at a click, so that the page it stands in stays readable."""
    body = "\n\n".join(paragraphs)
    return f"<details>\n<summary><b>{title}</b></summary>\n\n{body}\n\n</details>"
