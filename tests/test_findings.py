"""What the vision half saw, as a result that knows which objects it becomes."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fewshot_node.findings import summarise_masks
from fewshot_node.output import OutputSettings
from fewshot_node.records import Localization, Masks, SourceFrame, TaskKind, Volume
from fewshot_node.tasks.codes import parse_label
from fewshot_node.tasks.task import PublishedTask, TaskDefinition

LABELS = (parse_label("5=Spleen"), parse_label("2=Liver"))


@pytest.fixture
def seen() -> tuple[Volume, Localization, Masks]:
    array = np.zeros((2, 4, 4), dtype=np.float32)
    frames = tuple(SourceFrame("1.2", f"1.2.{index}") for index in range(2))
    volume = Volume(array, np.eye(4), frames, "CT", "1.3", "1.4", "1.5")
    label_map = np.zeros(array.shape, dtype=np.uint8)
    label_map[0, :2] = 2
    scores = np.zeros((2, 3, 2, 2), dtype=np.float32)
    scores[0, 2, 0] = 4.0
    return volume, Localization(label_map, scores, (5, 2)), Masks(label_map)


def task_with(output: OutputSettings) -> PublishedTask:
    definition = TaskDefinition("organs", TaskKind.SEGMENTATION, LABELS)
    definition = replace(definition, settings=replace(definition.settings, output=output))
    nothing: Any = None
    return PublishedTask(definition, 3, "f" * 64, nothing, "e" * 64, None, Path())


@pytest.mark.parametrize("kind", ["binary", "fractional", "labelmap"])
def test_a_result_knows_its_objects_and_brings_probabilities_only_where_they_are_shown(seen: Any, kind: Any) -> None:
    volume, localization, masks = seen
    output = OutputSettings(segmentation=kind, empty_frames="keep", rtstruct=True)
    models: Any = SimpleNamespace(weights_digest="a" * 64)
    result = summarise_masks(volume, task_with(output), models, localization, masks)
    assert result.output == output
    assert (result.probabilities is not None) == (kind == "fractional")
    if result.probabilities is not None:
        liver = result.probabilities.on_slice(0)[result.probabilities.label_values.index(2)]
        assert liver.shape == (4, 4)
        assert liver[0, 0] == pytest.approx(np.exp(4.0) / (np.exp(4.0) + 2))
        assert liver[3, 3] == pytest.approx(1 / 3)
