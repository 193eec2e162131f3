"""``route``: which task a series goes to, and why."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fewshot_node.cli.printing import plain_console, print_table
from fewshot_node.cli.state import cli_state
from fewshot_node.errors import SeriesError, TaskError

if TYPE_CHECKING:
    from fewshot_node.config import NodeSettings
    from fewshot_node.records import ReceivedSeries
    from fewshot_node.tasks.candidates import Candidate
    from fewshot_node.tasks.replay import Arrivals
    from fewshot_node.tasks.rule_groups import AnyRule, RuleVerdict

app = typer.Typer(no_args_is_help=True)

_Last = Annotated[int, typer.Option(min=1, help="How many of the newest series to ask about.")]


@app.callback()
def group() -> None:
    """See which task a series goes to, and why."""


@app.command()
def explain(
    context: typer.Context,
    series: Annotated[
        str, typer.Argument(metavar="DIR|SERIES_UID", help="Folder with one series, or one that came in.")
    ],
    calling_ae_title: Annotated[str, typer.Option(help="AE title that would have sent a folder's images.")] = "",
) -> None:
    """Print the verdict of every rule of every task that takes series."""
    from fewshot_node.dicom.objects.headers import read_header
    from fewshot_node.tasks.attributes import SeriesFacts
    from fewshot_node.tasks.registry import Registry
    from fewshot_node.tasks.replay import title
    from fewshot_node.tasks.rule_groups import evaluate

    settings = cli_state(context).settings
    received = _series(settings, series, calling_ae_title)
    facts = SeriesFacts(read_header(received.files), received.calling_ae_title)
    tasks = Registry(settings.tasks).candidates()
    console = plain_console()
    if not tasks:
        console.print(_nothing_takes(settings))
    for task in tasks:
        if task.rules is None:
            console.print(Text.assemble(f"{title(task)} ", ("cannot be read", "red"), f": {task.trouble}"))
            continue
        verdict = evaluate(task.rules, facts)
        taken = ("takes it", "green") if verdict.matches else ("does not take it", "red")
        console.print(Text.assemble(f"{title(task)} ", taken))
        _print_verdicts(console, verdict.rules, "  ")
        if not verdict.rules:
            console.print("  it has no rules, so it takes no series by itself")


@app.command()
def replay(
    context: typer.Context,
    task: Annotated[str, typer.Option(help="Task whose rules change.")],
    rule: Annotated[list[str] | None, typer.Option(help="The changed rules; without any, those of the draft.")] = None,
    last: _Last = 200,
) -> None:
    """Show what changed rules would have done to the series that came in lately; nothing is changed."""
    from fewshot_node.node import open_node
    from fewshot_node.tasks.registry import Registry
    from fewshot_node.tasks.replay import recent_arrivals
    from fewshot_node.tasks.replay import replay as replayed
    from fewshot_node.tasks.rule_text import parse_rule

    settings = cli_state(context).settings
    registry = Registry(settings.tasks)
    drafted = registry.definition(task).rules
    after = tuple(parse_rule(text) for text in rule) if rule else drafted
    arrivals = recent_arrivals(open_node(settings), last)
    found = replayed(arrivals, _live_rules(registry.candidates(), task), after)
    table = Table("series", "now", "then")
    for one in found:
        if one.before != one.after:
            table.add_row(one.series_instance_uid, _word(one.before), _word(one.after))
    nothing_came = "no series to ask about: none came in lately that is still in the spool"
    print_table(table, otherwise="no series would go another way" if found else nothing_came)
    now, then = (sum(map(bool, side)) for side in ((one.before for one in found), (one.after for one in found)))
    typer.echo(f"task {task}: takes {now} of {len(found)} series now, would take {then}{_left_out(arrivals)}")


@app.command()
def check(context: typer.Context, last: _Last = 200) -> None:
    """Report tasks that take the same series, rules that took none lately, and rules that never can hold."""
    from fewshot_node.node import open_node
    from fewshot_node.tasks.registry import Registry
    from fewshot_node.tasks.replay import check_routing, recent_arrivals

    settings = cli_state(context).settings
    arrivals = recent_arrivals(open_node(settings), last)
    found = check_routing(arrivals, Registry(settings.tasks).candidates())
    table = Table("revision", "takes", "remark")
    for name, taken in found.taken.items():
        remark = found.contradictions.get(name, "")
        if taken is None:
            remark = "its rules cannot be read: see route explain"
        elif not taken and arrivals.images and not remark:
            remark = "took none of them"
        table.add_row(name, "?" if taken is None else str(taken), remark)
    print_table(table, otherwise=_nothing_takes(settings))
    for one in found.overlaps:
        typer.echo(f"overlap: {one.first} and {one.second} both take {one.series} series, for example {one.example}")
    typer.echo(f"asked about {len(arrivals.images)} series{_left_out(arrivals)}")


def _series(settings: "NodeSettings", text: str, calling_ae_title: str) -> "ReceivedSeries":
    """Return the series of a folder, or one that came in."""
    from fewshot_node.cli.folder import series_from_folder
    from fewshot_node.dicom.identity import is_uid
    from fewshot_node.node import open_node

    if not is_uid(text) or Path(text).exists():
        if not Path(text).exists():
            raise SeriesError(f"{text} is no folder: give one that holds one series, or the UID of one that came in")
        return series_from_folder(Path(text), calling_ae_title)
    node = open_node(settings)
    entry = node.ledger.get(text)
    if entry is None:
        raise SeriesError(f"series {text} is not in the ledger: see `fewshot-node series list`, or give a folder")
    return node.ledger.received(entry.key, node.spool)


def _nothing_takes(settings: "NodeSettings") -> str:
    """Say why there is nobody to ask."""
    from fewshot_node.tasks.registry import Registry

    if Registry(settings.tasks).names():
        return "no task takes series: publish one with `fewshot-node task publish`, or see `fewshot-node task list`"
    return "no task takes series: register one with `fewshot-node task add`"


def _live_rules(candidates: "Sequence[Candidate]", task: str) -> "tuple[AnyRule, ...]":
    own = [one for one in candidates if one.name == task and not one.is_shadow]
    if own and own[0].rules is None:
        raise TaskError(f"task {task}: the live revision's rules cannot be read ({own[0].trouble})")
    return (own[0].rules or ()) if own else ()


def _print_verdicts(console: Console, verdicts: "Sequence[RuleVerdict]", indent: str) -> None:
    for one in verdicts:
        seen = f"   seen: {one.seen}" if not one.parts else ""
        console.print(f"{indent}{'yes' if one.holds else 'no ':3}  {one.rule}{seen}")
        _print_verdicts(console, one.parts, indent + "     ")


def _word(taken: bool | None) -> str:
    return "no verdict" if taken is None else "taken" if taken else "not taken"


def _left_out(arrivals: "Arrivals") -> str:
    notes = [
        f"{count} {what}"
        for count, what in ((arrivals.removed, "no longer in the spool"), (arrivals.others, "without readable images"))
        if count
    ]
    return f" ({', '.join(notes)} left out)" if notes else ""
