"""The warm worker: loads the models once, then takes series from Prefect's queue."""

import logging
import shutil
import threading
import time
from functools import cache
from pathlib import Path

import torch
from prefect.task_worker import serve

from fewshot_node.disk import TEMPORARY_PREFIX
from fewshot_node.models import Models, load_models
from fewshot_node.pipeline import SCRATCH_PREFIX
from flows.context import this_node, wait_for_server
from flows.process_series import process_series_warm

logger = logging.getLogger(__name__)

_LEFT_BEHIND_S = 6 * 3600.0


@cache
def this_models() -> Models:
    """Return the models of this process, loaded once."""
    return load_models(this_node().settings.worker)


def _sweep(outbox: Path) -> None:
    """Remove what killed workers left: features and half-written results; no series takes six hours."""
    for pattern in (f"{SCRATCH_PREFIX}*", f"{TEMPORARY_PREFIX}*"):
        for folder in outbox.rglob(pattern):
            if folder.is_dir() and time.time() - folder.stat().st_mtime > _LEFT_BEHIND_S:
                shutil.rmtree(folder, ignore_errors=True)


def run_worker() -> None:
    """Serve the warm path until the process is told to stop."""
    settings = this_node().settings
    if settings.worker.threads:
        torch.set_num_threads(settings.worker.threads)
    _sweep(settings.outbox)
    this_models()
    wait_for_server(settings.prefect.api_url, threading.Event())
    logger.info("models loaded; taking series from %s", settings.prefect.api_url)
    serve(process_series_warm, limit=settings.worker.concurrency)
