"""The category of anatomy that earlier versions gave tasks: read, and replaced in what is written."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset

from fewshot_node.dicom.objects.volume import read_volume
from fewshot_node.models import Models
from fewshot_node.pipeline import produce
from fewshot_node.records import Code, ReceivedSeries, SeriesKey
from fewshot_node.steps import run_directly
from fewshot_node.tasks.registry import Registry
from fewshot_node.tasks.task import PublishedTask, TaskDefinition
from fewshot_node.tasks.templates import read_template
from fewshot_node.vision.backbone import DenseEncoder
from tests.tasks.conftest import Example

EARLIER = Code("123037004", "SCT", "Anatomical Structure")


@pytest.fixture
def published(
    tmp_path: Path, definition: TaskDefinition, example: Example, nifti: Path, encoder: DenseEncoder
) -> PublishedTask:
    """A revision as an earlier version published it."""
    registry = Registry(tmp_path / "tasks")
    registry.add(with_category(definition, EARLIER))
    registry.add_template("organs", read_template(example.files, nifti, definition))
    registry.fit("organs", encoder)
    registry.publish("organs")
    assert "123037004" in (tmp_path / "tasks" / "organs" / "revisions" / "0001" / "definition.json").read_text()
    return registry.published("organs")


def with_category(definition: TaskDefinition, category: Code) -> TaskDefinition:
    return replace(definition, labels=tuple(replace(label, category=category) for label in definition.labels))


def written(task: PublishedTask, example: Example, encoder: DenseEncoder, out: Path) -> list[Dataset]:
    received = ReceivedSeries(SeriesKey(example.series_instance_uid), "1.2", "SCANNER", example.files)
    files = produce(received, read_volume(example.files), task, Models(encoder), out, run_directly)
    return [pydicom.dcmread(path) for path in files.paths]


def codes_in(datasets: Sequence[Dataset]) -> list[str]:
    return [str(element.value) for one in datasets for element in one.iterall() if element.keyword == "CodeValue"]


def test_old_revisions_write_the_category_of_the_standard(
    published: PublishedTask, example: Example, encoder: DenseEncoder, tmp_path: Path
) -> None:
    objects = written(published, example, encoder, tmp_path / "now")
    (segmentation,) = (one for one in objects if one.Modality == "SEG")
    categories = {item.SegmentedPropertyCategoryCodeSequence[0].CodeValue for item in segmentation.SegmentSequence}
    assert categories == {"91723000"}
    assert "123037004" not in codes_in(objects)


def test_with_another_category_an_object_has_another_uid(
    published: PublishedTask, example: Example, encoder: DenseEncoder, tmp_path: Path
) -> None:
    earlier = replace(published, definition=with_category(published.definition, EARLIER))
    before = written(earlier, example, encoder, tmp_path / "before")
    now = written(published, example, encoder, tmp_path / "now")
    assert "123037004" in codes_in(before)
    assert {one.Modality for one in before} == {one.Modality for one in now} == {"SEG", "SR"}
    assert not {one.SOPInstanceUID for one in before} & {one.SOPInstanceUID for one in now}
