"""Shadow revisions of tasks: they run on what comes in like the live ones, are noted, and send nothing.

They run when the series has ended and its results are on their way: what goes wrong in a shadow, and be it the end
of the worker, costs no series its result.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from fewshot_node.dicom.ledger import ShadowOutcome, ShadowState
from fewshot_node.dicom.objects.volume import read_volume
from fewshot_node.errors import FewshotNodeError
from fewshot_node.models import Models
from fewshot_node.node import Node
from fewshot_node.pipeline import produce
from fewshot_node.records import ReceivedSeries
from fewshot_node.steps import StepRunner, Stopwatch, shielded
from fewshot_node.tasks.candidates import LiveTask
from fewshot_node.tasks.task import BrokenTask

logger = logging.getLogger(__name__)


def run_shadows(
    node: Node, models: Models, received: ReceivedSeries, tasks: Sequence[LiveTask], claimant: str, step: StepRunner
) -> None:
    """Run the shadow revisions that a worker has claimed with a series and note in the ledger what they came to."""
    for task in tasks:
        outcome = _run(node, models, received, task, step)
        try:
            noted = node.ledger.note_shadow(received.key, claimant, outcome)
        except FewshotNodeError as error:  # of the ledger: noted as running, it fails when the claim to it has lapsed
            logger.warning("series %s: shadow of %s is not noted: %s", received.key, task.name, error)
            continue
        if not noted:
            logger.warning("series %s: shadow of %s was given up or begun again meanwhile", received.key, task.name)
            continue
        logger.info("series %s: shadow of %s revision %d %s", received.key, task.name, task.revision, outcome.state)


def begun(tasks: Sequence[LiveTask]) -> tuple[ShadowOutcome, ...]:
    """Return what is noted of shadows that are about to run."""
    return tuple(ShadowOutcome(task.name, task.revision, ShadowState.RUNNING) for task in tasks)


def _run(node: Node, models: Models, received: ReceivedSeries, task: LiveTask, step: StepRunner) -> ShadowOutcome:
    watch = Stopwatch(step)
    outcome = ShadowOutcome(task.name, task.revision, ShadowState.KEPT, seconds=watch.seconds)
    if isinstance(task, BrokenTask):
        return replace(outcome, state=ShadowState.FAILED, reason=task.reason)

    def make_files() -> ShadowOutcome:
        volume = watch("volume", partial(read_volume, received.files))
        # What was never sent continues no report that was.
        alone = replace(received, reports=())
        files = produce(alone, volume, task, models, node.settings.shadow, watch)
        return replace(
            outcome,
            segmentation_instance_uid=files.segmentation_instance_uid,
            report_instance_uid=files.report_instance_uid,
        )

    try:
        return shielded(make_files)
    except FewshotNodeError as error:
        return replace(outcome, state=ShadowState.FAILED, reason=str(error))
