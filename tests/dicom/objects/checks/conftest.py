"""A segmentation and two reports that pass the gate, for tests that break them."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from fewshot_node.dicom.objects.conformance import Origin, find_faults
from fewshot_node.dicom.objects.seg import write_segmentation
from fewshot_node.dicom.objects.sr import write_report
from fewshot_node.records import TaskKind
from tests.dicom.objects.conftest import SeriesSpec, case_of, write_files


@dataclass(frozen=True)
class Made:
    """Objects of one source, and what they are held against."""

    origin: Origin
    segmentation: Dataset
    report: Dataset
    landmarks: Dataset

    def faults(self, dataset: Dataset) -> list[str]:
        return [str(fault) for fault in find_faults(dataset, self.origin)]


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[[SeriesSpec], Made]:
    """Make the objects of a series; the tests get copies of what is made once."""
    known: dict[str, Made] = {}

    def objects(spec: SeriesSpec) -> Made:
        if repr(spec) not in known:
            known[repr(spec)] = _write(write_files(spec, tmp_path_factory.mktemp("source") / "series"))
        made = known[repr(spec)]
        copies = [deepcopy(one) for one in (made.segmentation, made.report, made.landmarks)]
        return Made(replace(made.origin, companions=copies[:2]), *copies)

    return objects


def _write(files: list[Path]) -> Made:
    case, points = case_of(files), case_of(files, TaskKind.LANDMARKS)
    segmentation = write_segmentation(case.result, case.volume, case.sources, case.uids)
    report = write_report(case.result, case.volume, case.sources, case.uids, segmentation)
    landmarks = write_report(points.result, points.volume, points.sources, points.uids)
    return Made(case.origin(segmentation, report), segmentation, report, landmarks)


@pytest.fixture
def make(build: Callable[[SeriesSpec], Made]) -> Callable[..., Made]:
    """Make the objects of a series that is changed by keywords."""
    return lambda **changes: build(SeriesSpec(slices=3, **changes))


@pytest.fixture
def made(make: Callable[..., Made]) -> Made:
    return make()
