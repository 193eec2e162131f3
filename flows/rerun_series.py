"""The deployment that an operator starts by hand: run one series again."""

import threading

from prefect import flow

from fewshot_node.errors import PermanentError
from flows.context import this_node, wait_for_server


@flow(name="rerun-series", persist_result=False)
def rerun_series(series_instance_uid: str) -> str:
    """Queue the newest revision of a series again; the warm worker runs it."""
    key = this_node().ledger.retry(series_instance_uid)
    if key is None:
        message = f"series {series_instance_uid} is unknown or not ended yet: see `fewshot-node series list`"
        raise PermanentError(message)
    return f"queued {key}"


def serve_deployments() -> None:
    """Serve the operators' deployments until the process is told to stop."""
    wait_for_server(this_node().settings.prefect.api_url, threading.Event())
    rerun_series.serve(
        name="rerun-series", description="Run one series again on the warm path.", print_starting_message=False
    )
