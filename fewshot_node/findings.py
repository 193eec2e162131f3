"""From what the vision half saw to what the result objects say."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fewshot_node import __version__
from fewshot_node.models import Models
from fewshot_node.probabilities import LabelProbabilities
from fewshot_node.records import (
    AlgorithmIdentity,
    Landmark,
    Localization,
    Masks,
    Result,
    StructureFinding,
    TaskKind,
    Volume,
)
from fewshot_node.tasks.task import PublishedTask
from fewshot_node.uids import ResultUids

ALGORITHM_NAME = "fewshot-node"


def result_uids(volume: Volume, task: PublishedTask, models: Models) -> ResultUids:
    """Return the UIDs of what this task makes of this volume with these weights."""
    return ResultUids(
        source_instance_uids=tuple(sorted({frame.sop_instance_uid for frame in volume.frames})),
        source_digest=volume.digest(),
        task_name=task.definition.name,
        task_digest=task.digest,
        weights_digest=models.weights_digest,
        code_version=__version__,
    )


def identify_algorithm(task: PublishedTask, models: Models, details: Sequence[str] = ()) -> AlgorithmIdentity:
    """Return what the result objects say of the algorithm; `details` are further ``key=value`` strings."""
    settings = task.definition.settings
    parameters = (
        f"task={task.definition.name}",
        f"revision={task.revision}",
        f"task_digest={task.digest[:16]}",
        f"weights_digest={models.weights_digest[:16]}",
        f"adapter={settings.adapter.name}",
        f"refine={settings.refine.engine}",
        *details,
    )
    return AlgorithmIdentity(ALGORITHM_NAME, __version__, parameters)


def summarise_masks(
    volume: Volume, task: PublishedTask, models: Models, localization: Localization, masks: Masks
) -> Result:
    """Return the result of a segmentation task: one finding a label, found or not."""
    confidences = _mask_confidences(localization)
    counts = np.bincount(masks.label_map.ravel(), minlength=256)
    output = task.definition.settings.output
    findings = tuple(
        StructureFinding(
            label=label,
            found=bool(counts[label.value]),
            confidence=confidences[label.value],
            volume_mm3=float(counts[label.value]) * volume.voxel_mm3,
        )
        for label in task.definition.labels
    )
    refined = sum(count.refined for count in masks.refinement.values())
    coarse = sum(count.coarse for count in masks.refinement.values())
    details = (f"slices_refined={refined}", f"slices_coarse={coarse}")
    return Result(
        task_name=task.definition.name,
        task_revision=task.revision,
        kind=TaskKind.SEGMENTATION,
        findings=findings,
        label_map=masks.label_map,
        algorithm=identify_algorithm(task, models, details),
        output=output,
        probabilities=_probabilities(localization) if output.segmentation == "fractional" else None,
    )


def summarise_landmarks(volume: Volume, task: PublishedTask, models: Models, located: Localization) -> Result:
    """Return the result of a landmark task: one finding a label, with its position when it was found."""
    seen = {landmark.label_value: landmark for landmark in located.landmarks}
    findings = []
    for label in task.definition.labels:
        landmark = seen.get(label.value, Landmark(label.value, None, 0.0))
        findings.append(
            StructureFinding(
                label=label,
                found=landmark.index is not None,
                confidence=landmark.confidence,
                point_mm=_position_mm(volume, landmark),
                index=landmark.index,
            )
        )
    return Result(
        task_name=task.definition.name,
        task_revision=task.revision,
        kind=TaskKind.LANDMARKS,
        findings=tuple(findings),
        label_map=None,
        algorithm=identify_algorithm(task, models),
        output=task.definition.settings.output,
    )


def _position_mm(volume: Volume, landmark: Landmark) -> tuple[float, float, float] | None:
    if landmark.index is None:
        return None
    x_mm, y_mm, z_mm = volume.to_mm(np.asarray(landmark.index))
    return float(x_mm), float(y_mm), float(z_mm)


def _probabilities(localization: Localization) -> LabelProbabilities:
    _, rows, columns = localization.label_map.shape
    return LabelProbabilities(localization.scores, localization.label_values, (rows, columns))


def _mask_confidences(localization: Localization) -> dict[int, float]:
    """Mean share of a label's score among all where the label won; where it never won, its best share."""
    shares = _softmax(localization.scores)
    winners = localization.scores.argmax(axis=1)
    confidences = {}
    for channel, value in enumerate(localization.label_values, start=1):
        share = shares[:, channel]
        won = winners == channel
        confidences[value] = float(share[won].mean() if won.any() else share.max())
    return confidences


def _softmax(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: NDArray[np.float32] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return shares
