"""dicom3tools' `dciodvfy` as a second opinion, where the machine has it.

It quotes values in its messages. Of each only the attribute's path and the words before any value are kept.
"""

import logging
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from pydicom import dcmwrite
from pydicom.dataset import Dataset

from fewshot_node.dicom.objects.checks.faults import Fault, inherited, is_below, own_uids
from fewshot_node.disk import TEMPORARY_PREFIX

logger = logging.getLogger(__name__)

TOOL = "dciodvfy"
LIMIT_S = 60.0
_MOST_FRAMES = 256
_FRAMES_SHOWN = 64
"""The tool's time grows with the square of the frames and worse (2000: one minute), so that of many it is shown the
first ones; a multiple of 8, because frames of single bits may begin within a byte (PS3.5 8.1.1)."""
_LINE = re.compile(r"Error - <((?:/\w+\([0-9a-f]{4},[0-9a-f]{4}\)(?:\[\d+\])?)+)> - (.*)")
_TAG = re.compile(r"\([0-9a-f]{4},[0-9a-f]{4}\)")
_RULE = re.compile(r"[A-Za-z0-9 ,()-]+")
_MODULE = re.compile(r"[^<]* - Module=<(\w+)>$")
_VALUE = re.compile(r"<([^>]*)>")
_UNKNOWN_CLASS = "Error - Information Object Not found"
_SEGMENT = "ReferencedSegmentNumber"
_LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"
"""Label Map Segmentation Storage, of 2024: in older tables no segmentation, so that its segments have no number."""
_UNREADABLE = re.compile(r"Error - .*(read failed|out of order|is illegal)")


@cache
def installed() -> str | None:
    """Return where the tool is, or None; looked up once."""
    return shutil.which(TOOL)


def reported_errors(path: Path, dataset: Dataset, source: Dataset, tool: str, limit_s: float = LIMIT_S) -> list[Fault]:
    """Return what the tool calls an error in a file, without the values that it quotes.

    What the object repeats of its source is the source's own fault. A class that the tool does not know, or no
    answer within the limit, gives no fault: the node's other checks have passed. Of an object of many frames the
    tool sees the first ones.

    Parameters
    ----------
    path, dataset
        The file, and the object that is in it.
    limit_s
        Seconds that the tool may take.
    """
    try:
        with _few_frames(path, dataset) as shown:
            lines = _ask(tool, shown, limit_s)
    except (OSError, subprocess.TimeoutExpired) as error:
        logger.warning("%s gave no answer (%s): %s is not checked by it", TOOL, type(error).__name__, path.name)
        return []
    if _UNKNOWN_CLASS in lines:
        logger.info("%s does not know SOP class %s", TOOL, dataset.SOPClassUID)
        return []
    faults = _faults(lines, inherited(dataset, source), own_uids(source))
    return [fault for fault in dict.fromkeys(faults) if not _is_of_a_label_map(dataset, fault.path)]


def _ask(tool: str, path: Path, limit_s: float) -> list[str]:
    done = subprocess.run(  # noqa: S603  the tool that is installed here, no shell
        [tool, "-new", str(path)], check=False, capture_output=True, stdin=subprocess.DEVNULL, timeout=limit_s
    )
    return (done.stdout + done.stderr).decode("ascii", errors="replace").splitlines()


@contextmanager
def _few_frames(path: Path, dataset: Dataset) -> Iterator[Path]:
    """Give the file itself, or for the time being one that is alike but for fewer frames."""
    if int(dataset.get("NumberOfFrames") or 1) <= _MOST_FRAMES or "PerFrameFunctionalGroupsSequence" not in dataset:
        yield path
        return
    with TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=path.parent) as folder:
        shown = Path(folder) / path.name
        dcmwrite(shown, _thinned(dataset), enforce_file_format=True)
        yield shown


def _thinned(dataset: Dataset) -> Dataset:
    cut = {"NumberOfFrames", "PerFrameFunctionalGroupsSequence", "PixelData"}
    thin = Dataset({element.tag: element for element in dataset if element.keyword not in cut})
    thin.file_meta = dataset.file_meta
    thin.NumberOfFrames = _FRAMES_SHOWN
    thin.PerFrameFunctionalGroupsSequence = list(dataset.PerFrameFunctionalGroupsSequence[:_FRAMES_SHOWN])
    size = _FRAMES_SHOWN * dataset.Rows * dataset.Columns * dataset.BitsAllocated * dataset.SamplesPerPixel // 8
    thin.add_new("PixelData", dataset["PixelData"].VR, dataset.PixelData[:size])
    return thin


def _is_of_a_label_map(dataset: Dataset, path: str) -> bool:
    """Tell whether a path leads to the number of a segment of a label map."""
    *inner, keyword = path.split("/")
    if keyword != _SEGMENT:
        return False
    for step in inner:
        name, _, number = step.rstrip("]").partition("[")
        dataset = dataset[name].value[int(number) - 1]
    return str(dataset.get("ReferencedSOPClassUID")) == _LABEL_MAP


def _faults(lines: list[str], skipped: frozenset[str], repeated: frozenset[str]) -> Iterator[Fault]:
    for line in lines:
        error = _LINE.fullmatch(line)
        if error is None:
            if _UNREADABLE.match(line):
                yield Fault("the file", f"cannot be read whole by {TOOL}")
            continue
        path = _TAG.sub("", error[1]).removeprefix("/")
        value = _VALUE.search(error[2])
        if not is_below(path, skipped) and (value is None or value[1] not in repeated):
            yield Fault(path, f"{TOOL}: {_rule(error[2])}")


def _rule(text: str) -> str:
    """Return the tool's words up to where it begins to quote, and the module that it names."""
    words = _RULE.match(text)
    module = _MODULE.fullmatch(text)
    rule = "error" if words is None else words[0].strip(" -").removesuffix(" - Module").strip(" -")
    return rule if module is None else f"{rule}, module {module[1]}"
