"""One unit of a worker's work: claim a series, run the pipeline, record how it ended.

The claim is a lease that is renewed while the work goes on. A worker that dies stops renewing, the
dispatcher gives the series to another one, and because results are deterministic the second run
makes the same objects: the PACS holds each once.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from fewshot_node.dicom.ledger import SeriesState, TaskOutcome
from fewshot_node.errors import FewshotNodeError
from fewshot_node.models import Models
from fewshot_node.node import Node
from fewshot_node.pipeline import process_series
from fewshot_node.records import SeriesKey
from fewshot_node.steps import StepRunner, run_directly
from fewshot_node.tasks.registry import Registry

logger = logging.getLogger(__name__)


def work_on(
    node: Node, models: Models, key: SeriesKey, attempt: int, worker: str, step: StepRunner = run_directly
) -> SeriesState | None:
    """Process one dispatched series; None when another worker has it or it is already done.

    Raises
    ------
    FewshotNodeError
        The series failed; the ledger already says so, with the reason.
    """
    lease_s = node.settings.worker.lease_s
    if not node.ledger.claim(key, attempt, worker, lease_s):
        logger.info("series %s attempt %d is not open to this worker: nothing to do", key, attempt)
        return None
    with _renewing(node, key, worker, lease_s):
        try:
            received = node.ledger.received(key, node.spool)
            tasks = Registry(node.settings.tasks).all_published()
            outcomes = process_series(received, tasks, models, node.destination, step)
        except FewshotNodeError as error:
            node.ledger.finish(key, worker, SeriesState.FAILED, str(error), ())
            raise
        except Exception as error:  # a fault of ours must not leave a series without an end
            reason = f"internal error ({type(error).__name__}); the worker's log has the traceback"
            node.ledger.finish(key, worker, SeriesState.FAILED, reason, ())
            raise
    return _finish(node, key, worker, outcomes)


def _finish(node: Node, key: SeriesKey, worker: str, outcomes: tuple[TaskOutcome, ...]) -> SeriesState:
    failures = [f"{outcome.task_name}: {outcome.reason}" for outcome in outcomes if outcome.reason]
    state = SeriesState.DELIVERED if outcomes else SeriesState.NO_TASK
    if failures:
        state = SeriesState.FAILED
    node.ledger.finish(key, worker, state, "; ".join(failures), outcomes)
    seconds = sum(sum(outcome.seconds.values()) for outcome in outcomes)
    logger.info("series %s: %s, %d tasks, %.1f s", key, state, len(outcomes), seconds)
    return state


@contextmanager
def _renewing(node: Node, key: SeriesKey, worker: str, lease_s: float) -> Iterator[None]:
    stop = threading.Event()

    def renew() -> None:
        while not stop.wait(lease_s / 3):
            node.ledger.renew(key, worker, lease_s)

    thread = threading.Thread(target=renew, name=f"lease-{key.revision}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
