"""Which revision of a task is live, which runs in shadow, and whether the task is retired.

``<task>/standing.json`` says so, with every change to it, who made it and when. It is replaced as a whole. A task
of an earlier version of this package has none: there the newest revision is live.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError

from fewshot_node.errors import TaskError
from fewshot_node.tasks.lock import who
from fewshot_node.tasks.origin import now
from fewshot_node.tasks.storage import read_json, write_json

STANDING = "standing.json"


class Change(BaseModel):
    """One change, and what stood after it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    time: str
    who: str
    what: str
    live: PositiveInt | None
    shadow: PositiveInt | None


class Standing(BaseModel):
    """Which revisions of a task take series.

    Attributes
    ----------
    live
        Its results are sent; None before the first one goes live.
    shadow
        Runs beside it, and sends nothing.
    retired
        Neither takes series while the task is retired.
    history
        All changes, the first one first.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    live: PositiveInt | None = None
    shadow: PositiveInt | None = None
    retired: bool = False
    history: tuple[Change, ...] = ()

    def changed(self, what: str, **values: int | bool | None) -> "Standing":
        """Return the standing after a change that is made now."""
        after = self.model_copy(update=values)
        change = Change(time=now(), who=who(), what=what, live=after.live, shadow=after.shadow)
        return after.model_copy(update={"history": (*self.history, change)})

    def before_live(self) -> int | None:
        """Return the revision that was live before the present one; None when there was none."""
        earlier = [one.live for one in self.history if one.live is not None and one.live != self.live]
        return earlier[-1] if earlier else None

    def was_live(self, revision: int) -> bool:
        """Tell whether a revision's results ever were sent, as far as the history goes back."""
        return any(one.live == revision for one in self.history)

    def replaced_shadow(self, revision: int) -> int | None:
        """Return which revision ran in shadow until the given one took its place; None when none did."""
        shadows = pairwise((None, *(one.shadow for one in self.history)))
        replaced = [before for before, after in shadows if after == revision != before]
        return replaced[-1] if replaced else None

    def role(self, revision: int) -> str:
        """Say in a word or two what a revision does now."""
        roles = [name for name, which in (("live", self.live), ("shadow", self.shadow)) if which == revision]
        return ", ".join([*roles, "retired"] if roles and self.retired else roles)


def read_standing(folder: Path, revisions: Sequence[int]) -> Standing:
    """Read the standing of the task in a folder.

    Parameters
    ----------
    revisions
        Those that are there, rising.

    Raises
    ------
    TaskError
        The file is damaged, or names a revision that is not there.
    """
    path = folder / STANDING
    if not path.exists():
        return _of_earlier_version(revisions)
    remedy = f"say which one is to be live (task go-live {folder.name} REVISION)"
    try:
        standing = Standing.model_validate(read_json(path))
    except (ValidationError, TaskError) as error:
        raise TaskError(f"{path} is damaged, so that no revision of the task is known to be live: {remedy}") from error
    lost = sorted({standing.live, standing.shadow} - {None, *revisions}, key=str)
    if lost:
        raise TaskError(f"{path} names revision {lost[0]}, which is not there: restore it from a backup, or {remedy}")
    return standing


def _of_earlier_version(revisions: Sequence[int]) -> Standing:
    """Return what was so without a standing: each revision was live from its publishing to that of the next."""
    history = tuple(
        Change(
            time="formerly", who="an earlier version", what=f"published as revision {one}, live", live=one, shadow=None
        )
        for one in revisions
    )
    return Standing(live=revisions[-1] if revisions else None, history=history)


def write_standing(folder: Path, standing: Standing) -> None:
    """Replace the standing of a task; a reader sees the old one or the new one."""
    write_json(folder / STANDING, standing.model_dump(mode="json"))
