import gzip
from collections.abc import Callable
from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from fewshot_node.errors import TemplateError
from fewshot_node.records import SourceFrame, Volume
from fewshot_node.tasks.annotations.nifti import read
from fewshot_node.tasks.annotations.records import Target

SHAPE = (4, 6, 5)
SaveNifti = Callable[..., Path]


def volume_at(affine: NDArray[np.float64], shape: tuple[int, int, int] = SHAPE) -> Volume:
    frames = tuple(SourceFrame("1.2.840.10008.5.1.4.1.1.2", f"1.2.{index}") for index in range(shape[0]))
    return Volume(np.zeros(shape, np.float32), affine, frames, "CT", "1.2", "1.2.3", "1.2.4")


def read_labels(path: Path, volume: Volume) -> NDArray[np.uint8]:
    """Draw all regions of a file."""
    label_map = np.zeros(volume.array.shape, np.uint8)
    for region in read(Target(path, volume)).regions:
        label_map[region.draw()] = region.number
    return label_map


@pytest.fixture
def oblique() -> NDArray[np.float64]:
    """Rows and columns turned by 30 degrees about z, slices 3 mm apart, an origin far from 0."""
    cos, sin = np.cos(np.pi / 6), np.sin(np.pi / 6)
    affine = np.eye(4)
    affine[:3, 0] = [0, 0, 3.0]
    affine[:3, 1] = np.array([-sin, cos, 0]) * 0.7
    affine[:3, 2] = np.array([cos, sin, 0]) * 0.9
    affine[:3, 3] = [-120, 35, 900]
    return affine


@pytest.fixture
def labels() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 5, SHAPE).astype(np.uint8)


@pytest.mark.parametrize("axes", list(permutations(range(3))))
@pytest.mark.parametrize("flips", list(product([False, True], repeat=3)))
def test_labels_come_back_however_the_file_lies(
    tmp_path: Path,
    save_nifti: SaveNifti,
    oblique: NDArray[np.float64],
    labels: NDArray[np.uint8],
    axes: tuple[int, int, int],
    flips: tuple[bool, bool, bool],
) -> None:
    path = save_nifti(tmp_path / "l.nii.gz", labels, oblique, axes, flips)
    np.testing.assert_array_equal(read_labels(path, volume_at(oblique)), labels)


def test_whole_numbers_in_float_voxels_are_labels(
    tmp_path: Path, save_nifti: SaveNifti, oblique: NDArray[np.float64], labels: NDArray[np.uint8]
) -> None:
    path = save_nifti(tmp_path / "l.nii", labels.astype(np.float32), oblique)
    found = read_labels(path, volume_at(oblique))
    np.testing.assert_array_equal(found, labels)


def test_one_slice_needs_no_thickness_in_common(tmp_path: Path, oblique: NDArray[np.float64]) -> None:
    labels = np.arange(30, dtype=np.uint8).reshape(1, 6, 5)
    matrix = oblique[:, [2, 1, 0, 3]].copy()
    matrix[:, 2] /= 3
    nib.save(nib.Nifti1Image(labels.transpose(2, 1, 0), np.diag([-1, -1, 1, 1]) @ matrix), tmp_path / "l.nii")
    found = read_labels(tmp_path / "l.nii", volume_at(oblique, (1, 6, 5)))
    np.testing.assert_array_equal(found, labels)


@pytest.mark.parametrize(
    ("move", "says"),
    [
        (lambda affine: affine + np.eye(4, k=3) * 1.0, r"corners lie up to 1\.0 mm apart: .* --resample"),
        (lambda affine: affine * np.array([[1.02, 1, 1, 1]]), r"corners lie up to 2\.8 mm apart: .* --resample"),
        (lambda affine: np.diag([-1.0, -1, 1, 1]) @ affine, "its writer took LPS for RAS: correct its affine"),
    ],
    ids=["shifted", "other spacing", "RAS taken for LPS"],
)
def test_other_place_is_refused(
    tmp_path: Path,
    save_nifti: SaveNifti,
    oblique: NDArray[np.float64],
    labels: NDArray[np.uint8],
    move: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    says: str,
) -> None:
    path = save_nifti(tmp_path / "l.nii", np.tile(labels, (12, 1, 1)), move(oblique))
    with pytest.raises(TemplateError, match=f"another grid .*{says}"):
        read_labels(path, volume_at(oblique, (48, 6, 5)))


def test_other_shape_is_refused_with_both_shapes(
    tmp_path: Path, save_nifti: SaveNifti, oblique: NDArray[np.float64], labels: NDArray[np.uint8]
) -> None:
    path = save_nifti(tmp_path / "l.nii", labels[:3], oblique)
    with pytest.raises(TemplateError, match="shapes differ") as caught:
        read_labels(path, volume_at(oblique))
    assert "5 x 6 x 3" in str(caught.value)
    assert "4 x 6 x 5" in str(caught.value)


@pytest.mark.parametrize("value", [-1.0, 0.5, 300.0, np.nan, np.inf])
def test_image_is_no_label_map(
    tmp_path: Path, save_nifti: SaveNifti, oblique: NDArray[np.float64], value: float
) -> None:
    path = save_nifti(tmp_path / "l.nii", np.full(SHAPE, value, np.float32), oblique)
    with pytest.raises(TemplateError, match="label map, not an image"):
        read_labels(path, volume_at(oblique))


def test_several_volumes_are_refused(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((5, 6, 4, 2), np.uint8), np.eye(4)), tmp_path / "l.nii")
    with pytest.raises(TemplateError, match="one label volume"):
        read_labels(tmp_path / "l.nii", volume_at(np.eye(4)))


def damage_nothing(content: bytes) -> bytes:
    return b""


def damage_tail(content: bytes) -> bytes:
    return content[: len(content) // 2]


def damage_stream(content: bytes) -> bytes:
    return content[:30] + bytes(40) + content[70:]


def damage_header(content: bytes) -> bytes:
    return gzip.compress(b"\xff" * 400)


@pytest.mark.parametrize("damage", [damage_nothing, damage_tail, damage_stream, damage_header])
def test_broken_file_is_refused(
    tmp_path: Path,
    save_nifti: SaveNifti,
    oblique: NDArray[np.float64],
    labels: NDArray[np.uint8],
    damage: Callable[[bytes], bytes],
) -> None:
    path = save_nifti(tmp_path / "l.nii.gz", labels, oblique)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(TemplateError, match=r"l\.nii\.gz"):
        read_labels(path, volume_at(oblique))


def test_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match="cannot be read"):
        read_labels(tmp_path / "none.nii", volume_at(np.eye(4)))
