import json
from pathlib import Path

import numpy as np
import pytest

from fewshot_node.errors import TemplateError
from fewshot_node.records import SourceFrame, TaskKind, Volume
from fewshot_node.tasks.annotations import Target, read_annotation
from fewshot_node.tasks.codes import parse_label
from fewshot_node.tasks.label_files import points_of, read_positions_mm
from fewshot_node.tasks.points import LandmarkPoint
from fewshot_node.tasks.selection import TemplateSelection
from fewshot_node.tasks.task import TaskDefinition

LABELS = (parse_label("1=KPB", TaskKind.LANDMARKS), parse_label("2=KAL", TaskKind.LANDMARKS))
DEFINITION = TaskDefinition("knee", TaskKind.LANDMARKS, LABELS)


def read_points(path: Path, volume: Volume) -> tuple[LandmarkPoint, ...]:
    target = Target(path, volume)
    return points_of(read_annotation(target), target, DEFINITION, TemplateSelection())


@pytest.fixture
def volume() -> Volume:
    """10 sagittal slices, 4 mm apart along -x (right to left is +x in LPS), pixels of 0.5 mm."""
    affine = np.eye(4)
    affine[:3, :3] = np.array([[-4, 0, 0], [0, 0, 0.5], [0, -0.5, 0]])
    affine[:3, 3] = [40, -60, 80]
    frames = tuple(SourceFrame("1.2.840.10008.5.1.4.1.1.4", f"1.2.{index}") for index in range(10))
    return Volume(np.zeros((10, 100, 120), np.float32), affine, frames, "MR", "1.2", "1.2.3", "1.2.4")


def write(path: Path, data: object) -> Path:
    path.write_text(json.dumps(data))
    return path


def test_position_in_mm_is_found_on_its_slice(tmp_path: Path, volume: Volume) -> None:
    # By hand: x = 40 - 4 s, z = 80 - 0.5 r, y = -60 + 0.5 c.
    data = {"landmarks": {"KPB": {"position_mm": [27.0, -50.0, 62.5]}}}
    (point,) = read_points(write(tmp_path / "p.json", data), volume)
    assert (point.label_value, point.slice_index) == (1, 3)
    assert (point.row, point.column) == pytest.approx((35.0, 20.0))


@pytest.mark.parametrize("key", ["KPB", "kpb", "1", " KPB "])
@pytest.mark.parametrize("wrapped", [True, False])
def test_keys_are_names_or_values(tmp_path: Path, volume: Volume, key: str, wrapped: bool) -> None:
    entries = {key: [40.0, -60.0, 80.0]}
    path = write(tmp_path / "p.json", {"landmarks": entries} if wrapped else entries)
    assert read_points(path, volume) == (LandmarkPoint(1, 0, 0.0, 0.0),)


def test_indices_count_from_zero(tmp_path: Path, volume: Volume) -> None:
    data = {"landmarks": {"2": {"slice_index": 9, "row": 12.5, "column": 3}}}
    assert read_points(write(tmp_path / "p.json", data), volume) == (LandmarkPoint(2, 9, 12.5, 3.0),)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"KPX": [40, -60, 80]}, "does not know (it knows 1=KPB, 2=KAL): map each, for example --map KPX=1"),
        ({"KPB": [40, -60, 800]}, "lies outside series 1.2.3"),
        ({"KPB": [-40, 60, 80]}, "not RAS"),
        ({"KPB": {"slice_index": 10, "row": 1, "column": 1}}, "lies outside"),
        ({"KPB": {"slice_index": 1, "row": -0.6, "column": 1}}, "lies outside"),
        ({"KPB": [40, -60]}, "three numbers"),
        ({"KPB": [40, -60, "80"]}, "three numbers"),
        ({"KPB": [40, -60, True]}, "three numbers"),
        ({"KPB": None}, "three numbers"),
        ({"KPB": {"position": [40, -60, 80]}}, "three numbers"),
        ({"KPB": [40, -60, 80], "1": [40, -60, 80]}, "twice"),
        ({}, "no landmark"),
        ({"landmarks": []}, "no list of landmarks"),
        ({"landmarks": {"KPB": [40, -60, 80]}, "unit": "cm"}, "no list of landmarks"),
        ([1, 2], "no list of landmarks"),
    ],
)
def test_wrong_points_are_refused(tmp_path: Path, volume: Volume, data: object, says: str) -> None:
    with pytest.raises(TemplateError) as caught:
        read_points(write(tmp_path / "p.json", data), volume)
    assert says in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b'{"KPB": [NaN, 1, 1]}', b"[" * 100_000])
def test_broken_file_is_refused(tmp_path: Path, volume: Volume, content: bytes) -> None:
    (tmp_path / "p.json").write_bytes(content)
    with pytest.raises(TemplateError, match=r"p\.json"):
        read_points(tmp_path / "p.json", volume)


def test_positions_in_mm_come_back_from_either_form(tmp_path: Path, volume: Volume) -> None:
    data = {
        "landmarks": {
            "KPB": {"position_mm": [27.0, -50.0, 62.5]},
            "KAL": {"slice_index": 9, "row": 12, "column": 4},
        }
    }
    found = read_positions_mm(write(tmp_path / "p.json", data), volume, DEFINITION, TemplateSelection())
    assert found[1] == pytest.approx((27.0, -50.0, 62.5))
    assert found[2] == pytest.approx((4.0, -58.0, 74.0))
