"""``task publish`` and what comes before and after it: diff, shadow, go-live, rollback, retire."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Column, Table
from rich.text import Text

from fewshot_node.cli.arguments import TaskName
from fewshot_node.cli.printing import print_table
from fewshot_node.cli.state import cli_state
from fewshot_node.errors import TaskError

if TYPE_CHECKING:
    from fewshot_node.tasks.lifecycle import Lifecycle

_Revision = Annotated[int | None, typer.Argument(metavar="REVISION", help="Number of a published revision.")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``task``."""
    for command in (publish, diff, rollback, retire, shadow):
        app.command()(command)
    app.command(name="go-live")(go_live)


def publish(
    context: typer.Context,
    name: TaskName,
    in_shadow: Annotated[
        bool, typer.Option("--shadow", help="Let it run beside the live revision, be recorded, and send nothing.")
    ] = False,
) -> None:
    """Freeze the fitted task as the next revision; matching series go to it from now on."""
    from fewshot_node.models import load_models
    from fewshot_node.tasks.registry import Registry

    settings = cli_state(context).settings
    registry = Registry(settings.tasks)
    refines = registry.definition(name).settings.refine.needs_model
    digest = load_models(settings.worker).sam_digest if refines else None
    revision = registry.publish(name, digest, shadow=in_shadow, minimum_score=settings.publish.minimum_score)
    if in_shadow:
        how = shadow_text(registry.lifecycle(name), revision)
        typer.echo(f"task {name} revision {revision} {how}; next: fewshot-node task go-live {name}")
    else:
        typer.echo(f"task {name} revision {revision} is live")


def diff(
    context: typer.Context,
    name: TaskName,
    first: Annotated[str, typer.Argument(metavar="A", help='Number of a revision, or "draft".')],
    second: Annotated[str, typer.Argument(metavar="B", help='Number of a revision, or "draft".')] = "draft",
) -> None:
    """Show what differs between two revisions: labels, rules, settings, templates, models, score."""
    from fewshot_node.tasks.differences import task_differences
    from fewshot_node.tasks.registry import Registry

    found = task_differences(Registry(cli_state(context).settings.tasks), name, first, second)
    table = Table(Column("what", overflow="fold"), Column(first, overflow="fold"), Column(second, overflow="fold"))
    for one in found:
        table.add_row(Text(one.what), Text(one.first or "-"), Text(one.second or "-"))
    print_table(table, otherwise=f"task {name}: {first} and {second} are the same")


def go_live(context: typer.Context, name: TaskName, revision: _Revision = None) -> None:
    """Send the results of a revision from now on: of that in shadow, or of the one that is named."""
    from fewshot_node.tasks.approval import require_score, revision_score

    minimum = cli_state(context).settings.publish.minimum_score

    def check(folder: Path) -> None:
        in_shadow = f"let it run in shadow (task shadow {name} {revision})"
        or_else = "leave it in shadow" if revision is None else in_shadow
        require_score(name, revision_score(folder), minimum, or_else)

    chosen = _lifecycle(context, name).go_live(revision, check)
    typer.echo(f"task {name} revision {chosen} is live")


def rollback(context: typer.Context, name: TaskName, revision: _Revision = None) -> None:
    """Make an older revision the live one again: the one that was live before, or the one that is named."""
    chosen = _lifecycle(context, name).rollback(revision)
    typer.echo(f"task {name} revision {chosen} is live again; the draft stays as it is")


def retire(
    context: typer.Context,
    name: TaskName,
    undo: Annotated[bool, typer.Option("--undo", help="Take the task back into service.")] = False,
) -> None:
    """Let a task take no more series; its revisions and results stay."""
    lifecycle = _lifecycle(context, name)
    lifecycle.retire(undo=undo)
    back = f"task {name} is back in service: {standing_text(lifecycle)}"
    typer.echo(back if undo else f"task {name} is retired and takes no series; task retire {name} --undo takes it back")


def shadow(
    context: typer.Context,
    name: TaskName,
    revision: _Revision = None,
    end: Annotated[bool, typer.Option("--end", help="Run nothing in shadow any more.")] = False,
) -> None:
    """Let a published revision run in shadow: on matching series, recorded, its results kept and not sent."""
    if end is (revision is not None):
        raise typer.BadParameter("give either a REVISION or --end")
    lifecycle = _lifecycle(context, name)
    lifecycle.put_in_shadow(revision)
    if revision is None:
        typer.echo(f"task {name}: nothing runs in shadow")
    else:
        typer.echo(f"task {name} revision {revision} {shadow_text(lifecycle, revision)}")


def shadow_text(lifecycle: "Lifecycle", revision: int) -> str:
    """Say that a revision runs in shadow now, and in the place of which one."""
    before = lifecycle.standing().replaced_shadow(revision)
    return "runs in shadow" if before is None else f"runs in shadow in place of revision {before}"


def standing_text(lifecycle: "Lifecycle") -> str:
    """Say in a few words which revisions of a task take series."""
    try:
        standing = lifecycle.standing()
    except TaskError:
        return "damaged: see task show"
    if not lifecycle.revisions():
        return "not yet"
    roles = [("live", standing.live), ("shadow", standing.shadow)]
    text = ", ".join(f"revision {number} {role}" for role, number in roles if number is not None)
    return f"retired ({text})" if standing.retired else text or "nothing live"


def revision_lines(lifecycle: "Lifecycle", name: str) -> Iterator[str]:
    """Yield a line for each revision, and one for each change to what is live."""
    try:
        standing = lifecycle.standing()
    except TaskError as error:
        yield f"standing {error}"
        standing = None
    for revision in lifecycle.revisions():
        role = standing.role(revision) if standing else ""
        try:
            yield f"revision {revision} {lifecycle.load(revision).digest[:12]} {role}".rstrip()
        except TaskError as error:
            yield f"revision {revision} damaged {role}: {error}"
    for change in standing.history if standing else ():
        yield f"changed  {change.time} {change.who}: {change.what}"
    if standing and standing.retired:
        yield f"retired  takes no series: task retire {name} --undo takes it back"


def _lifecycle(context: typer.Context, name: str) -> "Lifecycle":
    from fewshot_node.tasks.registry import Registry

    return Registry(cli_state(context).settings.tasks).lifecycle(name)
