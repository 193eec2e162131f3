"""The chain with other networks: a DINOv2 folder as the encoder, a SAM folder as the refiner."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Dinov2Backbone, Dinov2Config

from fewshot_node.config import WorkerSettings
from fewshot_node.demo.cases import Lesson
from fewshot_node.dicom.objects.volume import read_volume
from fewshot_node.errors import TaskError
from fewshot_node.models import Models, load_models
from fewshot_node.pipeline import analyse
from fewshot_node.steps import run_directly
from fewshot_node.tasks.codes import parse_label
from fewshot_node.tasks.registry import Registry
from fewshot_node.tasks.task import TaskDefinition, TaskSettings
from fewshot_node.tasks.templates import read_template
from fewshot_node.vision.refine import RefineSettings


@pytest.fixture(scope="module")
def dinov2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small DINOv2 with random weights, saved as the released ones are."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("dinov2")
    config = Dinov2Config(
        hidden_size=48, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14, mlp_ratio=2
    )
    Dinov2Backbone(config).save_pretrained(folder)
    return folder


def teach(lesson: Lesson, registry: Registry, models: Models, refine: RefineSettings, publish: bool = True) -> None:
    definition = TaskDefinition(
        lesson.task,
        lesson.kind,
        tuple(parse_label(text, lesson.kind) for text in lesson.labels),
        settings=TaskSettings(refine=refine),
    )
    registry.add(definition)
    case = lesson.templates[0]
    registry.add_template(lesson.task, read_template(case.files, case.truth, definition))
    registry.fit(lesson.task, models.encoder)
    if publish:
        registry.publish(lesson.task, models.sam_digest)


def test_dinov2_and_sam_by_path(lessons: tuple[Lesson, Lesson], dinov2: Path, sam_folder: Path, tmp_path: Path) -> None:
    """Random weights find nothing sensible: what counts is that they run, are named, and SAM is gated."""
    models = load_models(WorkerSettings(encoder=str(dinov2), sam=str(sam_folder)))
    registry = Registry(tmp_path / "tasks")
    teach(lessons[0], registry, models, RefineSettings(engine="sam"))
    task = registry.published(lessons[0].task)
    assert task.refiner_digest == models.sam_digest
    volume = read_volume(lessons[0].pushed[0].files)
    result = analyse(volume, task, models, tmp_path, run_directly)
    assert "refine=sam" in result.algorithm.parameters
    assert result.label_map is not None
    assert result.label_map.shape == volume.array.shape
    counts = dict(part.split("=") for part in result.algorithm.parameters if part.startswith("slices_"))
    slices = sum(np.any(result.label_map == value, axis=(1, 2)).sum() for value in (1, 2, 3, 4))
    assert int(counts["slices_refined"]) + int(counts["slices_coarse"]) >= slices > 0


def test_models_other_than_the_published_ones_are_refused(
    lessons: tuple[Lesson, Lesson], models: Models, dinov2: Path, sam_folder: Path, tmp_path: Path
) -> None:
    with_sam = replace(models, sam=load_models(WorkerSettings(sam=str(sam_folder))).sam)
    registry = Registry(tmp_path / "tasks")
    teach(lessons[0], registry, with_sam, RefineSettings(engine="sam"))
    task = registry.published(lessons[0].task)
    volume = read_volume(lessons[0].pushed[0].files)
    with pytest.raises(TaskError, match=r"refines with SAM .* none is loaded: configure .*worker\.sam"):
        analyse(volume, task, models, tmp_path, run_directly)
    other = load_models(WorkerSettings(encoder=str(dinov2), sam=str(sam_folder)))
    with pytest.raises(TaskError, match=r"was fitted with encoder .*worker\.encoder"):
        analyse(volume, task, other, tmp_path, run_directly)


def test_a_task_that_refines_is_not_published_without_its_refiner(
    lessons: tuple[Lesson, Lesson], models: Models, tmp_path: Path
) -> None:
    registry = Registry(tmp_path / "tasks")
    teach(lessons[0], registry, models, RefineSettings(engine="sam"), publish=False)
    with pytest.raises(TaskError, match=r"worker\.sam"):
        registry.publish(lessons[0].task, models.sam_digest)
