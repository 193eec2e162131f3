"""One unit of a worker's work: claim a series, run the pipeline, record how it ended, try to deliver.

The claim is a lease that is renewed while the work goes on. A worker that dies stops renewing, the
dispatcher gives the series to another one, and because results are deterministic the second run
makes the same objects: the PACS holds each once.
"""

import logging
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from fewshot_node.dicom.deliver.address import destinations_of
from fewshot_node.dicom.deliver.attempts import Attempts
from fewshot_node.dicom.deliver.parcels import pack
from fewshot_node.dicom.ledger import Ledger, Parcel, SeriesState, ShadowOutcome, TaskOutcome, utc_now
from fewshot_node.dicom.periodic import Periodic
from fewshot_node.errors import FewshotNodeError, LostClaimError, RetryableError
from fewshot_node.models import Models
from fewshot_node.node import Node
from fewshot_node.pipeline import process_series
from fewshot_node.records import ReceivedSeries, SeriesKey
from fewshot_node.shadow import begun, run_shadows
from fewshot_node.steps import StepRunner, run_directly, shielded
from fewshot_node.tasks.candidates import LiveTask
from fewshot_node.tasks.corrections.intake import take_corrections
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
        *delivered*, *no task* or *failed*; *delivering* when a destination has not confirmed the results yet:
        the courier goes on; *complete* when it was given back to be tried again; None when another worker
        has it or it has ended already.
    """
    claimant = f"{worker}:{uuid.uuid4().hex[:8]}"
    lease = _Lease(key, partial(node.ledger.renew, key, claimant), node.settings.worker.lease_s)
    if not node.ledger.claim(key, attempt, claimant, lease.seconds):
        logger.info("series %s attempt %d is not open to this worker: nothing to do", key, attempt)
        return None
    with lease:
        try:
            ending = shielded(partial(_process, node, models, key, lease.guard(step)))
        except (LostClaimError, RetryableError) as error:
            logger.warning("series %s attempt %d is given back: %s", key, attempt, error)
            return SeriesState.COMPLETE if node.ledger.give_back(key, claimant) else None
        except FewshotNodeError as error:
            ending = _Ending(SeriesState.FAILED, str(error))
        ended = _finish(node.ledger, key, claimant, ending)
    if ended is None or ending.received is None or not ending.shadows:
        return _deliver(node, key, step) if ended is SeriesState.DELIVERING else ended
    with _Lease(key, partial(node.ledger.renew_shadows, key, claimant), lease.seconds) as shadow_lease:
        if ended is SeriesState.DELIVERING:
            ended = _deliver(node, key, step)
        run_shadows(node, models, ending.received, ending.shadows, claimant, shadow_lease.guard(_in_shadow(step)))
    return ended


@dataclass(frozen=True, slots=True)
class _Ending:
    """What the work on a series came to."""

    state: SeriesState
    reason: str = ""
    outcomes: tuple[TaskOutcome, ...] = ()
    parcels: tuple[Parcel, ...] = ()
    received: ReceivedSeries | None = None
    shadows: tuple[LiveTask, ...] = ()


def _process(node: Node, models: Models, key: SeriesKey, step: StepRunner) -> _Ending:
    received = node.ledger.received(key, node.spool)
    correction = step("corrections", partial(take_corrections, received, node))
    if correction is not None:
        return _Ending(SeriesState.NO_TASK, correction)
    settings = node.settings
    among = step("tasks", Registry(settings.tasks).candidates)
    processed = process_series(received, among, models, settings.outbox, step)
    parcels = [
        parcel
        for name in (one.task_name for one in processed.outcomes if one.state is SeriesState.DELIVERING)
        for parcel in pack(settings.outbox, key, name, destinations_of(name, received.calling_ae_title, settings))
    ]
    ending = _judge(processed.outcomes, tuple(parcels))
    return replace(ending, received=received, shadows=processed.shadows)


def _in_shadow(step: StepRunner) -> StepRunner:
    """Return a runner whose stages are told apart from those of the live tasks."""

    def run(name: str, stage: Callable[[], T]) -> T:
        return step(f"shadow {name}", stage)

    return run


def _deliver(node: Node, key: SeriesKey, step: StepRunner) -> SeriesState:
    """Try each delivery of a series once, where nothing says that it would be in vain; the courier does the rest."""
    attempts = Attempts(node.ledger, node.settings)

    def deliver() -> SeriesState:
        for delivery in node.ledger.due_deliveries(utc_now(), key):
            if not node.ledger.has_trouble(delivery.destination):
                attempts.make(delivery)
        entry = node.ledger.entry(key)
        return SeriesState.DELIVERING if entry is None else entry.state

    try:
        return step("deliver", partial(shielded, deliver))
    except FewshotNodeError as error:
        logger.warning("series %s is left to the courier: %s", key, error)
        return SeriesState.DELIVERING


def _judge(outcomes: tuple[TaskOutcome, ...], parcels: tuple[Parcel, ...]) -> _Ending:
    failures = "; ".join(f"{outcome.task_name}: {outcome.reason}" for outcome in outcomes if outcome.reason)
    if parcels:  # the deliveries' ends decide, then with the failures
        return _Ending(SeriesState.DELIVERING, "", outcomes, parcels)
    return _Ending(SeriesState.FAILED if failures else SeriesState.NO_TASK, failures, outcomes)


def _finish(ledger: Ledger, key: SeriesKey, claimant: str, ending: _Ending) -> SeriesState | None:
    outcomes: tuple[TaskOutcome | ShadowOutcome, ...] = (*ending.outcomes, *begun(ending.shadows))
    if not ledger.finish(key, claimant, ending.state, ending.reason, outcomes, ending.parcels):
        logger.warning("series %s passed to another worker before this one ended: nothing is recorded here", key)
        return None
    logger.info("series %s: %s, %d tasks %s", key, ending.state, len(ending.outcomes), ending.reason)
    return ending.state


class _Lease(Periodic):
    """Keeps a claim alive in a thread, and stops the work when it is lost.

    Parameters
    ----------
    prolong
        Prolongs the claim by so many seconds; False when it is lost.
    """

    def __init__(self, key: SeriesKey, prolong: Callable[[float], bool], seconds: float) -> None:
        failing = f"series {key}: the claim could not be renewed"
        super().__init__("lease", self._renew, seconds / 3, failing, at_once=False)
        self.seconds = seconds
        self._key, self._prolong = key, prolong
        self._lost = threading.Event()

    def guard(self, step: StepRunner) -> StepRunner:
        """Return a runner that begins no stage once the claim is lost, and lets no foreign error out."""

        def run(name: str, stage: Callable[[], T]) -> T:
            if self._lost.is_set():
                raise LostClaimError(f"series {self._key} was given to another worker before stage {name}")
            return step(name, partial(shielded, stage))

        return run

    def _renew(self) -> None:
        if not self._lost.is_set() and not self._prolong(self.seconds):
            self._lost.set()
