"""Published data sets read as suites: written here as their authors lay them out."""

from pathlib import Path

import nibabel
import nrrd
import numpy as np
import pytest
from numpy.typing import NDArray

from fewshot_node.errors import EvaluationError
from fewshot_node.evaluation.folders import read_source
from fewshot_node.evaluation.protocol import templates_of

SHAPE_XYZ = (9, 8, 6)
SPACING_XYZ = (0.8, 0.9, 2.5)


def box(first: int, last: int) -> NDArray[np.uint8]:
    mask = np.zeros(SHAPE_XYZ, dtype=np.uint8)
    mask[2:5, 1:4, first:last] = 1
    return mask


def write_nifti(path: Path, array: NDArray[np.generic]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.diag([*SPACING_XYZ, 1])), path)


def write_nrrd(path: Path, array: NDArray[np.generic]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = {"space": "left-posterior-superior", "space directions": np.diag(SPACING_XYZ), "space origin": [0, 0, 0]}
    nrrd.write(str(path), array, header)


def total_segmentator(folder: Path, image: str = "ct") -> Path:
    for number in range(3):
        home = folder / f"s{number:04d}"
        write_nifti(home / f"{image}.nii.gz", np.full(SHAPE_XYZ, number, dtype=np.int16))
        write_nifti(home / "segmentations" / "liver.nii.gz", box(0, 2))
        write_nifti(home / "segmentations" / "spleen.nii.gz", box(3, 5))
    return folder


def han_seg(folder: Path) -> Path:
    for number in (1, 2):
        home = folder / "set_1" / f"case_{number:02d}"
        write_nrrd(home / f"case_{number:02d}_IMG_CT.nrrd", np.full(SHAPE_XYZ, number, dtype=np.int16))
        write_nrrd(home / f"case_{number:02d}_OAR_Eye_AL.seg.nrrd", box(1, 3))
    write_nrrd(folder / "set_1" / "case_01" / "case_01_OAR_Brainstem.seg.nrrd", box(4, 6))
    return folder


def test_total_segmentator(tmp_path: Path) -> None:
    suite = read_source(total_segmentator(tmp_path / "ts"))
    assert (suite.modality, suite.is_volume) == ("CT", True)
    assert suite.patients == ("s0000", "s0001", "s0002")
    assert [(label.value, label.name) for label in suite.labels] == [(1, "liver"), (2, "spleen")]
    data = suite.cases[1].load()
    assert data.array.shape == SHAPE_XYZ[::-1]
    assert data.spacing_mm == pytest.approx(SPACING_XYZ[::-1])
    assert (data.array == 1).all()
    np.testing.assert_array_equal(data.label_map == 1, box(0, 2).T == 1)
    np.testing.assert_array_equal(data.label_map == 2, box(3, 5).T == 1)


def test_its_magnetic_resonance_half(tmp_path: Path) -> None:
    assert read_source(total_segmentator(tmp_path / "ts", "mri")).modality == "MR"


def test_han_seg(tmp_path: Path) -> None:
    suite = read_source(han_seg(tmp_path / "han"))
    assert suite.patients == ("case_01", "case_02")
    assert [label.name for label in suite.labels] == ["Brainstem", "Eye_AL"]
    first, second = (case.load() for case in suite.cases)
    assert first.spacing_mm == pytest.approx(SPACING_XYZ[::-1])
    np.testing.assert_array_equal(first.label_map == 2, box(1, 3).T == 1)
    # The second patient has no brainstem drawn.
    assert set(np.unique(second.label_map)) == {0, 2}


def test_only_the_named_structures_count(tmp_path: Path) -> None:
    suite = read_source(total_segmentator(tmp_path / "ts"), ["spleen"])
    assert [(label.value, label.name) for label in suite.labels] == [(1, "spleen")]
    data = [(case, case.load()) for case in suite.cases]
    np.testing.assert_array_equal(data[0][1].label_map == 1, box(3, 5).T == 1)
    (template,) = templates_of(suite, "s0000", "slice", data)
    assert template.slice_indices == (3,)


def test_a_patient_without_the_structure_has_an_empty_map(tmp_path: Path) -> None:
    suite = read_source(han_seg(tmp_path / "han"), ["Brainstem"])
    assert not suite.cases[1].load().label_map.any()


def test_labels_of_a_suite_that_do_not_count_are_background_in_templates(tmp_path: Path) -> None:
    folder = tmp_path / "suite"
    home = folder / "cases" / "p1"
    labels = np.zeros(SHAPE_XYZ, dtype=np.uint8)
    labels[2, 2, 2], labels[3, 3, 2] = 1, 2
    write_nifti(home / "a.image.nii.gz", np.zeros(SHAPE_XYZ, dtype=np.int16))
    write_nifti(home / "a.labels.nii.gz", labels)
    (folder / "suite.toml").write_text(
        'name = "two"\nmodality = "MR"\nkind = "segmentation"\ndimension = "volume"\n'
        '[[label]]\nvalue = 1\nname = "one"\n[[label]]\nvalue = 2\nname = "two"\n'
    )
    suite = read_source(folder, ["two"])
    (template,) = templates_of(suite, "p1", "slice", [(case, case.load()) for case in suite.cases])
    assert set(np.unique(template.label_map)) == {0, 2}


def test_what_is_none_of_them_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="neither a suite"):
        read_source(tmp_path)
    with pytest.raises(EvaluationError, match="no label kidney; it has liver, spleen"):
        read_source(total_segmentator(tmp_path / "ts"), ["kidney"])


def test_a_mask_of_another_grid_and_a_broken_file_are_named(tmp_path: Path) -> None:
    folder = total_segmentator(tmp_path / "ts")
    write_nifti(folder / "s0000" / "segmentations" / "liver.nii.gz", np.zeros((4, 4, 4), dtype=np.uint8))
    with pytest.raises(EvaluationError, match=r"liver\.nii\.gz: \(4, 4, 4\), but its image is \(6, 8, 9\)"):
        read_source(folder).cases[0].load()
    broken = han_seg(tmp_path / "han")
    (broken / "set_1" / "case_01" / "case_01_IMG_CT.nrrd").write_bytes(b"NRRD0004\nrubbish")
    with pytest.raises(EvaluationError, match=r"case_01_IMG_CT\.nrrd: cannot be read as an image"):
        read_source(broken).cases[0].load()
