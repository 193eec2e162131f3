"""A person's word on a proposal: it becomes a template of the task's draft, or it never does."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from fewshot_node.errors import TemplateError
from fewshot_node.tasks.annotations.nifti import marks_nothing
from fewshot_node.tasks.corrections.proposals import Proposal, Proposals, ProposalState
from fewshot_node.tasks.origin import TemplateOrigin
from fewshot_node.tasks.registry import Registry
from fewshot_node.tasks.selection import TemplateSelection
from fewshot_node.tasks.task import TaskDefinition
from fewshot_node.tasks.templates import Template, read_template

Images = Callable[[Proposal], AbstractContextManager[tuple[Sequence[Path], str]]]
"""Finds the images that a proposal was drawn on, and says how, for as long as they are needed.

It raises PermanentError or RetryableError where it cannot.
"""


def accept(registry: Registry, task: str, name: str, by: str, images: Images) -> Template:
    """Make a proposal a template of the task's draft, and keep who said so.

    Besides the slices that any annotated series gives, the template has those that were corrected most: what
    the task got wrong there is what it has to learn. Where the person removed everything, it is a negative one.

    Raises
    ------
    UnknownTaskError
        There is no such task.
    TemplateError
        There is no such proposal, it was decided on before, or the draft does not take the template.
    """
    definition = registry.definition(task)
    proposals = Proposals(registry.root)
    proposal = proposals.open(task, name)
    with images(proposal) as (files, how):
        template = _with_origin(_read(proposal, proposals.annotation(proposal), definition, files), proposal, by, how)
    if not _is_there(registry, task, template):  # an earlier call may have ended between the two
        registry.add_template(task, template)
    proposals.decide(proposal, ProposalState.ACCEPTED, by)
    return template


def reject(registry: Registry, task: str, name: str, by: str, reason: str = "") -> Proposal:
    """Keep that a proposal is not wanted, and who said so; the same correction is not proposed again.

    Raises
    ------
    UnknownTaskError
        There is no such task.
    TemplateError
        There is no such proposal, or it was decided on before.
    """
    registry.definition(task)
    proposals = Proposals(registry.root)
    return proposals.decide(proposals.open(task, name), ProposalState.REJECTED, by, reason)


def _read(proposal: Proposal, annotation: Path, definition: TaskDefinition, files: Sequence[Path]) -> Template:
    selection = TemplateSelection(name=proposal.name)
    # A point that is left out was not corrected: points never say that nothing is there.
    is_negative = annotation.suffix != ".json" and marks_nothing(annotation)
    labels = None if is_negative else annotation
    template = read_template(files, labels, definition, selection)
    wanted = tuple(sorted({*template.slice_indices, *proposal.slices}))
    if wanted == template.slice_indices:
        return template
    return read_template(files, labels, definition, replace(selection, indices=wanted))


def _with_origin(template: Template, proposal: Proposal, by: str, images: str) -> Template:
    corrected = f"{proposal.result_instance_uid} of revision {proposal.task_revision}"
    note = f"{proposal.correction_instance_uid} corrects {corrected}"
    origin = template.origin or TemplateOrigin()
    return replace(template, origin=replace(origin, by=by, images=images, notes=(*origin.notes, note)))


def _is_there(registry: Registry, task: str, template: Template) -> bool:
    known = {one.name: one for one in registry.templates(task)}
    other = known.get(template.name)
    if other is not None and other.digest() != template.digest():
        raise TemplateError(
            f"task {task} has another template {template.name}: remove it first (template remove), then accept again"
        )
    return other is not None
