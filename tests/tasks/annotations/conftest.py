"""One phantom as three series - axial, oblique, multi-frame - and its labels in the formats that people have."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from fewshot_node.dicom.objects.volume import read_sources, read_volume
from fewshot_node.evaluation.phantom_multiframe import write_multiframe
from fewshot_node.evaluation.phantom_series import PhantomSeries, write_series
from fewshot_node.evaluation.phantoms import Phantom, PhantomSettings, torso_ct
from fewshot_node.records import AlgorithmIdentity, Result, StructureFinding, TaskKind, Volume
from fewshot_node.tasks.annotations import Target, read_annotation
from fewshot_node.tasks.codes import parse_label
from fewshot_node.tasks.label_files import label_map_of
from fewshot_node.tasks.selection import TemplateSelection
from fewshot_node.tasks.task import TaskDefinition
from fewshot_node.uids import ResultUids

SMALL = PhantomSettings(slices=8, rows=56, columns=64, slice_mm=20.0, pixel_mm=6.0)
KINDS = ("axial", "oblique", "multi-frame")
LABELS = ("1=Liver", "2=Spleen", "3=Left kidney", "4=Right kidney")


@dataclass(frozen=True)
class Case:
    """A phantom, its series on disk, and what the program reads of it."""

    phantom: Phantom
    series: PhantomSeries
    volume: Volume
    definition: TaskDefinition

    @property
    def truth(self) -> np.ndarray:
        return np.where(np.isin(self.phantom.label_map, [1, 2, 3, 4]), self.phantom.label_map, 0)

    def read(self, path: Path, **selection: object) -> np.ndarray:
        """Labels of a file on the series' grid, in the task's values."""
        choice = TemplateSelection(**selection)  # type: ignore[arg-type]
        target = Target(path, self.volume, choice.resample)
        return label_map_of(read_annotation(target), target, self.definition, choice)

    def result(self, label_map: np.ndarray) -> Result:
        findings = tuple(
            StructureFinding(label, bool((label_map == label.value).any()), 0.9, 1.0)
            for label in self.definition.labels
        )
        return Result("organs", 1, TaskKind.SEGMENTATION, findings, label_map, AlgorithmIdentity("test", "1", ()))

    @property
    def uids(self) -> ResultUids:
        frames = self.volume.frames
        return ResultUids(
            tuple(frame.sop_instance_uid for frame in frames), self.volume.digest(), "organs", "d", "w", "1"
        )

    @property
    def sources(self) -> list:
        return read_sources(self.series.files, self.volume)


def tilted(phantom: Phantom) -> Phantom:
    """The same voxels, turned by 40 degrees about x and 30 about z."""
    a, b = np.radians(40), np.radians(30)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    turn = np.eye(4)
    turn[:3, :3] = about_z @ about_x
    turn[:3, 3] = [12.5, -7.25, 31.0]
    return replace(phantom, affine=turn @ phantom.affine)


@pytest.fixture(scope="session")
def torso() -> Phantom:
    return torso_ct(5, SMALL)


@pytest.fixture(scope="session")
def cases(torso: Phantom, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    folder = tmp_path_factory.mktemp("kinds")
    definition = TaskDefinition("organs", TaskKind.SEGMENTATION, tuple(parse_label(text) for text in LABELS))
    oblique = tilted(torso)
    single = write_series(torso, folder / "axial", patient_index=1)
    written = {
        "axial": (torso, single),
        "oblique": (oblique, write_series(oblique, folder / "oblique", patient_index=2, salt="oblique")),
        "multi-frame": (torso, write_multiframe(single, folder / "multi" / "one.dcm")),
    }
    return {
        kind: Case(phantom, series, read_volume(series.files), definition)
        for kind, (phantom, series) in written.items()
    }


@pytest.fixture(params=KINDS)
def case(cases: dict[str, Case], request: pytest.FixtureRequest) -> Case:
    return cases[request.param]


@pytest.fixture
def axial(cases: dict[str, Case]) -> Case:
    return cases["axial"]


def centres_mm(labels: np.ndarray, affine: np.ndarray) -> dict[int, np.ndarray]:
    """Where each label's middle lies, LPS mm, by an affine that the code under test did not compute."""
    return {
        int(value): affine[:3, :3] @ np.argwhere(labels == value).mean(axis=0) + affine[:3, 3]
        for value in np.unique(labels)
        if value
    }


@pytest.fixture
def check_mm(case: Case) -> Callable[[np.ndarray], None]:
    """Compare labels voxel by voxel, and their places in mm with the phantom's own affine."""

    def check(found: np.ndarray) -> None:
        np.testing.assert_array_equal(found, case.truth)
        expected = centres_mm(case.truth, case.phantom.affine)
        for value, place in centres_mm(found, case.volume.affine).items():
            np.testing.assert_allclose(place, expected[value], atol=0.01)

    return check
