"""One series through the whole chain; this module only composes the stages.

``route -> volume -> encode -> localize -> refine -> write``; what is written is delivered by `dicom.deliver`.

It runs without Prefect: every stage is handed by name to a `StepRunner`, and the flow brings one that
shows the stages in Prefect and retries what may be retried.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from fewshot_node.dicom.deliver.parcels import result_folder
from fewshot_node.dicom.ledger.records import SeriesState, TaskOutcome
from fewshot_node.dicom.objects.outbox import ResultFiles, write_result_files
from fewshot_node.dicom.objects.volume import read_volume
from fewshot_node.errors import FewshotNodeError, LostClaimError
from fewshot_node.findings import result_uids, summarise_landmarks, summarise_masks
from fewshot_node.models import Models
from fewshot_node.records import ReceivedSeries, Result, TaskKind, Volume
from fewshot_node.steps import StepRunner, Stopwatch, run_directly, shielded
from fewshot_node.tasks.candidates import Candidate, LiveTask
from fewshot_node.tasks.route import route
from fewshot_node.tasks.task import BrokenTask, PublishedTask
from fewshot_node.vision.encode import encode
from fewshot_node.vision.landmarks import locate_landmarks
from fewshot_node.vision.localize import localize
from fewshot_node.vision.prompts import place_prompts
from fewshot_node.vision.refine import refine

SCRATCH_PREFIX = ".features-"
"""Of folders that hold features while a task runs; what a killed worker leaves is swept by its name."""


def analyse(volume: Volume, task: PublishedTask, models: Models, disk: Path, step: StepRunner) -> Result:
    """Run the vision half of one task on one volume; features lie below `disk` meanwhile."""
    settings, image = task.definition.settings, (volume.array, volume.modality)
    task.check_models(models.encoder.weights_digest, models.sam_digest)
    disk.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=SCRATCH_PREFIX, dir=disk) as scratch:
        features = step("encode", partial(encode, *image, models.encoder, settings.encode, Path(scratch)))
        seen = (features, task.adapter, volume.spacing_mm)
        if task.definition.kind is TaskKind.LANDMARKS:
            located = step("localize", partial(locate_landmarks, *seen, settings.landmarks))
            return summarise_landmarks(volume, task, models, located)
        localization = step("localize", partial(localize, *seen, settings.cleaning))
    prompts = place_prompts(localization, settings.refine.prompts)
    masks = step("refine", partial(refine, *image, localization, prompts, models.sam, settings.refine))
    return summarise_masks(volume, task, models, localization, masks)


def produce(
    received: ReceivedSeries, volume: Volume, task: PublishedTask, models: Models, outbox: Path, step: StepRunner
) -> ResultFiles:
    """Run one task on one volume; write its objects under `outbox` and check them.

    Raises
    ------
    PermanentError
        The task does not fit these models, or an object must not leave.
    DiskFullError
        The file system of the outbox is full.
    """
    result = analyse(volume, task, models, outbox, step)
    uids = result_uids(volume, task, models)
    folder = result_folder(outbox, received.key, task.definition.name)
    write = partial(write_result_files, result, volume, received.files, uids, folder, received.reports)
    return step("write", write)


def process_task(
    received: ReceivedSeries,
    volume: Volume,
    task: PublishedTask,
    models: Models,
    outbox: Path,
    step: StepRunner = run_directly,
) -> TaskOutcome:
    """Run one task on one volume and put its objects into the outbox; a failure is an outcome, not an error.

    Raises
    ------
    LostClaimError
        Another worker has the series: this one must not go on.
    """
    watch = Stopwatch(step)
    outcome = TaskOutcome(task.definition.name, task.revision, SeriesState.DELIVERING, seconds=watch.seconds)
    try:
        files = shielded(partial(produce, received, volume, task, models, outbox, watch))
    except LostClaimError:
        raise
    except FewshotNodeError as error:
        return replace(outcome, state=SeriesState.FAILED, reason=str(error))
    return replace(
        outcome,
        segmentation_instance_uid=files.segmentation_instance_uid,
        report_instance_uid=files.report_instance_uid,
        tracked=files.tracked,
        report=files.made,
    )


@dataclass(frozen=True, slots=True)
class Processed:
    """What the live tasks that match a series came to, and what is to run in their shadow."""

    outcomes: tuple[TaskOutcome, ...]
    shadows: tuple[LiveTask, ...] = ()


def process_series(
    received: ReceivedSeries,
    among: Sequence[Candidate],
    models: Models,
    outbox: Path,
    step: StepRunner = run_directly,
) -> Processed:
    """Run every live task that matches a series; no outcome means that no task does.

    Raises
    ------
    PermanentError
        The series itself cannot be read; no task can then say anything about it.
    """
    watch = Stopwatch(step)
    matching = watch("route", partial(route, received, among))
    live = [task for task in matching if not task.is_shadow]
    sound = [task for task in live if isinstance(task, PublishedTask)]
    broken = [task for task in live if isinstance(task, BrokenTask)]
    outcomes = [TaskOutcome(task.name, task.revision, SeriesState.FAILED, task.reason) for task in broken]
    if sound:
        volume = watch("volume", partial(read_volume, received.files))
        outcomes += [process_task(received, volume, task, models, outbox, step) for task in sound]
    timed = tuple(replace(one, seconds={**watch.seconds, **one.seconds}) for one in outcomes)
    return Processed(timed, tuple(task for task in matching if task.is_shadow))
