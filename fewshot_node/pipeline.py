"""One series through the whole chain; this module only composes the stages.

``route -> volume -> encode -> localize -> refine -> write -> deliver``

It runs without Prefect: every stage is handed by name to a `StepRunner`, and the flow brings one that
shows the stages in Prefect and retries what may be retried.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from fewshot_node.dicom.headers import read_header
from fewshot_node.dicom.outbox import Destination, ResultFiles, write_result_files
from fewshot_node.dicom.send import deliver
from fewshot_node.dicom.volume import read_volume
from fewshot_node.errors import PermanentError, RetryableError
from fewshot_node.findings import result_uids, summarise_landmarks, summarise_masks
from fewshot_node.models import Models
from fewshot_node.records import ReceivedSeries, Result, TaskKind, Volume
from fewshot_node.steps import StepRunner, Stopwatch, run_directly
from fewshot_node.tasks.rules import evaluate
from fewshot_node.tasks.task import PublishedTask
from fewshot_node.vision.encode import encode
from fewshot_node.vision.landmarks import locate_landmarks
from fewshot_node.vision.localize import localize
from fewshot_node.vision.prompts import random_points
from fewshot_node.vision.refine import refine


@dataclass(frozen=True, slots=True)
class TaskOutcome:
    """How one task ended on one series; `reason` is None when it went well."""

    task_name: str
    task_revision: int
    reason: str | None
    files: ResultFiles | None
    seconds: dict[str, float]


def route(received: ReceivedSeries, tasks: Sequence[PublishedTask]) -> tuple[PublishedTask, ...]:
    """Return the tasks whose rules all hold for this series."""
    header = read_header(received.files)
    return tuple(
        task for task in tasks if evaluate(task.definition.rules, header, received.calling_ae_title).matches
    )


def analyse(volume: Volume, task: PublishedTask, models: Models, step: StepRunner) -> Result:
    """Run the vision half of one task on one volume."""
    settings = task.definition.settings
    task.check_encoder(models.encoder.weights_digest)
    with TemporaryDirectory(prefix="fewshot-features-") as scratch:
        features = step(
            "encode",
            partial(encode, volume.array, volume.modality, models.encoder, settings.encode, Path(scratch)),
        )
        if task.definition.kind is TaskKind.LANDMARKS:
            located = step("localize", partial(locate_landmarks, features, task.adapter, volume.spacing_mm))
            return summarise_landmarks(volume, task, models, located)
        localization = step(
            "localize", partial(localize, features, task.adapter, volume.spacing_mm, settings.cleaning)
        )
    prompts = random_points(localization)
    masks = step(
        "refine",
        partial(refine, volume, localization, prompts, models.sam, settings.refine),
    )
    return summarise_masks(volume, task, models, localization, masks)


def process_task(
    received: ReceivedSeries,
    volume: Volume,
    task: PublishedTask,
    models: Models,
    destination: Destination,
    step: StepRunner = run_directly,
) -> TaskOutcome:
    """Run one task on one volume, write its objects, check them, and send them."""
    step = Stopwatch(step)
    name, revision = task.definition.name, task.revision
    try:
        result = analyse(volume, task, models, step)
        uids = result_uids(volume, task, models)
        folder = destination.outbox / str(received.key) / name
        files = step("write", partial(write_result_files, result, volume, received.files, uids, folder))
        if destination.pacs is not None:
            step("deliver", partial(deliver, files.paths, destination.pacs), retryable=True)
    except (PermanentError, RetryableError) as error:
        return TaskOutcome(name, revision, str(error), None, step.seconds)
    return TaskOutcome(name, revision, None, files, step.seconds)


def process_series(
    received: ReceivedSeries,
    tasks: Sequence[PublishedTask],
    models: Models,
    destination: Destination,
    step: StepRunner = run_directly,
) -> tuple[TaskOutcome, ...]:
    """Run every task that matches a series; an empty answer means that no task does.

    Raises
    ------
    PermanentError
        The series itself cannot be read; no task can then say anything about it.
    """
    matching = step("route", partial(route, received, tasks))
    if not matching:
        return ()
    volume = step("volume", partial(read_volume, received.files))
    return tuple(process_task(received, volume, task, models, destination, step) for task in matching)
