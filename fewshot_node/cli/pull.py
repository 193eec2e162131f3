"""``pull``: fetch series from the PACS into this node, for back-processing an archive."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from fewshot_node.cli.printing import plain_console, print_table
from fewshot_node.cli.pull_view import pull_view
from fewshot_node.cli.state import cli_state
from fewshot_node.dicom.identity import is_uid
from fewshot_node.dicom.pull.plan import PlannedSeries, Wanted, plan_pull
from fewshot_node.dicom.pull.progress import Tally
from fewshot_node.dicom.pull.pull import Pull, held_instances, require_receiver
from fewshot_node.dicom.pull.query_keys import parse_keys
from fewshot_node.errors import ConfigurationError, FewshotNodeError
from fewshot_node.node import Node, open_node

_INTERRUPTED = 130


class _By(StrEnum):
    """How series are retrieved."""

    MOVE = "move"
    GET = "get"


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(pull)


def pull(
    context: typer.Context,
    study: Annotated[list[str] | None, typer.Option(metavar="UID", help="Study Instance UID; may be repeated.")] = None,
    series: Annotated[
        list[str] | None, typer.Option(metavar="UID", help="Only this series of the studies; may be repeated.")
    ] = None,
    query: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="Studies and series that match, for example StudyDate=20260101-20260131 "
            "or StudyDescription=*abdomen*; may be repeated.",
        ),
    ] = None,
    from_file: Annotated[
        Path | None, typer.Option(metavar="LIST", help="File with a Study Instance UID a line.", show_default=False)
    ] = None,
    modality: Annotated[list[str] | None, typer.Option(help="Only series of this modality; may be repeated.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Take all that the PACS lists, the whole archive if need be.")
    ] = False,
    by: Annotated[
        _By | None, typer.Option(help="C-MOVE or C-GET, instead of what the settings say.", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be fetched.")] = False,
) -> None:
    """Fetch series from the PACS into this node; the same command again goes on where it was broken off."""
    state = cli_state(context)
    wanted = Wanted(
        study_instance_uids=(*_uids(study, "--study"), *_uids_of(from_file)),
        series_instance_uids=_uids(series, "--series"),
        keys=parse_keys(query or ()),
        modalities=tuple(name.strip().upper() for name in modality or ()),
        ignored_keys=everything,
    )
    _require_bounds(wanted, everything)
    changes = {} if by is None else {"pull": state.settings.pull.model_copy(update={"by": by.value})}
    node = open_node(state.settings.model_copy(update=changes))
    if dry_run:
        _print_plan(plan_pull(wanted, node.settings.pacs), node)
    else:
        require_receiver(node.settings)
        _fetch(wanted, node)


def _fetch(wanted: Wanted, node: Node) -> None:
    """Plan and fetch, and say what has come of it also when it is broken off."""
    view = pull_view()
    fetching = Pull(node.settings, node.ledger, node.spool, view)
    try:
        with view:
            fetching.run(plan_pull(wanted, node.settings.pacs, view.planned))
    except KeyboardInterrupt:
        _sum_up(fetching.tally)
        typer.echo("interrupted: the same command goes on from here")
        raise typer.Exit(_INTERRUPTED) from None
    except FewshotNodeError:
        if fetching.tally.planned:
            _sum_up(fetching.tally)
        raise
    _sum_up(fetching.tally)
    if fetching.tally.failures:
        raise typer.Exit(1)


def _sum_up(tally: Tally) -> None:
    for series_instance_uid, reason in tally.failures.items():
        plain_console().print(f"{series_instance_uid} failed: {reason}")
    left = f", {tally.left} left" if tally.left else ""
    ended = f"{tally.retrieved} series retrieved, {tally.skipped} skipped, {len(tally.failures)} failed{left}"
    typer.echo(f"{ended}; see `fewshot-node series list`")


def _print_plan(plan: Sequence[PlannedSeries], node: Node) -> None:
    table = Table(
        Column("study", overflow="fold"), Column("series", overflow="fold"), "modality", "instances", "already here"
    )
    for series in plan:
        listed = "?" if series.instances is None else str(series.instances)
        here = str(held_instances(node.ledger, series.series_instance_uid) or "")
        table.add_row(series.study_instance_uid, series.series_instance_uid, series.modality, listed, here)
    print_table(table, otherwise="the PACS lists no such series")
    if plan:
        studies = len({series.study_instance_uid for series in plan})
        instances = sum(series.instances or 0 for series in plan)
        at_least = "at least " if any(series.instances is None for series in plan) else ""
        typer.echo(f"{len(plan)} series of {studies} studies, {at_least}{instances} instances; nothing was fetched")


def _require_bounds(wanted: Wanted, everything: bool) -> None:
    """Refuse what is contradictory, and what would take a whole archive."""
    named = bool(wanted.study_instance_uids or wanted.series_instance_uids)
    if named and wanted.keys.study:
        raise ConfigurationError("studies are named and asked for by --query at once: do one after the other")
    if not named and not wanted.keys.narrows_studies and not everything:
        raise ConfigurationError(
            "this would take the whole archive: name studies by --study or --from-file, "
            "narrow them by a key such as --query StudyDate=20260101-20260131, or say --all"
        )


def _uids(texts: Sequence[str] | None, option: str) -> tuple[str, ...]:
    for text in texts or ():
        if not is_uid(text):
            raise ConfigurationError(f"a value of {option} is no UID: digits and dots, 64 characters at most")
    return tuple(dict.fromkeys(texts or ()))


def _uids_of(path: Path | None) -> tuple[str, ...]:
    """Read a UID a line; empty lines and those that begin with # are passed over."""
    if path is None:
        return ()
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is no text in UTF-8: write a Study Instance UID a line") from error
    uids = {number: line.strip() for number, line in enumerate(lines, 1) if line.strip() and line.lstrip()[0] != "#"}
    wrong = [number for number, uid in uids.items() if not is_uid(uid)]
    if wrong:  # what stands there is not quoted: it may be a patient's identifier
        raise ConfigurationError(f"{path} line {wrong[0]} is no UID ({len(wrong)} such lines): write one UID a line")
    if not uids:
        raise ConfigurationError(f"{path} names no study: write a Study Instance UID a line")
    return tuple(dict.fromkeys(uids.values()))
