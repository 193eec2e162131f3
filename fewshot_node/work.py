"""One unit of a worker's work: claim a series, run the pipeline, record how it ended.

The claim is a lease that is renewed while the work goes on. A worker that dies stops renewing, the
dispatcher gives the series to another one, and because results are deterministic the second run
makes the same objects: the PACS holds each once.
"""

import logging
import threading
import uuid
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import TypeVar

from fewshot_node.dicom.ledger import Ledger, SeriesState, TaskOutcome
from fewshot_node.errors import FewshotNodeError, LostClaimError, RetryableError
from fewshot_node.models import Models
from fewshot_node.node import Node
from fewshot_node.pipeline import process_series
from fewshot_node.records import SeriesKey
from fewshot_node.steps import StepRunner, run_directly, shielded
from fewshot_node.tasks.registry import Registry

logger = logging.getLogger(__name__)

T = TypeVar("T")


def work_on(
    node: Node, models: Models, key: SeriesKey, attempt: int, worker: str, step: StepRunner = run_directly
) -> SeriesState | None:
    """Process one submitted attempt at a series and record how it ended.

    Returns
    -------
    SeriesState or None
        *delivered*, *no task* or *failed*; *complete* when it was given back to be tried again; None when
        another worker has it or it has ended already.
    """
    claimant = f"{worker}:{uuid.uuid4().hex[:8]}"
    lease = _Lease(node.ledger, key, claimant, node.settings.worker.lease_s)
    if not node.ledger.claim(key, attempt, claimant, lease.seconds):
        logger.info("series %s attempt %d is not open to this worker: nothing to do", key, attempt)
        return None
    with lease:
        try:
            outcomes = shielded(partial(_process, node, models, key, lease.guard(step)))
        except (LostClaimError, RetryableError) as error:
            logger.warning("series %s attempt %d is given back: %s", key, attempt, error)
            return SeriesState.COMPLETE if node.ledger.give_back(key, claimant) else None
        except FewshotNodeError as error:
            return _finish(node.ledger, key, claimant, SeriesState.FAILED, str(error), ())
        return _finish(node.ledger, key, claimant, *_judge(outcomes), outcomes)


def _process(node: Node, models: Models, key: SeriesKey, step: StepRunner) -> tuple[TaskOutcome, ...]:
    received = node.ledger.received(key, node.spool)
    live = step("tasks", Registry(node.settings.tasks).live)
    return process_series(received, live, models, node.destination, step)


def _judge(outcomes: tuple[TaskOutcome, ...]) -> tuple[SeriesState, str]:
    failures = [f"{outcome.task_name}: {outcome.reason}" for outcome in outcomes if outcome.reason]
    if failures:
        return SeriesState.FAILED, "; ".join(failures)
    return SeriesState.DELIVERED if outcomes else SeriesState.NO_TASK, ""


def _finish(
    ledger: Ledger,
    key: SeriesKey,
    claimant: str,
    state: SeriesState,
    reason: str,
    outcomes: tuple[TaskOutcome, ...],
) -> SeriesState | None:
    if not ledger.finish(key, claimant, state, reason, outcomes):
        logger.warning("series %s passed to another worker before this one ended: nothing is recorded here", key)
        return None
    logger.info("series %s: %s, %d tasks %s", key, state, len(outcomes), reason)
    return state


class _Lease:
    """Keeps a claim alive in a thread, and stops the work when it is lost."""

    def __init__(self, ledger: Ledger, key: SeriesKey, claimant: str, seconds: float) -> None:
        self.seconds = seconds
        self._ledger, self._key, self._claimant = ledger, key, claimant
        self._ended, self._lost = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def __enter__(self) -> "_Lease":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def guard(self, step: StepRunner) -> StepRunner:
        """Return a runner that begins no stage once the claim is lost, and lets no foreign error out."""

        def run(name: str, stage: Callable[[], T], *, retryable: bool = False) -> T:
            if self._lost.is_set():
                raise LostClaimError(f"series {self._key} was given to another worker before stage {name}")
            return step(name, partial(shielded, stage), retryable=retryable)

        return run

    def _renew(self) -> None:
        while not self._ended.wait(self.seconds / 3):
            try:
                if not self._ledger.renew(self._key, self._claimant, self.seconds):
                    self._lost.set()
                    return
            except RetryableError as error:
                logger.warning("series %s: the claim could not be renewed: %s", self._key, error)
