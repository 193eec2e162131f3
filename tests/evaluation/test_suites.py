import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from fewshot_node.errors import EvaluationError
from fewshot_node.evaluation.suites import read_suite
from fewshot_node.records import TaskKind

DESCRIPTION = """
name = "toy"
modality = "MR"
kind = "{kind}"
dimension = "{dimension}"
[[label]]
value = 1
name = "liver"
sct = "10200004"
meaning = "Liver"
[[label]]
value = 4
name = "thing"
"""


def write_suite(folder: Path, kind: str = "segmentation", dimension: str = "slice") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "suite.toml").write_text(DESCRIPTION.format(kind=kind, dimension=dimension))
    return folder


def write_slice(folder: Path, patient: str, name: str, labels: np.ndarray) -> Path:
    home = folder / "cases" / patient
    home.mkdir(parents=True, exist_ok=True)
    Image.fromarray((labels * 40 + 10).astype(np.uint8)).save(home / f"{name}.image.png")
    Image.fromarray(labels.astype(np.uint8)).save(home / f"{name}.labels.png")
    return home


def test_slices_are_one_deep_and_sorted_by_patient(tmp_path: Path) -> None:
    folder = write_suite(tmp_path)
    labels = np.zeros((5, 7), dtype=np.uint8)
    labels[1:3, 2:6] = 4
    write_slice(folder, "p2", "a", labels)
    write_slice(folder, "p1", "b", labels)
    suite = read_suite(folder)
    assert suite.patients == ("p1", "p2")
    assert [case.name for case in suite.cases] == ["b", "a"]
    assert [label.value for label in suite.labels] == [1, 4]
    assert suite.labels[0].type.value == "10200004"
    data = suite.cases[0].load()
    assert data.array.shape == (1, 5, 7)
    assert data.array.dtype == np.float32
    np.testing.assert_array_equal(data.label_map[0], labels)
    assert data.spacing_mm is None


def test_volumes_come_as_slices_rows_columns_with_spacing(tmp_path: Path) -> None:
    folder = write_suite(tmp_path, dimension="volume")
    home = folder / "cases" / "p"
    home.mkdir(parents=True)
    columns_rows_slices = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)
    affine = np.diag([0.5, 0.7, 3.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(columns_rows_slices, affine), home / "c.image.nii.gz")
    nibabel.save(nibabel.Nifti1Image((columns_rows_slices == 5).astype(np.uint8), affine), home / "c.labels.nii.gz")
    data = read_suite(folder).cases[0].load()
    assert data.array.shape == (4, 3, 2)
    assert data.array[3, 1, 0] == columns_rows_slices[0, 1, 3]
    assert data.label_map.sum() == 1
    np.testing.assert_allclose(data.spacing_mm, (3.0, 0.7, 0.5), rtol=1e-6)


def test_points_come_as_row_and_column(tmp_path: Path) -> None:
    folder = write_suite(tmp_path, kind="landmarks")
    home = write_slice(folder, "p", "c", np.zeros((5, 7), dtype=np.uint8))
    (home / "c.points.json").write_text(json.dumps({"4": [6.0, 2.5]}))
    suite = read_suite(folder)
    assert suite.kind is TaskKind.LANDMARKS
    assert suite.cases[0].load().points == {4: (0.0, 2.5, 6.0)}


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"suite\.toml: cannot be read.*give the folder"):
        read_suite(tmp_path / "nowhere")
    folder = write_suite(tmp_path / "empty")
    with pytest.raises(EvaluationError, match="no case; put images into"):
        read_suite(folder)
    write_slice(folder, "p", "c", np.zeros((5, 7), dtype=np.uint8))
    (folder / "cases" / "p" / "c.labels.png").unlink()
    with pytest.raises(EvaluationError, match=r"no c\.labels\.png beside it"):
        read_suite(folder)


def test_truth_of_another_shape_is_refused(tmp_path: Path) -> None:
    folder = write_suite(tmp_path)
    home = write_slice(folder, "p", "c", np.zeros((5, 7), dtype=np.uint8))
    Image.fromarray(np.zeros((7, 5), dtype=np.uint8)).save(home / "c.labels.png")
    with pytest.raises(EvaluationError, match=r"c\.labels\.png: \(1, 7, 5\), but its image is \(1, 5, 7\)"):
        read_suite(folder).cases[0].load()


@pytest.mark.parametrize(
    ("old", "new", "message"), [("MR", 'M"R', "TOML"), ("slice", "cube", "dimension"), ("1", "0", "label")]
)
def test_a_bad_description_names_the_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    folder = write_suite(tmp_path)
    path = folder / "suite.toml"
    path.write_text(
        path.read_text().replace(f'{old}"' if old != "1" else "value = 1", f'{new}"' if old != "1" else "value = 0")
    )
    with pytest.raises(EvaluationError, match=message):
        read_suite(folder)
