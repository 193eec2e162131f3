"""``task``: register, change, fit and publish tasks."""

from dataclasses import replace
from typing import Annotated

import typer
from rich.table import Table

from fewshot_node.cli import lifecycle
from fewshot_node.cli.arguments import TaskName
from fewshot_node.cli.labels import labels_from
from fewshot_node.cli.printing import counted, plain_console, print_table
from fewshot_node.cli.progress import feature_cache, watched
from fewshot_node.cli.state import cli_state
from fewshot_node.output import OUTPUT_CHOICES, OutputSettings
from fewshot_node.records import Label, TaskKind

app = typer.Typer(no_args_is_help=True)

_LABEL_HELP = (
    '"VALUE=NAME" or "VALUE=NAME:SCHEME:CODE:MEANING", behind "@" where a lesion lies ("3=Cyst@Left kidney"); '
    "repeat for each structure."
)
_RULE_HELP = 'Routing rule such as "Modality=CT"; repeat, all must hold. Without rules it takes no series by itself.'
_ADAPTER_HELP = (
    "Few-shot adapter: context (sees each place's surroundings), contrastive, contrastive-concat, classification, "
    "prototype, lda or basic (mean similarity, the paper's)."
)
_REFINE_HELP = "Mask refinement: none, walker (random walker), or sam, which needs worker.sam in the settings."
_OUTPUT_HELP = f"Which objects results become, KEY=VALUE; repeat. {OUTPUT_CHOICES}"


@app.command()
def add(
    context: typer.Context,
    name: TaskName,
    label: Annotated[list[str], typer.Option(help=_LABEL_HELP)],
    kind: Annotated[TaskKind, typer.Option(help="What the task gives back.")] = TaskKind.SEGMENTATION,
    rule: Annotated[list[str] | None, typer.Option(help=_RULE_HELP)] = None,
    adapter: Annotated[str, typer.Option(help=_ADAPTER_HELP)] = "context",
    refine: Annotated[str, typer.Option(help=_REFINE_HELP)] = "walker",
    output: Annotated[list[str] | None, typer.Option(help=_OUTPUT_HELP)] = None,
    description: Annotated[str, typer.Option(help="A sentence for people.")] = "",
) -> None:
    """Register a task; templates come next (``template add``)."""
    from fewshot_node.tasks.registry import Registry
    from fewshot_node.tasks.rule_text import parse_rule
    from fewshot_node.tasks.task import TaskDefinition, TaskSettings, usual_refinement
    from fewshot_node.vision.adapters import AdapterSettings

    definition = TaskDefinition(
        name=name,
        kind=kind,
        labels=labels_from(label, kind),
        rules=tuple(parse_rule(text) for text in rule or []),
        settings=TaskSettings(
            adapter=AdapterSettings(name=adapter),
            refine=usual_refinement(refine),
            output=OutputSettings().changed(output or []),
        ),
        description=description,
    )
    Registry(cli_state(context).settings.tasks).add(definition)
    typer.echo(f"task {name} is registered; next: fewshot-node template add {name} --series DIR --labels FILE")


@app.command()
def change(
    context: typer.Context,
    name: TaskName,
    label: Annotated[list[str] | None, typer.Option(help=f"Replaces all labels. {_LABEL_HELP}")] = None,
    rule: Annotated[list[str] | None, typer.Option(help=f'Replaces all rules; "" for none. {_RULE_HELP}')] = None,
    adapter: Annotated[str | None, typer.Option(help=_ADAPTER_HELP)] = None,
    refine: Annotated[str | None, typer.Option(help=_REFINE_HELP)] = None,
    output: Annotated[list[str] | None, typer.Option(help=_OUTPUT_HELP)] = None,
    description: Annotated[str | None, typer.Option(help="A sentence for people.")] = None,
) -> None:
    """Change what is given and keep the rest; published revisions stay as they are."""
    from fewshot_node.tasks.registry import Registry
    from fewshot_node.tasks.rule_text import parse_rule
    from fewshot_node.tasks.task import usual_refinement

    if not label and not rule and not output and adapter is None and refine is None and description is None:
        options = "--label, --rule, --adapter, --refine, --output or --description"
        raise typer.BadParameter(f"nothing to change: give {options}")
    registry = Registry(cli_state(context).settings.tasks)
    old = registry.definition(name)
    settings = old.settings
    changed = replace(
        old,
        labels=labels_from(label, old.kind) if label else old.labels,
        rules=tuple(parse_rule(text) for text in rule if text.strip()) if rule else old.rules,
        settings=replace(
            settings,
            adapter=replace(settings.adapter, name=adapter or settings.adapter.name),
            refine=usual_refinement(refine) if refine else settings.refine,
            output=settings.output.changed(output or []),
        ),
        description=old.description if description is None else description,
    )
    registry.update(changed, seen=old)
    remedy = "publish it again (task publish)"
    if not registry.is_fitted(name):
        remedy = "fit and publish it again (task fit, task publish)"
    typer.echo(f"task {name} is changed; {remedy}")


@app.command(name="list")
def list_tasks(context: typer.Context) -> None:
    """List the registered tasks."""
    from fewshot_node.tasks.registry import Registry

    registry = Registry(cli_state(context).settings.tasks)
    table = Table("task", "kind", "labels", "templates", "published")
    for name in registry.names():
        definition = registry.definition(name)
        labels = ", ".join(label.name for label in definition.labels)
        table.add_row(
            name,
            definition.kind.value,
            labels,
            str(len(registry.template_names(name))),
            lifecycle.standing_text(registry.lifecycle(name)),
        )
    print_table(table, otherwise="no tasks; register one with: fewshot-node task add")


@app.command()
def show(context: typer.Context, name: TaskName) -> None:
    """Show a task: the draft's labels with their codes, rules, settings and templates; revisions and their history."""
    from fewshot_node.tasks.exchange import waiting_revisions
    from fewshot_node.tasks.registry import Registry

    registry = Registry(cli_state(context).settings.tasks)
    definition = registry.definition(name)
    console = plain_console()
    console.print(f"{definition.name} ({definition.kind.value}) {definition.description}")
    for label in definition.labels:
        console.print(f"  label    {label.value} {label.name}: {_codes_of(label)}")
    for rule in definition.rules:
        console.print(f"  rule     {rule}")
    if not definition.rules:
        console.print("  rule     none: the task takes no series by itself")
    console.print(f"  adapter  {definition.settings.adapter.name}")
    console.print(f"  refine   {definition.settings.refine.engine}")
    console.print(f"  output   {definition.settings.output}")
    for template in registry.template_names(name):
        console.print(f"  template {template}")
    for line in lifecycle.revision_lines(registry.lifecycle(name), name):
        console.print(f"  {line}")
    for revision in waiting_revisions(registry, name):
        console.print(f"  imported revision {revision} takes no series: task adopt {name} {revision}")


def _codes_of(label: Label) -> str:
    """Give what the result objects say of a label: its type, where it lies, its side."""
    shown = [label.type] if label.anatomic_region is None else [label.type, label.anatomic_region]
    text = " in ".join(f"{code.scheme} {code.value} {code.meaning}" for code in shown)
    return text if label.laterality is None else f"{text}, {label.laterality.meaning.lower()}"


@app.command()
def fit(context: typer.Context, name: TaskName) -> None:
    """Learn the task from its templates."""
    from fewshot_node.models import load_models
    from fewshot_node.tasks.registry import Registry

    settings = cli_state(context).settings
    encoder = load_models(settings.worker).encoder
    with watched() as watch:
        report = Registry(settings.tasks).fit(name, encoder, feature_cache(settings), watch)
    typer.echo(
        f"task {name}: learnt {counted(report.labels, 'label')} from {counted(report.slices, 'slice')} "
        f"in {report.seconds:.1f} s; "
        f"next: fewshot-node task publish {name}"
    )


lifecycle.register(app)
