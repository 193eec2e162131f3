"""What may take a series: the revisions that are live or in shadow, by their rules alone.

Weights are read when a series has matched. Rules are read once; whether they are still the same is told from the
files' status, so that a thousand tasks cost a series a few milliseconds.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from fewshot_node.errors import PermanentError
from fewshot_node.tasks.lifecycle import Lifecycle
from fewshot_node.tasks.revision import load_revision
from fewshot_node.tasks.rule_groups import AnyRule, GroupKind, RuleGroup
from fewshot_node.tasks.standing import STANDING, Standing, read_standing
from fewshot_node.tasks.storage import read_json
from fewshot_node.tasks.task import BrokenTask, PublishedTask, definition_from_data

_MOST_KEPT = 16_384

LiveTask = PublishedTask | BrokenTask


@dataclass(frozen=True, slots=True)
class Candidate:
    """A revision that takes the series that its rules say.

    Attributes
    ----------
    is_shadow
        It runs, and sends nothing.
    rules
        None where they cannot be read: then it may have been meant for any series.
    folder
        The revision's; text, because making a thousand `Path` a series costs more than asking all rules.
    trouble
        Why it cannot be applied; empty when nothing is known to be wrong.
    """

    name: str
    revision: int
    is_shadow: bool
    rules: tuple[AnyRule, ...] | None
    folder: str
    trouble: str = ""

    def load(self) -> LiveTask:
        """Read the revision and compare it with its digests; one that is damaged stands in its own place."""
        if self.trouble:
            return self.broken(self.trouble)
        try:
            return replace(load_revision(Path(self.folder)), is_shadow=self.is_shadow)
        except PermanentError as error:
            return self.broken(str(error))

    def broken(self, reason: str) -> BrokenTask:
        """Return what stands in the place of a revision that cannot be applied."""
        return BrokenTask(self.name, self.revision, reason, self.is_shadow)


def candidates(root: Path) -> tuple[Candidate, ...]:
    """Return what may take a series, by name, the live revision of a task before its shadow.

    What is damaged must not keep the other tasks from their work: it is a candidate with its trouble.
    """
    try:
        names = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith("."))
    except FileNotFoundError:
        return ()
    return tuple(candidate for name in names for candidate in _of_task(f"{root}/{name}", name))


def _of_task(folder: str, name: str) -> Iterator[Candidate]:
    try:
        standing = _standing(folder)
    except PermanentError as error:
        yield from _undecided(Path(folder), str(error))
        return
    if standing.retired:
        return
    for revision, is_shadow in ((standing.live, False), (standing.shadow, True)):
        if revision is not None:
            yield _candidate(folder, name, revision, is_shadow)


def _standing(folder: str) -> Standing:
    """Return the standing; that its revisions are there is seen when their rules are read."""
    signature = _signature(f"{folder}/{STANDING}")
    if signature is None:
        return read_standing(Path(folder), Lifecycle(Path(folder)).revisions())
    return _read_standing(signature)


def _candidate(folder: str, name: str, revision: int, is_shadow: bool) -> Candidate:
    place = f"{folder}/revisions/{revision:04d}"
    path = f"{place}/definition.json"
    try:
        return _read_candidate(_signature(path) or (path, 0, 0, 0), name, revision, is_shadow, place)
    except PermanentError as error:
        return Candidate(name, revision, is_shadow, None, place, str(error))


def _undecided(folder: Path, trouble: str) -> Iterator[Candidate]:
    """Stand in for a task of which nobody knows what is live: any of its revisions may have been meant."""
    revisions = Lifecycle(folder).revisions()
    if not revisions:
        return
    known = [_candidate(str(folder), folder.name, revision, is_shadow=False).rules for revision in revisions]
    rules: tuple[AnyRule, ...] | None = None
    if None not in known:
        wholes = tuple(RuleGroup(GroupKind.ALL, rules) for rules in known if rules)
        rules = (RuleGroup(GroupKind.ANY, wholes),) if wholes else ()
    yield Candidate(folder.name, revisions[-1], False, rules, str(folder), trouble)


_Signature = tuple[str, int, int, int]


def _signature(path: str) -> _Signature | None:
    """Return what changes with a file's content: its inode, time and size; None where there is no file."""
    try:
        status = os.stat(path)  # noqa: PTH116  a Path costs more than the call
    except OSError:
        return None
    return path, status.st_ino, status.st_mtime_ns, status.st_size


@lru_cache(maxsize=_MOST_KEPT)
def _read_standing(signature: _Signature) -> Standing:
    folder = Path(signature[0]).parent
    return read_standing(folder, Lifecycle(folder).revisions())


@lru_cache(maxsize=_MOST_KEPT)
def _read_candidate(signature: _Signature, name: str, revision: int, is_shadow: bool, place: str) -> Candidate:
    path = signature[0]
    rules = definition_from_data(read_json(Path(path)), path).rules
    return Candidate(name, revision, is_shadow, rules, place)
