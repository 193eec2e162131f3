"""The warm worker: loads the models once, then takes series from Prefect's queue."""

import logging
import threading
from functools import cache

import torch
from prefect.task_worker import serve

from fewshot_node.models import Models, load_models
from flows.context import this_node, wait_for_server
from flows.process_series import process_series_warm

logger = logging.getLogger(__name__)


@cache
def this_models() -> Models:
    """Return the models of this process, loaded once."""
    return load_models(this_node().settings.worker)


def run_worker() -> None:
    """Serve the warm path until the process is told to stop."""
    settings = this_node().settings
    if settings.worker.threads:
        torch.set_num_threads(settings.worker.threads)
    this_models()
    wait_for_server(settings.prefect.api_url, threading.Event())
    logger.info("models loaded; taking series from %s", settings.prefect.api_url)
    serve(process_series_warm, limit=settings.worker.concurrency)
