"""The one module that submits to Prefect: every complete series, once, whatever goes down meanwhile.

Prefect keeps its queue of background runs in the server's memory: a restarted server has forgotten it.
So the ledger decides. A submission's run id is derived from the series revision and the attempt, which
makes submitting it twice harmless; a run that nobody claims, or whose worker died, is abandoned and the
series submitted again under the next attempt.
"""

import asyncio
import logging
import threading
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime

import httpx
from prefect import tags
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterTags,
    TaskRunFilter,
    TaskRunFilterTags,
)
from prefect.client.schemas.objects import State
from prefect.exceptions import PrefectHTTPStatusError
from prefect.states import Crashed

from fewshot_node.config import NodeSettings
from fewshot_node.dicom.ledger import Ledger
from fewshot_node.dicom.ledger.records import SeriesEntry
from fewshot_node.errors import OrchestratorError, RetryableError
from fewshot_node.records import SeriesKey
from flows.process_series import process_series_warm, series_tag

logger = logging.getLogger(__name__)

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://fewshot-node.invalid/submissions/1")
_CONFLICT = 409
_BATCH = 50


def submission_id(key: SeriesKey, attempt: int) -> uuid.UUID:
    """Id of the Prefect run for one attempt at one series revision."""
    return uuid.uuid5(_NAMESPACE, f"{key}#{attempt}")


class Dispatcher:
    """Moves series from *complete* to *dispatched*, and back when their run is lost."""

    def __init__(self, ledger: Ledger, settings: NodeSettings) -> None:
        self._ledger = ledger
        self._prefect = settings.prefect
        self._worker = settings.worker
        self._abandoned: set[SeriesKey] = set()

    def run(self, stop: threading.Event) -> None:
        """Dispatch until `stop` is set; a silent Prefect server is waited for, not given up on."""
        silent = False
        while not stop.wait(self._prefect.poll_s):
            try:
                self.dispatch_once(datetime.now(UTC))
            except RetryableError as error:
                if not silent:
                    logger.warning("%s; complete series wait in the ledger", error)
                silent = True
            else:
                if silent:
                    logger.info("submitting to Prefect at %s again", self._prefect.api_url)
                silent = False

    def dispatch_once(self, now: datetime) -> int:
        """Release what dead workers held, then submit what waits; return how many were submitted.

        Raises
        ------
        OrchestratorError
            The Prefect server does not answer; nothing is lost, call again later.
        RetryableError
            The ledger is busy; likewise.
        """
        for claim in self._ledger.release_expired(now, self._worker.max_attempts):
            logger.warning("series %s: worker %s died", claim.key, claim.worker)
            self._abandoned.add(claim.key)
        for lost in self._ledger.fail_lost_shadows(now):
            logger.warning("series %s: worker %s died in the shadow of %s", lost.key, lost.worker, lost.task_name)
        try:
            return asyncio.run(self._exchange(now))
        except (httpx.HTTPError, PrefectHTTPStatusError, OSError) as error:
            reason = type(error).__name__
            message = (
                f"Prefect at {self._prefect.api_url} does not answer ({reason}): start it or check prefect.api_url"
            )
            raise OrchestratorError(message) from error

    async def _exchange(self, now: datetime) -> int:
        stalled = self._ledger.stalled(now, self._prefect.stalled_after_s)
        if not (stalled or self._abandoned or self._ledger.waiting(1)):
            return 0
        async with get_client() as client:
            if stalled and await _has_workers(client):
                self._take_back(stalled)
            for key in tuple(self._abandoned):
                await _close_abandoned(client, key)
                self._abandoned.discard(key)
            waiting = self._ledger.waiting(_BATCH)
            for entry in waiting:
                await _submit(client, entry.key, entry.attempt)
                run = str(submission_id(entry.key, entry.attempt))
                self._ledger.mark_dispatched(entry.key, entry.attempt, run)
        return len(waiting)

    def _take_back(self, stalled: Iterable[SeriesEntry]) -> None:
        """Take back submissions that the server forgot, or that a killed worker had fetched."""
        for entry in stalled:
            if self._ledger.requeue(entry.key, entry.attempt):
                logger.warning("series %s: its submission was lost", entry.key)
                self._abandoned.add(entry.key)


async def _has_workers(client: PrefectClient) -> bool:
    """Tell whether a worker listens; without one, a submission that waits is not lost."""
    answer = await client.request("POST", "/task_workers/filter", json={})
    answer.raise_for_status()
    return bool(answer.json())


async def _submit(client: PrefectClient, key: SeriesKey, attempt: int) -> None:
    """Create the background run; one that exists already is the same submission."""
    parameters = {"series": str(key), "attempt": attempt}
    try:
        with tags(series_tag(str(key))):
            await process_series_warm.create_run(
                client=client, id=submission_id(key, attempt), parameters=parameters, deferred=True
            )
    except PrefectHTTPStatusError as error:
        if error.response.status_code != _CONFLICT:
            raise


async def _close_abandoned(client: PrefectClient, key: SeriesKey) -> None:
    """Mark the runs of a dead worker as crashed: Prefect would show them running for ever."""
    tag = [series_tag(str(key))]
    state: State[None] = Crashed(message="The worker died or the server forgot the run; the ledger submits it again.")
    task_runs = await client.read_task_runs(task_run_filter=TaskRunFilter(tags=TaskRunFilterTags(all_=tag)))
    for task_run in task_runs:
        if task_run.state is None or not task_run.state.is_final():
            await client.set_task_run_state(task_run.id, state, force=True)
    flow_runs = await client.read_flow_runs(flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=tag)))
    for flow_run in flow_runs:
        if flow_run.state is None or not flow_run.state.is_final():
            await client.set_flow_run_state(flow_run.id, state, force=True)
