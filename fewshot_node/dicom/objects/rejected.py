"""Where objects lie that the checks did not let out; those who look for them need not load what makes objects."""

from pathlib import Path

REJECTED_SUFFIX = ".rejected"


def rejected_folder(folder: Path) -> Path:
    """Return where the objects of a result are kept that were not let out, given the result's own folder."""
    return folder.with_name(f"{folder.name}{REJECTED_SUFFIX}")
