"""Records: geometry in LPS mm, keys, and contracts."""

import numpy as np
import pytest

from fewshot_node.records import Code, FeatureMap, Label, SeriesKey, SourceFrame, Volume

LIVER = Code("10200004", "SCT", "Liver")


def volume(array: np.ndarray, affine: np.ndarray) -> Volume:
    frames = tuple(SourceFrame("1.2.840.10008.5.1.4.1.1.2", f"1.2.{index}") for index in range(len(array)))
    return Volume(array, affine, frames, "CT", "1.2", "1.2.3", "1.2.4")


def oblique() -> Volume:
    """Slices along +z tilted by 30 degrees about x; 5, 2 and 1 mm; worked out by hand."""
    sine, cosine = 0.5, np.sqrt(0.75)
    affine = np.eye(4)
    affine[:3, 0] = 5 * np.array([0, -sine, cosine])
    affine[:3, 1] = 2 * np.array([0, cosine, sine])
    affine[:3, 2] = 1 * np.array([1, 0, 0])
    affine[:3, 3] = [-10, 20, 30]
    return volume(np.zeros((3, 4, 5), np.float32), affine)


def test_spacing_and_voxel_volume() -> None:
    assert oblique().spacing_mm == pytest.approx((5, 2, 1))
    assert oblique().voxel_mm3 == pytest.approx(10)


def test_indices_and_positions_are_inverse() -> None:
    one = oblique()
    assert one.to_mm(np.array([0.0, 0.0, 0.0])) == pytest.approx([-10, 20, 30])
    assert one.to_mm(np.array([1.0, 0.0, 2.0])) == pytest.approx([-8, 17.5, 30 + 5 * np.sqrt(0.75)])
    points = np.random.default_rng(0).uniform(-50, 50, (6, 3))
    assert one.to_mm(one.to_index(points)) == pytest.approx(points)


def test_the_digest_sees_pixels_and_geometry() -> None:
    one = oblique()
    other_pixels = volume(one.array + 1, one.affine)
    moved = one.affine.copy()
    moved[0, 3] += 0.1
    assert one.digest() == volume(one.array.copy(), one.affine.copy()).digest()
    assert len({one.digest(), other_pixels.digest(), volume(one.array, moved).digest()}) == 3


def test_keys_are_written_and_read() -> None:
    assert str(SeriesKey("1.2.3", 4)) == "1.2.3@4"
    assert SeriesKey.parse("1.2.3@4") == SeriesKey("1.2.3", 4)
    assert SeriesKey.parse("1.2.3") == SeriesKey("1.2.3", 1)


@pytest.mark.parametrize("value", [0, 255, -1])
def test_label_values_stay_within_a_byte_and_off_the_background(value: int) -> None:
    with pytest.raises(ValueError, match=str(value)):
        Label(value, "Liver", LIVER, LIVER)


def test_records_refuse_what_contradicts_them() -> None:
    with pytest.raises(ValueError, match="float32"):
        volume(np.zeros((3, 4, 5)), np.eye(4))
    with pytest.raises(ValueError, match="frames"):
        Volume(np.zeros((3, 4, 5), np.float32), np.eye(4), (), "CT", "1", "1", "1")
    with pytest.raises(ValueError, match="channels"):
        FeatureMap(np.zeros((3, 4, 5)), (4, 5))
