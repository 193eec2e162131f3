"""Proposed templates on disk, below their task, until a person decides; what was decided stays there too.

::

    <root>/<task>/proposed/<name>/proposal.json    what corrects what, and what became of it
                                  labels.nii.gz    or points.json: the annotation, without the images
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from fewshot_node.disk import whole_folder
from fewshot_node.errors import TaskError, TemplateError
from fewshot_node.tasks.storage import read_json, write_json

_PROPOSAL = "proposal.json"
_SCHEMA_VERSION = 1


class ProposalState(StrEnum):
    """What became of a proposal."""

    PROPOSED = "proposed"
    ACCEPTED = "accepted"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Proposal:
    """A correction that may become a template.

    Attributes
    ----------
    name
        Derived from what the correction says, so that the same one again is the same proposal.
    task, task_revision
        Whose result was corrected.
    study_instance_uid, series_instance_uid
        The images.
    result_instance_uid, correction_instance_uid
        The object that was corrected, and the one that came back.
    labels, slices
        Values of the labels that differ, and the slices that differ most.
    proposed, decided
        When, with the time zone.
    decided_by, reason
        Who accepted or rejected it, and why.
    """

    name: str
    task: str
    task_revision: int
    study_instance_uid: str
    series_instance_uid: str
    result_instance_uid: str
    correction_instance_uid: str
    labels: tuple[int, ...]
    slices: tuple[int, ...]
    proposed: datetime
    state: ProposalState = ProposalState.PROPOSED
    decided: datetime | None = None
    decided_by: str = ""
    reason: str = ""


_PROPOSALS = TypeAdapter(Proposal)


class Proposals:
    """Proposals of the tasks below the registry's folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def propose(self, proposal: Proposal, write: Callable[[Path], Path]) -> bool:
        """Keep a proposal with the annotation that `write` puts into a folder; False when it was made before."""
        try:
            with whole_folder(self._folder(proposal.task, proposal.name)) as folder:
                write(folder)
                write_json(folder / _PROPOSAL, _to_data(proposal))
        except FileExistsError:
            return False
        return True

    def of_task(self, task: str, state: ProposalState | None = None) -> tuple[Proposal, ...]:
        """Return a task's proposals, oldest first."""
        paths = (self._root / task / "proposed").glob(f"[!.]*/{_PROPOSAL}")
        found = sorted((_from_file(path) for path in paths), key=lambda one: (one.proposed, one.name))
        return tuple(one for one in found if state in {None, one.state})

    def get(self, task: str, name: str) -> Proposal:
        """Return one proposal.

        Raises
        ------
        TemplateError
            The task has no such proposal; the message lists those that wait.
        """
        known = {one.name: one for one in self.of_task(task)}
        if name not in known:
            waiting = [one.name for one in known.values() if one.state is ProposalState.PROPOSED]
            raise TemplateError(f"task {task} has no proposal {name!r}: waiting are {', '.join(waiting) or 'none'}")
        return known[name]

    def open(self, task: str, name: str) -> Proposal:
        """Return a proposal that nobody has decided on.

        Raises
        ------
        TemplateError
            There is none of that name, or it was accepted or rejected before.
        """
        proposal = self.get(task, name)
        if proposal.state is not ProposalState.PROPOSED:
            when = f"{proposal.decided:%Y-%m-%d %H:%M}" if proposal.decided else "before"
            raise TemplateError(
                f"proposal {name} of task {task} was {proposal.state} by {proposal.decided_by} ({when}): "
                "it stands; a template can be removed (template remove) or added by hand (template add)"
            )
        return proposal

    def annotation(self, proposal: Proposal) -> Path:
        """Return the file with the labels or points, in values of the task.

        Raises
        ------
        TaskError
            It is gone.
        """
        folder = self._folder(proposal.task, proposal.name)
        path = next((folder / name for name in ("labels.nii.gz", "points.json") if (folder / name).is_file()), None)
        if path is None:
            raise TaskError(f"{folder} has lost its annotation: restore it from a backup, or reject the proposal")
        return path

    def decide(self, proposal: Proposal, state: ProposalState, by: str, reason: str = "") -> Proposal:
        """Keep what was decided, when, and by whom."""
        decided = replace(proposal, state=state, decided=datetime.now(UTC), decided_by=by, reason=reason)
        write_json(self._folder(proposal.task, proposal.name) / _PROPOSAL, _to_data(decided))
        return decided

    def _folder(self, task: str, name: str) -> Path:
        return self._root / task / "proposed" / name


def _to_data(proposal: Proposal) -> dict[str, Any]:
    facts = _PROPOSALS.dump_python(proposal, mode="json")
    return {"schema_version": _SCHEMA_VERSION, **facts}


def _from_file(path: Path) -> Proposal:
    data = read_json(path)
    if data.pop("schema_version", None) != _SCHEMA_VERSION:
        raise TaskError(f"{path} was written by another version: use the fewshot-node that wrote it")
    try:
        return _PROPOSALS.validate_python(data)
    except ValidationError as error:
        raise TaskError(f"{path} is no proposal: restore it from a backup, or remove its folder") from error
