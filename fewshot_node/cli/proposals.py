"""``template proposed | accept | reject``: corrections that came back, and what a person says of them."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Column, Table

from fewshot_node.cli.arguments import TaskName
from fewshot_node.cli.printing import counted, print_table
from fewshot_node.cli.progress import feature_cache, watched
from fewshot_node.cli.state import cli_state
from fewshot_node.config import NodeSettings
from fewshot_node.errors import PermanentError, RetryableError, SeriesError

if TYPE_CHECKING:
    from fewshot_node.tasks.corrections.proposals import Proposal
    from fewshot_node.tasks.registry import Registry

ProposalName = Annotated[str, typer.Argument(metavar="NAME", help="Name of the proposal.")]
By = Annotated[str, typer.Option(help="Who says so, if not the account that runs this.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the commands to those of templates."""
    app.command()(proposed)
    app.command()(accept)
    app.command()(reject)


def proposed(
    context: typer.Context,
    task: Annotated[str | None, typer.Argument(metavar="TASK", help="Name of the task; all if absent.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also what was accepted or rejected.")] = False,
) -> None:
    """List corrections of results that came back and wait to be accepted as templates, or rejected."""
    from fewshot_node.tasks.corrections.proposals import Proposals, ProposalState
    from fewshot_node.tasks.registry import Registry

    registry = Registry(cli_state(context).settings.tasks)
    table = Table("task", "proposal", "corrects", "labels", "came", "state", Column("series", overflow="fold"))
    for name in registry.names() if task is None else [task]:
        names = {label.value: label.name for label in registry.definition(name).labels}
        for one in Proposals(registry.root).of_task(name, None if everything else ProposalState.PROPOSED):
            labels = ", ".join(names.get(value, str(value)) for value in one.labels)
            came = f"{one.proposed:%Y-%m-%d %H:%M}"
            revision = f"revision {one.task_revision}"
            table.add_row(name, one.name, revision, labels, came, _state(one), one.series_instance_uid)
    print_table(table, otherwise="no corrections wait" if not everything else "no corrections came")


def accept(
    context: typer.Context,
    task: TaskName,
    name: ProposalName,
    by: By = "",
    via: Annotated[
        str, typer.Option(help="How images that left the spool are fetched: get, move or a DICOMweb destination.")
    ] = "get",
    score: Annotated[
        bool, typer.Option("--crossval/--no-crossval", help="Show the crossvalidated score before and after.")
    ] = True,
) -> None:
    """Make a correction a template of the task's draft, and show what that does to its score."""
    from fewshot_node.tasks.corrections.accept import accept as accept_proposal
    from fewshot_node.tasks.corrections.proposals import Proposals
    from fewshot_node.tasks.origin import operating_user
    from fewshot_node.tasks.registry import Registry

    settings = cli_state(context).settings
    registry = Registry(settings.tasks)
    registry.definition(task)
    Proposals(registry.root).open(task, name)  # before anything that takes time
    told = _score(registry, task, settings) if score else ""
    template = accept_proposal(
        registry, task, name, by or operating_user(), lambda proposal: _images(proposal, via, settings)
    )
    kind = "template" if template.label_values else "negative template"
    typer.echo(f"task {task}: {kind} {template.name} with {counted(len(template.array), 'slice')} is in the draft")
    if score:
        typer.echo(f"  before  {told}\n  with it {_score(registry, task, settings)}")
    typer.echo(f"next: fewshot-node task fit {task}; template remove {task} {template.name} takes it out again")


def reject(
    context: typer.Context,
    task: TaskName,
    name: ProposalName,
    reason: Annotated[str, typer.Option(help="Why, for those who come later; no patient data.")] = "",
    by: By = "",
) -> None:
    """Say that a correction shall not become a template; it is not proposed again."""
    from fewshot_node.tasks.corrections.accept import reject as reject_proposal
    from fewshot_node.tasks.origin import operating_user
    from fewshot_node.tasks.registry import Registry

    rejected = reject_proposal(Registry(cli_state(context).settings.tasks), task, name, by or operating_user(), reason)
    typer.echo(f"task {task}: proposal {name} is rejected by {rejected.decided_by}")


def _state(proposal: "Proposal") -> str:
    if proposal.decided is None:
        return str(proposal.state)
    why = f": {proposal.reason}" if proposal.reason else ""
    return f"{proposal.state} by {proposal.decided_by}, {proposal.decided:%Y-%m-%d %H:%M}{why}"


@contextmanager
def _images(proposal: "Proposal", via: str, settings: NodeSettings) -> Iterator[tuple[Sequence[Path], str]]:
    """Give the images that were corrected: from the spool, else from the PACS."""
    from fewshot_node.cli.images import WantedImages, images
    from fewshot_node.node import open_node

    files = open_node(settings).spool.series_files(proposal.series_instance_uid)
    if files:
        yield files, "the spool"
        return
    wanted = WantedImages(None, proposal.study_instance_uid, proposal.series_instance_uid, via)
    with ExitStack() as fetched:
        try:
            found = fetched.enter_context(images(wanted, settings))
        except (PermanentError, RetryableError) as error:
            raise SeriesError(
                f"the images of proposal {proposal.name} (series {proposal.series_instance_uid}) are not in the spool "
                f"any more, and fetching them failed: {error}; accept it again when they can be had"
            ) from error
        yield found.files, found.how


def _score(registry: "Registry", task: str, settings: NodeSettings) -> str:
    from fewshot_node.models import load_models
    from fewshot_node.tasks.corrections.scores import own_score
    from fewshot_node.tasks.crossval import Engines

    models = load_models(settings.worker)
    with watched() as watch:
        return str(own_score(registry, task, Engines(models.encoder, models.sam, feature_cache(settings)), watch))
