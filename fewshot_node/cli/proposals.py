"""``template proposed | accept | reject``: corrections that came back, and what a person says of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Column, Table

from fewshot_node.cli.printing import print_table
from fewshot_node.cli.state import cli_state

if TYPE_CHECKING:
    from fewshot_node.tasks.corrections.proposals import Proposal

TaskName = Annotated[str, typer.Argument(metavar="TASK", help="Name of the task.")]
ProposalName = Annotated[str, typer.Argument(metavar="NAME", help="Name of the proposal.")]
By = Annotated[str, typer.Option(help="Who says so, if not the account that runs this.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the commands to those of templates."""
    app.command()(proposed)
    app.command()(accept)
    app.command()(reject)


def proposed(
    context: typer.Context,
    task: Annotated[str | None, typer.Argument(metavar="[TASK]", help="Name of the task; all if absent.")] = None,
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


def accept(context: typer.Context, task: TaskName, name: ProposalName, by: By = "") -> None:
    """Make a correction a template of the task's draft."""
    from fewshot_node.tasks.corrections.accept import accept as accept_proposal
    from fewshot_node.tasks.origin import operating_user
    from fewshot_node.tasks.registry import Registry

    registry = Registry(cli_state(context).settings.tasks)
    template = accept_proposal(
        registry, task, name, by or operating_user(), lambda proposal: _images(context, proposal)
    )
    typer.echo(
        f"task {task}: template {template.name} with {len(template.array)} slices; next: fewshot-node task fit {task}"
    )


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


def _images(context: typer.Context, proposal: "Proposal") -> Sequence[Path]:
    from fewshot_node.errors import SeriesError
    from fewshot_node.node import open_node

    files = open_node(cli_state(context).settings).spool.series_files(proposal.series_instance_uid)
    if not files:
        raise SeriesError(
            f"the images of proposal {proposal.name} (series {proposal.series_instance_uid}) are not in the spool any "
            f"more: fetch them (fewshot-node pull --study {proposal.study_instance_uid} "
            f"--series {proposal.series_instance_uid}), then accept again"
        )
    return files
