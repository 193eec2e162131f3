"""``task crossval`` and ``task report``: how good a task will be, before it goes live."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from fewshot_node.cli.arguments import TaskName
from fewshot_node.cli.printing import plain_console, print_table
from fewshot_node.cli.progress import feature_cache, watched
from fewshot_node.cli.state import cli_state

if TYPE_CHECKING:
    from fewshot_node.tasks.crossval import CrossvalReport
    from fewshot_node.tasks.crossval.tables import TextTable


def register(app: typer.Typer) -> None:
    """Add both commands."""
    app.command()(crossval)
    app.command()(report)


def crossval(
    context: typer.Context,
    name: TaskName,
    adapters: Annotated[
        str, typer.Option(help='To compare, by commas, or "all"; without it all but contrastive-concat.')
    ] = "",
    curve_draws: Annotated[int, typer.Option(min=0, help="Random choices of fewer templates; 0 for no curve.")] = 2,
    max_fits: Annotated[int, typer.Option(min=2, help="Of each adapter; more templates are left out in groups.")] = 10,
    apply: Annotated[
        bool, typer.Option("--apply", help="Switch the task to what is recommended; a result that still holds is used.")
    ] = False,
) -> None:
    """Leave out each template once, foretell it from the others, compare adapters and refinements."""
    from fewshot_node.models import load_models
    from fewshot_node.tasks.crossval import CrossvalSettings, Engines
    from fewshot_node.tasks.crossval.draft import apply_recommendation, crossvalidate_draft, current_report
    from fewshot_node.tasks.crossval.run import adapters_named
    from fewshot_node.tasks.registry import Registry

    settings = cli_state(context).settings
    registry = Registry(settings.tasks)
    wanted = CrossvalSettings(adapters_named(adapters), max_fits, curve_draws)
    found = current_report(registry, name, wanted.adapters) if apply else None
    if found is None:
        models = load_models(settings.worker)
        engines = Engines(models.encoder, models.sam, feature_cache(settings))
        with watched() as watch:
            found = crossvalidate_draft(registry, name, engines, wanted, watch)
    _print(name, found)
    if apply:
        chosen = apply_recommendation(registry, name)
        typer.echo(f"task {name} is now {chosen}; next: fewshot-node task fit {name}")


def report(
    context: typer.Context,
    name: TaskName,
    out: Annotated[Path, typer.Option(help="HTML file to write.")],
) -> None:
    """Write the crossvalidation as one page that opens offline: pictures, curve, tables, rules, provenance."""
    from fewshot_node.tasks.crossval.page import write_report
    from fewshot_node.tasks.registry import Registry

    write_report(Registry(cli_state(context).settings.tasks), name, out)
    typer.echo(f"wrote {out}")


def _print(name: str, found: "CrossvalReport") -> None:
    from fewshot_node.tasks.crossval.tables import candidate_table, curve_points, unit_table

    console = plain_console()
    what = "slices of the only series" if found.by_slice else "examples"
    console.print(f"task {name}: each of {len(found.units)} {what} left out once ({len(found.groups)} fits an adapter)")
    _print_table(candidate_table(found))
    _print_table(unit_table(found))
    for candidate, points in curve_points(found).items():
        told = ", ".join(f"{shots}: {one.mean:.3f}" for shots, one in sorted(points.items()))
        console.print(f"{found.metric} by number of templates, {candidate}: {told}")
    for doubt in found.doubts:
        console.print(f"warning: {doubt.message}")
    console.print(f"recommended: {found.recommendation.candidate}")
    for reason in found.recommendation.reasons:
        console.print(f"  {reason}")
    console.print(f"next: fewshot-node task report {name} --out {name}.html")


def _print_table(told: "TextTable") -> None:
    table = Table(*told.head)
    for row in told.rows:
        table.add_row(*row)
    print_table(table, otherwise="nothing was left out")
