"""The node's self test: each part by itself, then a phantom through the chain and the PACS and back."""

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
from fewshot_node.dicom.ledger import SeriesState
from fewshot_node.dicom.outbox import Destination
from fewshot_node.dicom.query import fetch_series, list_series
from fewshot_node.dicom.send import echo, store
from fewshot_node.dicom.volume import read_volume
from fewshot_node.errors import DeliveryError, FewshotNodeError, OrchestratorError, RefusedError
from fewshot_node.models import Models, load_models
from fewshot_node.node import open_node
from fewshot_node.pipeline import process_task
from fewshot_node.records import ReceivedSeries, SeriesKey
from fewshot_node.tasks.registry import Registry


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
    yield _check("Prefect", partial(_prefect, settings))
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
    names = [f"{task.definition.name} revision {task.revision}" for task in Registry(settings.tasks).all_published()]
    return ", ".join(names) or "none is published yet; every series will end as no task"


def _models(settings: NodeSettings) -> str:
    models = load_models(settings.worker)
    sam = models.sam.weights_digest[:12] if models.sam else "none"
    return f"encoder {models.encoder.weights_digest[:12]}, SAM {sam}"


def _prefect(settings: NodeSettings) -> str:
    try:
        httpx.get(f"{settings.prefect.api_url}/health", timeout=5.0).raise_for_status()
    except httpx.HTTPError as error:
        message = f"no answer from {settings.prefect.api_url}: start `fewshot-node serve`, or a Prefect server there"
        raise OrchestratorError(message) from error
    return settings.prefect.api_url


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
    outcome = process_task(received, volume, task, models, Destination(folder / "outbox", pacs))
    if outcome.state is not SeriesState.DELIVERED:
        raise DeliveryError(f"{lesson.task}: {outcome.reason}")
    fetched = set()
    for series in list_series(case.study_instance_uid, pacs):
        objects = fetch_series(case.study_instance_uid, series.series_instance_uid, pacs)
        fetched |= {str(dataset.SOPInstanceUID) for dataset in objects}
    if outcome.report_instance_uid not in fetched:
        raise DeliveryError(f"the PACS took the report {outcome.report_instance_uid} but does not give it back")
