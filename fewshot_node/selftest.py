"""The node's self test: each part by itself, then phantoms through the chain and the PACS and back.

The full loop teaches, computes, delivers and fetches in this process, beside the node: no phantom goes
through the receiver, the ledger or Prefect, where it would stand among the patients. Of those, the checks
before the loop tell that they answer.
"""

import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx

from fewshot_node.config import NodeSettings, PacsSettings
from fewshot_node.demo.cases import Lesson, phantom_lessons
from fewshot_node.demo.teach import teach
from fewshot_node.dicom.deliver.dicom import DicomCarrier
from fewshot_node.dicom.objects.volume import read_volume
from fewshot_node.dicom.query import fetch_series, list_series
from fewshot_node.dicom.send import echo, store
from fewshot_node.errors import (
    DeliveryError,
    FewshotNodeError,
    OrchestratorError,
    PeerUnavailableError,
    RefusedError,
    TaskError,
)
from fewshot_node.models import Models, load_models
from fewshot_node.node import open_node
from fewshot_node.pipeline import produce
from fewshot_node.records import ReceivedSeries, SeriesKey
from fewshot_node.steps import run_directly
from fewshot_node.supervise import answers
from fewshot_node.tasks.registry import Registry
from fewshot_node.tasks.task import BrokenTask

_ANSWER_S = 5.0
_CALLER = "DOCTOR"
# A receiver that listens everywhere is asked on this machine.
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  compared with, not listened on


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what it saw, or the problem with its remedy."""

    name: str
    detail: str = ""
    problem: str | None = None


def checks(settings: NodeSettings, *, loop: bool) -> Iterator[Finding]:
    """Run the checks one after the other; a failing one does not stop those that do not need it."""
    yield _check("home", partial(_home, settings))
    yield _check("tasks", partial(_tasks, settings))
    yield _check("models", partial(_models, settings))
    yield _check("receiver", partial(_receiver, settings))
    prefect = _check("Prefect", partial(_prefect, settings))
    yield prefect
    if prefect.problem is None:
        yield _check("worker", partial(_worker, settings))
    pacs = _check("PACS", partial(_pacs, settings.pacs))
    yield pacs
    if loop and pacs.problem is None:
        yield _check("full loop", partial(_full_loop, settings))


def _check(name: str, probe: Callable[[], str]) -> Finding:
    try:
        return Finding(name, detail=probe())
    except (FewshotNodeError, OSError) as error:
        return Finding(name, problem=str(error))


def _home(settings: NodeSettings) -> str:
    node = open_node(settings)
    free_mb = node.spool.free_bytes() // 2**20
    if free_mb < settings.receive.min_free_mb:
        message = f"only {free_mb} MB free at {settings.home}: free space, or lower receive.min_free_mb"
        raise RefusedError(message)
    return f"{settings.home}, {free_mb} MB free"


def _tasks(settings: NodeSettings) -> str:
    names = []
    for candidate in Registry(settings.tasks).candidates():
        task = candidate.load()
        if isinstance(task, BrokenTask):
            raise TaskError(f"task {task.name} revision {task.revision}: {task.reason}")
        names.append(f"{task.name} revision {task.revision}{' (shadow)' if task.is_shadow else ''}")
    return ", ".join(names) or "none is published yet; every series will end as no task"


def _models(settings: NodeSettings) -> str:
    models = load_models(settings.worker)
    sam = models.sam.weights_digest[:12] if models.sam else "none"
    return f"encoder {models.encoder.weights_digest[:12]}, SAM {sam}"


def _receiver(settings: NodeSettings) -> str:
    receive = settings.receive
    host = _LOOPBACK.get(receive.host, receive.host)
    caller = (*receive.calling_ae_titles, _CALLER)[0]
    peer = PacsSettings(
        ae_title=receive.ae_title, host=host, port=receive.port, calling_ae_title=caller, timeout_s=_ANSWER_S
    )
    try:
        echo(peer)
    except PeerUnavailableError as error:
        peer_name = f"{receive.ae_title} at {host}:{receive.port}"
        message = f"{peer_name} does not answer {caller}: start `fewshot-node serve`, or restart it"
        raise PeerUnavailableError(message) from error
    return f"{receive.ae_title} at {host}:{receive.port} answers {caller}"


def _prefect(settings: NodeSettings) -> str:
    api_url = settings.prefect.api_url
    if not answers(f"{api_url}/health", _ANSWER_S):
        raise OrchestratorError(f"no answer from {api_url}: start `fewshot-node serve`, or a Prefect server there")
    return api_url


def _worker(settings: NodeSettings) -> str:
    try:
        answer = httpx.post(f"{settings.prefect.api_url}/task_workers/filter", json={}, timeout=_ANSWER_S)
        subscribed = len(answer.raise_for_status().json())
    except (httpx.HTTPError, ValueError) as error:
        message = f"{settings.prefect.api_url} does not tell its workers: use the Prefect version of this node"
        raise OrchestratorError(message) from error
    if not subscribed:
        raise OrchestratorError("no worker is subscribed: start `fewshot-node worker`")
    return f"{subscribed} subscribed"


def _pacs(pacs: PacsSettings) -> str:
    echo(pacs)
    return f"{pacs.ae_title} at {pacs.host}:{pacs.port} answers {pacs.calling_ae_title}"


def _full_loop(settings: NodeSettings) -> str:
    started = time.monotonic()
    models = load_models(settings.worker)
    folder = Path(tempfile.mkdtemp(prefix="fewshot-selftest-"))
    try:
        for lesson in phantom_lessons(folder, salt=uuid.uuid4().hex):
            _loop_once(lesson, models, settings.pacs, folder)
    finally:
        shutil.rmtree(folder)
    return f"taught, processed, delivered and fetched two phantoms in {time.monotonic() - started:.0f} s"


def _loop_once(lesson: Lesson, models: Models, pacs: PacsSettings, folder: Path) -> None:
    registry = Registry(folder / "tasks")
    teach(lesson, registry, models)
    case = lesson.pushed[0]
    store(case.files, pacs)  # what the results refer to
    received = ReceivedSeries(SeriesKey(case.series_instance_uid), case.study_instance_uid, "", case.files)
    volume = read_volume(case.files)
    task = registry.published(lesson.task)
    results = produce(received, volume, task, models, folder / "outbox", run_directly)
    DicomCarrier(pacs).carry(results.paths, transaction_uid=None)
    fetched = set()
    for series in list_series(case.study_instance_uid, pacs):
        objects = fetch_series(case.study_instance_uid, series.series_instance_uid, pacs)
        fetched |= {str(dataset.SOPInstanceUID) for dataset in objects}
    if results.report_instance_uid not in fetched:
        raise DeliveryError(f"the PACS took the report {results.report_instance_uid} but does not give it back")
