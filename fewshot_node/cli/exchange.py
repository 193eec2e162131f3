"""``task export | import | adopt | keygen``: a published revision as one file, to and from other sites."""

from pathlib import Path
from typing import Annotated

import typer

from fewshot_node.cli.arguments import TaskName
from fewshot_node.cli.lifecycle import shadow_text
from fewshot_node.cli.state import cli_state


def register(app: typer.Typer) -> None:
    """Add the commands to those of tasks."""
    app.command(name="export")(export_revision)
    app.command(name="import")(import_file)
    app.command()(adopt)
    app.command()(keygen)


def export_revision(
    context: typer.Context,
    task: TaskName,
    out: Annotated[Path, typer.Option(help="File to write.")],
    revision: Annotated[int | None, typer.Option(help="Revision of the task; the live one if absent.")] = None,
    without_templates: Annotated[
        bool, typer.Option("--without-templates", help="Leave the annotated images out; the task runs without them.")
    ] = False,
    sign: Annotated[
        Path | None, typer.Option(metavar="KEY", help="Private Ed25519 key (PEM) to sign with.", show_default=False)
    ] = None,
) -> None:
    """Write a published revision into one file that another site can import."""
    from fewshot_node.tasks.exchange import export_task, read_signing_key
    from fewshot_node.tasks.registry import Registry

    key = None if sign is None else read_signing_key(sign)
    registry = Registry(cli_state(context).settings.tasks)
    written = export_task(registry, task, out, revision=revision, templates=not without_templates, key=key)
    typer.echo(f"task {task} revision {written.revision} is in {out}: {written.bytes} bytes, SHA-256 {written.sha256}")
    typer.echo("not signed" if written.signed_by is None else f"signed with key {written.signed_by}")
    if written.templates:
        typer.echo(
            f"it holds {written.templates} templates: slices of patients' images with their UIDs. Give it only to "
            "those who may have them; --without-templates leaves them out"
        )


def import_file(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File that `task export` wrote.")],
    name: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="Name of the task here.", show_default=False)
    ] = None,
) -> None:
    """Bring in a revision that another site exported; it takes no series until it is adopted."""
    from fewshot_node.tasks.exchange import import_task
    from fewshot_node.tasks.registry import Registry

    settings = cli_state(context).settings
    done = import_task(Registry(settings.tasks), file, settings.exchange, name)
    if done.was_here:
        typer.echo(f"task {done.task} revision {done.revision} is this one already: nothing was imported")
        return
    believed = "a trusted key" if done.trusted else f"key {done.signed_by}, which no setting names"
    typer.echo(
        f"task {done.task} revision {done.revision} is imported, digest {done.digest[:12]}; it takes no series yet"
    )
    typer.echo("it was not signed" if done.signed_by is None else f"it was signed with {believed}")
    if not done.templates:
        typer.echo("it came without templates: it runs as it is; to teach it further, add some (template add)")
    typer.echo(f"next: fewshot-node task adopt {done.task} {done.revision} (with --shadow it sends nothing at first)")


def adopt(
    context: typer.Context,
    task: TaskName,
    revision: Annotated[int, typer.Argument(metavar="REVISION", help="Number that the import gave it.")],
    in_shadow: Annotated[
        bool, typer.Option("--shadow", help="Let it run beside the live revision, be recorded, and send nothing.")
    ] = False,
) -> None:
    """Take an imported revision into service; matching series go to it from now on.

    A retired task adopts nothing until it is taken back (task retire --undo).
    """
    from fewshot_node.models import load_models
    from fewshot_node.tasks.exchange import adopt as adopt_revision
    from fewshot_node.tasks.exchange import load_waiting
    from fewshot_node.tasks.registry import Registry

    settings = cli_state(context).settings
    registry = Registry(settings.tasks)
    waiting = load_waiting(registry, task, revision)
    models = load_models(settings.worker)
    waiting.check_models(models.encoder.weights_digest, models.sam_digest)
    minimum = settings.publish.minimum_score
    number, digest = adopt_revision(registry, task, revision, shadow=in_shadow, minimum_score=minimum)
    how = shadow_text(registry.lifecycle(task), number) if in_shadow else "is live"
    typer.echo(f"task {task} revision {number} {how}, digest {digest[:12]}")
    if in_shadow:
        typer.echo(f"next: fewshot-node task go-live {task}")


def keygen(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Private key to write, for example site.pem.")],
) -> None:
    """Make a key to sign exports with; the public half, for those who import, lies beside it."""
    from fewshot_node.tasks.exchange import make_key
    from fewshot_node.tasks.exchange.signature import PASSWORD_VARIABLE

    public, fingerprint = make_key(file)
    typer.echo(f"private key {file}: keep it here. Public key {public}: for exchange.trusted_keys of other sites")
    typer.echo(f"fingerprint {fingerprint}: they compare it with you, on the telephone")
    typer.echo(f"the private key is encrypted where {PASSWORD_VARIABLE} is set when it is made")
