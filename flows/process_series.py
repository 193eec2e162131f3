"""The flow of one series: the pipeline's stages as Prefect tasks, in a warm worker."""

from collections.abc import Callable
from typing import Any, TypeVar

from prefect import Task, flow, tags, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from fewshot_node.dicom.ledger.records import SeriesState
from fewshot_node.records import SeriesKey
from flows.context import this_node, worker_name

T = TypeVar("T")


def series_tag(series: str) -> str:
    """Tag that finds the runs of one series revision."""
    return f"series:{series}"


def prefect_step(name: str, stage: Callable[[], T]) -> T:
    """Run a stage as a Prefect task: named and timed.

    The stage is a closure without parameters, so no array and no identifier reaches Prefect. Nothing is
    retried here: what waits for a destination is the courier's, which goes on without Prefect.
    """
    runnable = Task(stage, name=name, cache_policy=NO_CACHE, persist_result=False)
    return runnable()


@flow(name="process-series", flow_run_name="{series} #{attempt}", persist_result=False)
def process_series(series: str, attempt: int) -> State[Any]:
    """Process one complete series; `series` is ``UID@REVISION`` and `attempt` the dispatcher's count.

    A series that fails makes a failed run: what the ledger calls failed must not look well here.
    """
    # Imported here: the dispatcher imports this module to submit the flow and must not load torch.
    from fewshot_node.work import work_on  # noqa: PLC0415
    from flows.worker import this_models  # noqa: PLC0415

    key, node = SeriesKey.parse(series), this_node()
    state = work_on(node, this_models(), key, attempt, worker_name(), prefect_step)
    if state is SeriesState.FAILED:
        entry = node.ledger.entry(key)
        return Failed(message=entry.reason if entry else "the ledger has lost the series")
    return Completed(message=state.value if state else "already taken")


@task(name="process-series", task_run_name="{series} #{attempt}", cache_policy=NO_CACHE, persist_result=False)
def process_series_warm(series: str, attempt: int) -> State[Any]:
    """Run the flow inside a task worker, where the models are already loaded."""
    with tags(series_tag(series)):
        return process_series(series, attempt, return_state=True)
