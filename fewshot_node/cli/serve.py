"""``serve``, and the processes that it keeps: ``receive deliver dispatch worker operate``."""

import logging
import signal
import sys
import threading

import typer

from fewshot_node.cli.state import CliState, cli_state
from fewshot_node.dicom.deliver.courier import Courier
from fewshot_node.intake import running_intake
from fewshot_node.node import open_node
from fewshot_node.supervise import ProcessSpec, Supervisor, require_free_port
from flows.environment import prefect_environment, server_address, use_prefect

logger = logging.getLogger(__name__)


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command()(serve)
    app.command()(receive)
    app.command()(deliver)
    app.command()(dispatch)
    app.command()(worker)
    app.command()(operate)


def serve(context: typer.Context) -> None:
    """Run the whole node on this machine, until Ctrl-C."""
    state = cli_state(context)
    settings = state.settings
    require_free_port(settings.receive.host, settings.receive.port, "receive.port")
    if settings.monitor.port is not None:
        require_free_port(settings.monitor.host, settings.monitor.port, "monitor.port")
    if settings.prefect.start_server:
        require_free_port(*server_address(settings), "prefect.api_url")
    open_node(settings)
    with Supervisor(_processes(state)) as supervisor:
        logger.info(
            "listening as %s on port %d; Prefect at %s",
            settings.receive.ae_title,
            settings.receive.port,
            settings.prefect.api_url.removesuffix("/api"),
        )
        supervisor.run(_stop_on_signals())


def receive(context: typer.Context) -> None:
    """Take images in: C-STORE to spool and ledger, and close series that have gone quiet."""
    node = open_node(cli_state(context).settings)
    stop = _stop_on_signals()
    with running_intake(node):
        stop.wait()


def deliver(context: typer.Context) -> None:
    """Bring results to their destinations, and try again what waits."""
    node = open_node(cli_state(context).settings)
    stop = _stop_on_signals()
    with Courier(node.ledger, node.settings):
        stop.wait()


def dispatch(context: typer.Context) -> None:
    """Submit complete series to Prefect, once each, and again when a run is lost."""
    state = cli_state(context)
    use_prefect(state.settings, state.config)
    from flows.submit import Dispatcher

    Dispatcher(open_node(state.settings).ledger, state.settings).run(_stop_on_signals())


def worker(context: typer.Context) -> None:
    """Process series from Prefect's queue with models that are loaded once."""
    state = cli_state(context)
    use_prefect(state.settings, state.config)
    from flows.worker import run_worker

    run_worker()


def operate(context: typer.Context) -> None:
    """Serve what an operator starts by hand in the Prefect UI (``rerun-series``)."""
    state = cli_state(context)
    use_prefect(state.settings, state.config)
    from flows.rerun_series import serve_deployments

    serve_deployments()


def _stop_on_signals() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop


def _processes(state: CliState) -> list[ProcessSpec]:
    settings = state.settings
    environment = prefect_environment(settings)
    ours = [sys.executable, "-m", "fewshot_node"]
    if state.config is not None:
        ours += ["--config", str(state.config.resolve())]
    specs = [ProcessSpec(name, [*ours, name]) for name in ("receive", "deliver")]
    if settings.prefect.start_server:
        host, port = server_address(settings)
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", host, "--port", str(port)]
        specs.append(ProcessSpec("prefect", command, environment, settings.home / "prefect-server.log"))
    specs += [ProcessSpec(name, [*ours, name], environment) for name in ("dispatch", "worker", "operate")]
    return specs
