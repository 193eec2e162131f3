"""Small drawn patients: a bright and a dark disc on a grey body, each patient's a little elsewhere."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fewshot_node.records import TaskKind
from fewshot_node.tasks.augment import AugmentSettings
from fewshot_node.tasks.codes import parse_label
from fewshot_node.tasks.crossval import Engines
from fewshot_node.tasks.points import LandmarkPoint
from fewshot_node.tasks.task import TaskDefinition, TaskSettings
from fewshot_node.tasks.templates import Template
from fewshot_node.vision.adapters import AdapterSettings
from fewshot_node.vision.backbone import DenseEncoder
from fewshot_node.vision.encode import EncodeSettings
from fewshot_node.vision.feature_cache import MemoryCache

SIDE = 64
MakeTemplate = Callable[..., Template]


def draw(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return image and labels, (rows, columns)."""
    rng = np.random.default_rng(seed)
    rows, columns = np.ogrid[:SIDE, :SIDE]
    row, column = 30 + rng.integers(-3, 4), 22 + rng.integers(-3, 4)
    labels = np.zeros((SIDE, SIDE), dtype=np.uint8)
    labels[(rows - row) ** 2 + (columns - column) ** 2 <= 11**2] = 1
    labels[(rows - row - 2) ** 2 + (columns - column - 24) ** 2 <= 8**2] = 2
    body = (rows - 32) ** 2 + (columns - 32) ** 2 <= 29**2
    image = np.where(body, 400.0, 0.0)
    image[labels == 1], image[labels == 2] = 800.0, 150.0
    return image + rng.normal(0, 15, image.shape), labels


@pytest.fixture(scope="session")
def make_template() -> MakeTemplate:
    def make(seed: int, name: str = "", slices: tuple[int, ...] = (5,), **changes: object) -> Template:
        drawn = [draw(100 * seed + index) for index in slices]
        array = np.stack([image for image, _ in drawn]).astype(np.float32)
        template = Template(
            name=name or f"t{seed}",
            series_instance_uid=f"2.25.{seed}",
            modality="MR",
            array=array,
            label_map=np.stack([labels for _, labels in drawn]),
            intensity_sample=array.reshape(-1),
            points=(),
            spacing_mm=(5.0, 1.0, 1.0),
            orientation="axial",
            slice_indices=slices,
            instance_uids=tuple(f"2.25.{seed}.{index}" for index in slices),
        )
        return replace(template, **changes)

    return make


@pytest.fixture(scope="session")
def with_points() -> Callable[[Template], Template]:
    """Put a point into the middle of each disc, and no disc."""

    def convert(template: Template) -> Template:
        points = []
        for index, labels in enumerate(template.label_map):
            for value in (1, 2):
                row, column = np.argwhere(labels == value).mean(axis=0).tolist()
                points.append(LandmarkPoint(value, index, row, column))
        return replace(template, points=tuple(points), label_map=np.zeros_like(template.label_map))

    return convert


@pytest.fixture(scope="session")
def discs() -> TaskDefinition:
    settings = TaskSettings(
        adapter=AdapterSettings(name="lda"),
        encode=EncodeSettings(input_px=64, precision="float32"),
        augment=AugmentSettings(count=0),
    )
    labels = (parse_label("1=Liver"), parse_label("2=Spleen"))
    return TaskDefinition("discs", TaskKind.SEGMENTATION, labels, settings=settings)


@pytest.fixture(scope="session")
def middles(discs: TaskDefinition) -> TaskDefinition:
    labels = (parse_label("1=Left", TaskKind.LANDMARKS), parse_label("2=Right", TaskKind.LANDMARKS))
    return replace(discs, name="middles", kind=TaskKind.LANDMARKS, labels=labels)


@pytest.fixture(scope="session")
def engines(encoder: DenseEncoder) -> Engines:
    return Engines(encoder, cache=MemoryCache(10**9))


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept")
