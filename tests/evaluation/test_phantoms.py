"""Phantoms: their truth is where anatomy puts it, and exact."""

import dataclasses

import numpy as np
import pytest

from fewshot_node.evaluation.phantoms import (
    KNEE_SETTINGS,
    LIGAMENT_INSERTION,
    PATELLA_APEX,
    PATELLA_BASE,
    TORSO_SETTINGS,
    Phantom,
    PhantomSettings,
    knee_mr,
    torso_ct,
)

FINE_KNEE = PhantomSettings(slices=64, rows=160, columns=160, slice_mm=1.0, pixel_mm=0.8)


@pytest.fixture(scope="module", params=[1, 4, 19])
def torso(request: pytest.FixtureRequest) -> Phantom:
    return torso_ct(request.param)


@pytest.fixture(scope="module", params=[1, 4, 19])
def fine_knee(request: pytest.FixtureRequest) -> Phantom:
    return knee_mr(request.param, FINE_KNEE)


def positions_mm(phantom: Phantom, mask: np.ndarray) -> np.ndarray:
    indices = np.argwhere(mask)
    return indices @ phantom.affine[:3, :3].T + phantom.affine[:3, 3]


def organ(phantom: Phantom, name: str) -> np.ndarray:
    value = next(value for value, known in phantom.labels.items() if known == name)
    return phantom.label_map == value


@pytest.mark.parametrize("make", [torso_ct, knee_mr])
def test_one_seed_is_one_patient(make) -> None:
    settings = dataclasses.replace(KNEE_SETTINGS if make is knee_mr else TORSO_SETTINGS, slices=6)
    first, again, other = make(5, settings), make(5, settings), make(6, settings)
    np.testing.assert_array_equal(first.array, again.array)
    np.testing.assert_array_equal(first.label_map, again.label_map)
    assert first.landmarks == again.landmarks
    assert (first.label_map != other.label_map).mean() > 0.01
    assert np.abs(first.array - other.array).mean() > 10


def test_organs_lie_on_their_sides(torso: Phantom) -> None:
    centre = {name: positions_mm(torso, organ(torso, name)).mean(axis=0) for name in torso.labels.values()}
    assert centre["liver"][0] < -20
    assert centre["right kidney"][0] < -30
    assert centre["left kidney"][0] > 30
    assert centre["spleen"][0] > 50
    assert centre["liver"][1] < centre["right kidney"][1]  # y runs to the back


def test_organs_have_plausible_volumes(torso: Phantom) -> None:
    voxel_ml = 2.4 * 2.4 * 5.0 / 1000
    volumes = {name: organ(torso, name).sum() * voxel_ml for name in torso.labels.values()}
    assert 500 < volumes["liver"] < 2000
    assert 50 < volumes["spleen"] < 350
    assert 80 < volumes["left kidney"] < 250
    assert 80 < volumes["right kidney"] < 250


def test_slices_at_both_ends_hold_no_organ(torso: Phantom) -> None:
    labelled = torso.label_map.any(axis=(1, 2))
    assert not labelled[:2].any()
    assert not labelled[-2:].any()
    assert labelled.sum() > 15


def test_hounsfield_units_are_plausible(torso: Phantom) -> None:
    liver = torso.array[organ(torso, "liver")]
    assert 30 < np.median(liver) < 140
    assert 8 < liver.std() < 40
    assert np.median(torso.array[:, :8, :8]) == pytest.approx(-1000, abs=10)
    shares = {
        "fat": ((torso.array > -140) & (torso.array < -60)).mean(),
        "lung": ((torso.array > -930) & (torso.array < -750)).mean(),
        "bone": (torso.array > 350).mean(),
    }
    assert all(share > 0.003 for share in shares.values()), shares
    assert torso.array.min() >= -1024
    assert torso.array.max() <= 3071


def test_patients_differ_in_contrast() -> None:
    settings = dataclasses.replace(TORSO_SETTINGS, slices=1, rows=80, columns=80, pixel_mm=4.8)
    kidneys = [
        phantom.array[phantom.label_map >= 3].mean() for phantom in (torso_ct(seed, settings) for seed in range(12))
    ]
    assert min(kidneys) < 60
    assert max(kidneys) > 120


def test_landmarks_lie_on_the_surface_of_their_bone(fine_knee: Phantom) -> None:
    bones = {PATELLA_BASE: "patella", PATELLA_APEX: "patella", LIGAMENT_INSERTION: "tibia"}
    for name, bone in bones.items():
        mask = organ(fine_knee, bone)
        place = np.array(fine_knee.landmarks[name])
        to_bone = np.linalg.norm(positions_mm(fine_knee, mask) - place, axis=1).min()
        to_outside = np.linalg.norm(positions_mm(fine_knee, ~mask) - place, axis=1).min()
        assert to_bone < 1.5, name
        assert to_outside < 1.5, name


def test_patella_landmarks_are_its_poles(fine_knee: Phantom) -> None:
    heights = positions_mm(fine_knee, organ(fine_knee, "patella"))[:, 2]
    assert fine_knee.landmarks[PATELLA_BASE][2] == pytest.approx(heights.max(), abs=2.5)
    assert fine_knee.landmarks[PATELLA_APEX][2] == pytest.approx(heights.min(), abs=2.5)


def test_the_ligament_runs_dark_from_apex_to_insertion(fine_knee: Phantom) -> None:
    apex, end = (np.array(fine_knee.landmarks[name]) for name in (PATELLA_APEX, LIGAMENT_INSERTION))
    along = [fine_knee.to_index(tuple(apex + share * (end - apex))) for share in (0.3, 0.5, 0.7)]
    signal = [fine_knee.array[tuple(np.round(index).astype(int))] for index in along]
    assert max(signal) < 0.35 * np.percentile(fine_knee.array, 95)


def test_bones_stack_as_in_a_knee(fine_knee: Phantom) -> None:
    centre = {name: positions_mm(fine_knee, organ(fine_knee, name)).mean(axis=0) for name in fine_knee.labels.values()}
    assert centre["tibia"][2] < centre["femur"][2]
    assert centre["patella"][1] < centre["femur"][1] - 20  # in front


def test_landmarks_do_not_depend_on_the_grid(small_knee: Phantom) -> None:
    assert knee_mr(small_knee.seed).landmarks == small_knee.landmarks


def test_the_outer_slices_of_a_knee_are_far_from_every_landmark() -> None:
    knee = knee_mr(2)
    slices = [knee.to_index(place)[0] for place in knee.landmarks.values()]
    assert min(slices) > 6
    assert max(slices) < len(knee.array) - 7


def test_affines_are_what_the_orientation_says(small_torso: Phantom, small_knee: Phantom) -> None:
    np.testing.assert_allclose(small_torso.affine[:3, :3], [[0, 0, 4.6], [0, 4.6, 0], [10, 0, 0]])
    assert np.abs(small_knee.affine[:3, 0]).argmax() == 0
    np.testing.assert_allclose(np.linalg.norm(small_knee.affine[:3, :3], axis=0), [8.0, 2.1, 2.1])
    for phantom in (small_torso, small_knee):
        middle = (np.array(phantom.array.shape) - 1) / 2
        np.testing.assert_allclose(phantom.affine @ [*middle, 1], [0, 0, 0, 1], atol=1e-9)


def test_without_variation_all_patients_share_one_anatomy_but_not_their_noise() -> None:
    settings = PhantomSettings(slices=3, rows=64, columns=64, slice_mm=8, pixel_mm=2.5, variation=0)
    first, second = knee_mr(10, settings), knee_mr(11, settings)
    if first.laterality == second.laterality:
        np.testing.assert_array_equal(first.label_map, second.label_map)
    assert first.landmarks[PATELLA_BASE] == second.landmarks[PATELLA_BASE] == (0.0, -47.0, 49.0)
    assert (first.array != second.array).any()


def test_without_noise_air_is_empty() -> None:
    settings = dataclasses.replace(KNEE_SETTINGS, slices=1, noise=0)
    assert (knee_mr(1, settings).array[:, :5, :5] == 0).all()


def test_big_grids_are_painted_in_blocks() -> None:
    settings = PhantomSettings(slices=5, rows=512, columns=512, slice_mm=12, pixel_mm=0.75)
    phantom = torso_ct(1, settings)
    assert phantom.label_map.any(axis=(1, 2)).sum() >= 4
    same = torso_ct(1, dataclasses.replace(settings, rows=128, columns=128, pixel_mm=3.0))
    fine = (phantom.label_map == 1).sum() * 0.75**2
    coarse = (same.label_map == 1).sum() * 3.0**2
    assert fine == pytest.approx(coarse, rel=0.05)


@pytest.mark.parametrize("change", [{"slices": 0}, {"rows": 1}, {"pixel_mm": 0.0}, {"variation": 2.0}, {"noise": -1.0}])
def test_impossible_settings_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="phantom settings"):
        dataclasses.replace(TORSO_SETTINGS, **change)


def test_a_phantom_checks_its_arrays(small_torso: Phantom) -> None:
    with pytest.raises(ValueError, match="phantom"):
        dataclasses.replace(small_torso, label_map=small_torso.label_map[:-1])
    with pytest.raises(ValueError, match="float32"):
        dataclasses.replace(small_torso, array=small_torso.array.astype(np.float64))
