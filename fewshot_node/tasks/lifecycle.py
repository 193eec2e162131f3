"""The published revisions of one task: how they come, go live, run in shadow, are rolled back and retired.

A revision is never changed or copied; only the standing (`standing`) moves. Every change is made under the task's
lock. A revision is written before the standing names it: a crash in between leaves one that takes no series.
"""

import logging
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from fewshot_node.disk import remove_folder
from fewshot_node.errors import TaskError, UnknownTaskError
from fewshot_node.tasks.approval import score_note
from fewshot_node.tasks.lock import task_lock
from fewshot_node.tasks.origin import now
from fewshot_node.tasks.revision import copy_revision, load_revision, write_revision
from fewshot_node.tasks.standing import STANDING, Standing, read_standing, write_standing
from fewshot_node.tasks.task import PublishedTask

logger = logging.getLogger(__name__)

IMPORTS = "imported"
"""Folder beside a task's revisions with those from other sites that nobody has adopted yet: none is routed to."""

Check = Callable[[Path], None]
"""Refuses the draft or the revision in a folder by raising TaskError."""


class Lifecycle:
    """Revisions of the task in a folder, and which of them take series."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._name = folder.name

    def revisions(self) -> tuple[int, ...]:
        """Return the numbers of the published revisions, rising."""
        folder = self._folder / "revisions"
        return tuple(sorted(int(path.name) for path in folder.glob("[0-9]*") if path.name.isdigit()))

    def revision_folder(self, revision: int) -> Path:
        """Return the folder of a revision.

        Raises
        ------
        UnknownTaskError
            There is no such revision.
        """
        known = self.require_revisions()
        if revision not in known:
            raise UnknownTaskError(f"task {self._name} has no revision {revision}: it has {', '.join(map(str, known))}")
        return self._place(revision)

    def load(self, revision: int) -> PublishedTask:
        """Return a revision, compared with its digests.

        Raises
        ------
        TaskError
            There is no such revision, or its files were altered.
        """
        return load_revision(self.revision_folder(revision))

    def standing(self) -> Standing:
        """Return which revisions take series.

        Raises
        ------
        TaskError
            That cannot be told: the file that says so is damaged.
        """
        return read_standing(self._folder, self.revisions())

    def publish(self, draft: Path, refiner_digest: str | None, check: Check, *, shadow: bool = False) -> int:
        """Freeze a draft as the next revision, live or in shadow, and return its number.

        Parameters
        ----------
        check
            Asked about the draft while nobody else can change it.

        Raises
        ------
        TaskError
            The check refuses the draft, the task is retired, or somebody else changes it for long.
        """
        with task_lock(self._folder, "task publish"):
            standing = self.standing()
            self._require_in_service(standing)
            check(draft)
            self._settle(standing)
            revision = self._next()
            digest = write_revision(draft, self._place(revision), refiner_digest, score_note(draft))
            how = "shadow" if shadow else "live"
            self._write(standing.changed(f"published as revision {revision}, {how}", **{how: revision}))
        logger.info("task %s published as revision %d, %s, digest %s", self._name, revision, how, digest)
        return revision

    def adopt(self, waiting: Path, check: Check, *, shadow: bool = False) -> tuple[int, str]:
        """Make an imported revision that waits one of the task's own, live or in shadow; return number and digest.

        It keeps both unless a later revision was published since it came: then it goes after that one. It waits
        until all that is done: what is cut short is done again.

        Parameters
        ----------
        check
            Asked about the revision while nobody else can change it.

        Raises
        ------
        TaskError
            The check refuses the revision, the task is retired, or somebody else changes it for long.
        """
        with task_lock(self._folder, "task adopt"):
            standing = self.standing()
            self._require_in_service(standing)
            check(waiting)
            self._settle(standing)
            revision = max(int(waiting.name), self._next())
            digest = copy_revision(waiting, self._place(revision))
            how = "shadow" if shadow else "live"
            self._write(standing.changed(f"adopted as revision {revision}, {how}", **{how: revision}))
            remove_folder(waiting)
        logger.info("task %s adopted as revision %d, %s, digest %s", self._name, revision, how, digest)
        return revision, digest

    def go_live(self, revision: int | None, check: Check) -> int:
        """Let a revision's results be sent from now on, that in shadow by default; return its number.

        With a revision it also makes good a damaged standing.

        Raises
        ------
        TaskError
            There is nothing in shadow, no such revision, it is live already, was altered, or the check refuses it.
        """
        with task_lock(self._folder, "task go-live"):
            standing = self.standing() if revision is None else self._standing_or_new()
            self._require_in_service(standing)
            known, chosen = self.require_revisions(), standing.shadow if revision is None else revision
            if chosen is None:
                which = f"name one of {', '.join(map(str, known))} (task go-live {self._name} REVISION)"
                raise TaskError(f"task {self._name} has no revision in shadow: {which}")
            folder = self.load(chosen).folder
            if chosen == standing.live:
                raise TaskError(f"revision {chosen} of task {self._name} is live already: see task show {self._name}")
            check(folder)
            shadow = None if standing.shadow == chosen else standing.shadow
            self._write(standing.changed(f"revision {chosen} went live", live=chosen, shadow=shadow))
        return chosen

    def rollback(self, revision: int | None = None) -> int:
        """Make another revision the live one again, the one that was live before by default; return its number.

        Raises
        ------
        TaskError
            There is no such revision, it is live already, it never was live, was altered, or the task is retired.
        """
        with task_lock(self._folder, "task rollback"):
            standing = self.standing()
            self._require_in_service(standing)
            chosen = self._one_before(standing) if revision is None else revision
            self.load(chosen)
            if chosen == standing.live:
                raise TaskError(f"revision {chosen} of task {self._name} is live already: name another one")
            if not standing.was_live(chosen):
                remedy = f"task go-live {self._name} {chosen} lets it"
                raise TaskError(f"revision {chosen} of task {self._name} never was live: {remedy}")
            shadow = None if standing.shadow == chosen else standing.shadow
            self._write(standing.changed(f"rolled back to revision {chosen}", live=chosen, shadow=shadow))
        return chosen

    def put_in_shadow(self, revision: int | None) -> None:
        """Let a revision run beside the live one and send nothing; None ends that.

        Raises
        ------
        TaskError
            There is no such revision, it is the live one or in shadow already, it was altered, or the task is retired.
        """
        with task_lock(self._folder, "task shadow"):
            standing = self.standing()
            self._require_in_service(standing)
            if revision is not None:
                self.load(revision)
                if revision == standing.live:
                    raise TaskError(f"revision {revision} of task {self._name} is live: only another can be its shadow")
                if revision == standing.shadow:
                    raise TaskError(f"revision {revision} of task {self._name} runs in shadow already: leave it there")
            elif standing.shadow is None:
                raise TaskError(f"task {self._name} has no revision in shadow: see task show {self._name}")
            what = "shadow ended" if revision is None else f"revision {revision} put in shadow"
            self._write(standing.changed(what, shadow=revision))

    def retire(self, *, undo: bool = False) -> None:
        """Take the task out of service, or back in; revisions and results stay.

        Raises
        ------
        TaskError
            It is so already, or nothing of it ever took series.
        """
        with task_lock(self._folder, "task retire"):
            standing = self.standing()
            if standing.retired is not undo:
                state = "is not retired" if undo else "is retired already"
                raise TaskError(f"task {self._name} {state}: see task show {self._name}")
            if standing.live is None and standing.shadow is None and not undo:
                raise TaskError(f"task {self._name} takes no series: there is nothing to retire")
            what = "taken back into service" if undo else "retired"
            self._write(standing.changed(what, retired=not undo))

    def require_revisions(self) -> tuple[int, ...]:
        """Return the numbers of the revisions, of which there has to be one.

        Raises
        ------
        TaskError
            There is none; the message says how to come to one.
        """
        known = self.revisions()
        if not known:
            waits = any((self._folder / IMPORTS).glob("[0-9]*"))
            remedy = f"adopt what was imported (task show {self._name})" if waits else "fit it and publish it"
            raise TaskError(f"task {self._name} has no published revision: {remedy}")
        return known

    def _next(self) -> int:
        return (self.revisions() or (0,))[-1] + 1

    def _require_in_service(self, standing: Standing) -> None:
        if standing.retired:
            raise TaskError(f"task {self._name} is retired: take it back first (task retire {self._name} --undo)")

    def _one_before(self, standing: Standing) -> int:
        self.require_revisions()
        before = standing.before_live()
        if before is None:
            raise TaskError(f"task {self._name} has no earlier revision to roll back to: see task show {self._name}")
        return before

    def _settle(self, standing: Standing) -> None:
        """Write down what is live now, where no file says so: else the next revision would be, by being there."""
        if not (self._folder / STANDING).exists():
            write_standing(self._folder, standing)

    def _standing_or_new(self) -> Standing:
        """Return the standing; a new one where it is damaged: what is left of the old one is kept aside."""
        try:
            return self.standing()
        except TaskError:
            with suppress(FileNotFoundError):
                shutil.copy(self._folder / STANDING, self._folder / f"standing-damaged-{now()}.json")
            return Standing()

    def _write(self, standing: Standing) -> None:
        write_standing(self._folder, standing)

    def _place(self, revision: int) -> Path:
        return self._folder / "revisions" / f"{revision:04d}"
